import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxml.dist import mesh, shard
from jaxml.dist.rules import DATA
from jaxml.univilm import model, optimizer, stages, together, train
from jaxml.univilm.clips import Batches, Clips, checked
from jaxml.univilm.config import STAGES, TrainConfig
from tests.univilm import oracle

PAIR = TrainConfig("full", 3, 4, 2, lr=1e-3)


def loss_of(cfg, plan, clips, made=None):
    loss_fn = train.make_loss(cfg, plan, made)
    batch = next(Batches(clips, plan))
    if made is not None:
        batch = shard.put(batch, shard.batch_sharding(made, DATA))

    def value(p):
        loss = loss_fn(p, batch, jax.random.key(3), {})
        return loss.value, loss.metrics

    return jax.jit(jax.value_and_grad(value, has_aux=True))


@pytest.fixture(scope="module")
def single(cfg, params, clips):
    """Losses of all five objectives, without slopes."""
    batch = next(Batches(clips, PAIR))
    loss_fn = train.make_loss(cfg, PAIR)
    return jax.jit(lambda p: loss_fn(p, batch, jax.random.key(3), {}))(params)


@pytest.mark.parametrize(
    "stage", ["joint", *(pytest.param(s, marks=pytest.mark.slow) for s in ("retrieval", "full"))]
)
def test_the_whole_loss_is_the_same_on_four_devices(cfg, params, clips, stage):
    plan = dataclasses.replace(PAIR, stage=stage)
    params = {name: params[name] for name in train.trained(plan)}
    made = mesh.make(mesh.MeshConfig(data=4), jax.devices()[:4])
    placed = shard.put(params, shard.replicated(made))
    (value, parts), slope = loss_of(cfg, plan, clips, made)(placed)
    (want, expected), other = loss_of(cfg, plan, clips)(params)
    assert float(value) == pytest.approx(float(want), rel=1e-5)
    for name in expected:
        assert float(parts[name]) == pytest.approx(float(expected[name]), rel=1e-4), name
    for a, b in zip(jax.tree.leaves(slope), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-5)


def test_the_total_is_the_plain_sum(single):
    value, parts = single.value, single.metrics
    assert set(parts) == {"joint", "cmlm", "cmfm", "align", "decode"}
    assert float(value) == pytest.approx(sum(float(x) for x in parts.values()), rel=1e-6)


def test_the_joint_loss_is_the_authors(cfg, params, tensors, clips):
    plan = dataclasses.replace(PAIR, stage="joint")
    batch = {k: v.reshape(-1, *v.shape[2:]) for k, v in next(Batches(clips, plan)).items()}
    h = cfg.num_heads
    mask = np.arange(5)[None] < batch["num_frames"][:, None]
    text = oracle.text(tensors, batch["text"], cfg.text_layers, h)
    _, video = oracle.video(tensors, batch["video"].astype(np.float64), mask, cfg.video_layers, h)
    later = batch["text"] != 0
    later[:, 0] = False
    t = (text * later[..., None]).sum(1) / later.sum(1)[:, None]
    v = (video * mask[..., None]).sum(1) / mask.sum(1)[:, None]
    want = oracle.mil_nce(t @ v.T, 4, 2)
    ready = {k: jnp.asarray(x) for k, x in batch.items()}
    rows = stages.Rows(params, cfg, plan, ready, None, None)
    assert float(jax.jit(lambda: stages.losses(rows)["joint"])()) == pytest.approx(want, rel=1e-3)


def test_pairs_stay_together_under_accumulation(clips):
    plan = dataclasses.replace(PAIR, batch_size=4)
    batch = next(Batches(clips, plan))
    assert batch["text"].shape[:2] == (4, 2)
    for pair in batch["text"]:
        where = [int(np.flatnonzero((clips.text == row).all(1))[0]) for row in pair]
        assert clips.item[where[0]] == clips.item[where[1]] and where[1] == where[0] + 1


def test_a_batch_iterator_goes_on(clips):
    plan = dataclasses.replace(PAIR, batch_size=3)
    a, b = Batches(clips, plan), Batches(clips, plan)
    for _ in range(3):
        next(a)
    b.set_state(a.get_state())
    np.testing.assert_array_equal(next(a)["video"], next(b)["video"])


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_moves_its_own_components_alone(cfg, stage):
    parts = train.trained(TrainConfig(stage, losses=("joint", "decode")))
    assert {"text", "video", "video_norm"} <= set(parts) <= set(model.params(cfg))
    assert ("decoder" in parts) == (stage in ("full", "caption"))
    assert "cmlm" not in parts


def test_training_goes_on_exactly(cfg, clips, tmp_path):
    """Interrupted after two of four steps, and not at all: the same bits; it also learns."""
    plan = TrainConfig("joint", 4, 4, 2, lr=1e-3)
    cfg = dataclasses.replace(cfg, text_layers=1, video_layers=1)
    start = model.init(jax.random.key(0), cfg)
    whole = train.fit(cfg, plan, start, clips, tmp_path / "whole", save_every=2)

    class Stop(Exception):
        pass

    def stop(event):
        if event.step == 3:
            raise Stop

    with pytest.raises(Stop):
        train.fit(cfg, plan, start, clips, tmp_path / "cut", save_every=2, watch=[stop])
    again = train.fit(cfg, plan, start, clips, tmp_path / "cut", save_every=2)
    same = jax.tree.map(lambda a, b: bool(np.array_equal(a, b)), whole, again)
    assert jax.tree.all(same)
    assert again["decoder"] is start["decoder"]  # stage I has no decoder to move
    moved = np.abs(whole["video"]["input"]["kernel"] - start["video"]["input"]["kernel"]).max()
    assert moved > 0


@pytest.mark.slow
def test_seeds_side_by_side_are_the_same_trainings(cfg, clips):
    """A part of the clips, two seeds: as one by one."""
    plan, place = TrainConfig("joint", 2, 2, lr=1e-3), np.array([1, 2, 5, 6])
    cfg = dataclasses.replace(cfg, text_layers=1, video_layers=1)
    starts = [model.init(jax.random.key(s), cfg) for s in (0, 1)]
    part, data = clips.rows(place), together.put(clips)
    both = together.fit(cfg, plan, starts, (3, 4), part, data, place)
    for seed, start, found in zip((3, 4), starts, both, strict=True):
        want = train.fit(cfg, dataclasses.replace(plan, seed=seed), start, part)
        assert jax.tree.structure(found) == jax.tree.structure(want)
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(want), strict=True):
            np.testing.assert_allclose(a, b, atol=2e-5)
    with pytest.raises(ValueError, match="starts must be as many as seeds"):
        together.fit(cfg, plan, starts, (3,), part)


def bert_adam(grads, steps, lr, warm, decay):
    """The authors' optimiser on one scalar, written out."""
    p, m, v = 1.0, 0.0, 0.0
    for t, g in enumerate(grads):
        g = g * min(1.0, 1.0 / (abs(g) + 1e-6))
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        rise = max(int(warm * steps), 1)
        rate = t / rise if t < rise else max(0.0, 1 - (t - rise) / (steps - rise))
        p -= lr * rate * (m / (v**0.5 + 1e-6) + decay * p)
    return p


def test_optimizer_is_bert_adam():
    plan = TrainConfig("joint", 10, lr=0.01, weight_decay=0.1)
    made, grads = optimizer.make(plan), [0.3, -2.0, 0.1, 5.0, 0.2, 0.2]
    p = {"similarity": {"kernel": jnp.ones((1, 1))}}
    state = made.init(p)
    for g in grads:
        moves, state = made.update({"similarity": {"kernel": jnp.full((1, 1), g)}}, state, p)
        p = optax.apply_updates(p, moves)
    want = bert_adam(grads, 10, 0.01, 0.1, 0.1)
    assert float(p["similarity"]["kernel"][0, 0]) == pytest.approx(want, rel=1e-5)


def test_text_encoder_has_its_own_rate():
    plan = TrainConfig("joint", 10, text_lr=0.1, warmup=0.0, weight_decay=0.0)
    made = optimizer.make(plan)
    p = {"text": {"w": jnp.ones(2)}, "video": {"w": jnp.ones(2)}}
    state = made.init(p)
    for _ in range(2):
        moves, state = made.update(jax.tree.map(jnp.ones_like, p), state, p)
    np.testing.assert_allclose(moves["text"]["w"], 0.1 * moves["video"]["w"], rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"video": np.full((8, 5, 12), np.nan, np.float32)}, "features must be finite"),
     ({"num_frames": np.zeros(8, np.int32)}, "every clip must have 1 to 5 frames; clip 0 has 0"),
     ({"item": np.arange(8)[::-1]}, "item falls")],
)  # fmt: skip
def test_unsound_clips_are_named(clips, change, message):
    with pytest.raises(ValueError, match=message):
        checked(clips._replace(**change))


def test_data_that_does_not_fit_is_named(cfg, params, clips):
    for change, message in (
        ({"video": np.zeros((8, 5, 7), np.float32)}, "width 12, the model's video_dim; got 7"),
        ({"text": np.full((8, 9), 99, np.int32)}, "ids must be < vocab_size; got 99"),
    ):
        with pytest.raises(ValueError, match=message):
            train.fit(cfg, PAIR, params, Clips(*clips)._replace(**change))

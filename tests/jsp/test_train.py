"""Self-labelling: the label is the best sample, resuming is exact, devices agree, it learns."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxml.core import config, weights
from jaxml.dist import mesh as meshes
from jaxml.jsp import objective, pack, policy, pretrain, train
from jaxml.jsp.config import PRESETS, SLIMConfig
from jaxml.jsp.objective import Sampled

CFG = dataclasses.replace(
    PRESETS["tiny"], shapes=((4, 3),), batch=8, num_steps=4, ema_decay=0.9, lr=3e-3
)


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    folder = tmp_path_factory.mktemp("straight")
    return train.train(CFG, folder, log_every=1), folder


def test_the_label_is_the_first_best_sample():
    actions = jnp.arange(24).reshape(2, 4, 3)
    costs = jnp.array([[5, 3, 3, 9], [7, 8, 9, 1]])

    def sample(params, batch, key):
        return Sampled(actions, costs, -jnp.ones((2, 4)) * params)

    def likelihood(params, batch, chosen):
        assert chosen.shape == (2, 3)
        return -params * jnp.sum(chosen, -1)

    loss_fn = objective.self_labelling(sample, likelihood)
    loss, grad = jax.value_and_grad(lambda p: loss_fn(p, None, None, None).value)(2.0)
    label_sum = ((3 + 4 + 5) + (21 + 22 + 23)) / 2
    assert float(loss) == 2 * label_sum
    assert float(grad) == label_sum  # nothing passes through the sampling
    assert float(loss_fn(2.0, None, None, None).metrics["cost"]) == 2.0
    assert float(loss_fn(2.0, None, None, None).metrics["cost_mean"]) == (20 + 25) / 8


def test_resuming_is_exact(straight, tmp_path):
    want, folder = straight
    train.train(dataclasses.replace(CFG, num_steps=2), tmp_path, log_every=1)
    # The rate follows num_steps, so the first half is made again with the whole length in mind.
    half = tmp_path / "half"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "learning_rate", lambda cfg, progress: 1e-3)
        train.train(dataclasses.replace(CFG, num_steps=2), half, log_every=1)
        got = train.train(CFG, half, log_every=1)
        whole = train.train(CFG, tmp_path / "whole", log_every=1)
    jax.tree.map(np.testing.assert_array_equal, got.params, whole.params)
    lines = [json.loads(x) for x in (half / "metrics.jsonl").read_text().splitlines()]
    assert [x["step"] for x in lines] == [1, 2, 3, 4]
    assert want.steps == 4
    assert config.load(SLIMConfig, folder / "config.json") == CFG


def test_another_run_is_refused(straight):
    _, folder = straight
    with pytest.raises(ValueError, match="holds a run with seed = 0; here seed = 1"):
        train.train(dataclasses.replace(CFG, seed=1), folder)


def test_a_damaged_checkpoint_is_named(straight, tmp_path):
    _, folder = straight
    content = (folder / "run.safetensors").read_bytes()
    (tmp_path / "run.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(weights.WeightsError, match="not an intact"):
        pack.load(tmp_path / "run.safetensors", {})


def test_eight_devices_make_the_same_update(straight, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "learning_rate", lambda cfg, progress: 1e-3)
    mesh = meshes.make(meshes.MeshConfig(data=-1))
    many = train.Batches(CFG, mesh).at(0)
    jax.tree.map(np.testing.assert_array_equal, train.Batches(CFG).at(0), many)
    assert len(many.machines.sharding.device_set) == 8
    once = dataclasses.replace(CFG, num_steps=1)
    want = train.train(once, tmp_path / "one", log_every=1)
    got = train.train(once, tmp_path / "many", mesh=mesh, log_every=1)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), got.params, want.params)
    logs = [json.loads((tmp_path / x / "metrics.jsonl").read_text()) for x in ("one", "many")]
    assert logs[0]["cost"] == logs[1]["cost"]
    assert logs[0]["loss"] == pytest.approx(logs[1]["loss"], rel=1e-5)


@pytest.mark.slow
def test_it_learns(tmp_path):
    """Greedy schedules on instances that no update saw get shorter."""
    cfg = dataclasses.replace(CFG, num_steps=60, eval_every=60, eval_instances=32, eval_samples=4)
    untrained = train.Validation(cfg)(policy.init_params(jax.random.key(1), cfg.model))
    said = []
    done = train.train(cfg, tmp_path, say=said.append)
    found = json.loads(said[-1])
    assert found["greedy"] < untrained["greedy"] - 5
    assert found["best"] < untrained["best"]
    assert found["distinct"] > 0.9
    assert 0.3 < found["entropy"] < np.log(4)
    assert done.score == pytest.approx(found["best"], abs=1e-3)
    best = policy.load(tmp_path / "best.safetensors", cfg.model)
    jax.tree.map(np.testing.assert_array_equal, best, done.best)


def test_validation_chooses_the_temperature():
    """At temperature 0 all samples are the greedy schedule; the least gap is what is chosen."""
    cfg = dataclasses.replace(CFG, eval_instances=2, eval_samples=128)
    params, measure = policy.init_params(jax.random.key(1), cfg.model), train.Validation(cfg)
    cold, warm = measure(params, 0.0), measure(params)
    assert cold["best"] == cold["greedy"] == warm["greedy"] > warm["best"]
    assert pretrain.best_temperature([0.0, 1.0], cfg, params) == 1.0
    assert pretrain.best_temperature([0.5], cfg, params) == 0.5


def test_instances_are_fresh_and_validation_is_apart():
    batches = train.Batches(CFG)
    first, second = next(batches), next(batches)
    assert (np.asarray(first.durations) != np.asarray(second.durations)).any()
    assert batches.get_state() == {"index": 2}
    seen = {np.asarray(d).tobytes() for b in (first, second) for d in b.durations}
    held = {np.asarray(d).tobytes() for d in train.Validation(CFG).problems.durations}
    assert not seen & held


def test_the_rate():
    cfg = SLIMConfig(lr=1e-3, final_lr=1e-4, warmup=0.1)
    rates = [train.learning_rate(cfg, p) for p in np.linspace(0, 1.2, 50)]
    assert max(rates) <= 1e-3
    assert rates[-1] == pytest.approx(1e-4)
    assert rates[0] > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shapes": ()}, "shapes must hold"),
        ({"shapes": ((0, 3),)}, "jobs must be > 0"),
        ({"low": 9, "high": 3}, "high must be >= 9"),
        ({"warmup": 2.0}, "warmup must lie in"),
        ({"batch": 0}, "batch must be > 0"),
    ],
)
def test_bad_settings_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(CFG, **change)


def test_a_shape_is_compiled_once(straight):
    """All runs of this module share one program; a compiled program cannot compile again."""
    from_cfg = ("batch", "num_samples", "clip_norm", "ema_decay", "rollout_dtype")
    key = SLIMConfig(CFG.model, **{name: getattr(CFG, name) for name in from_cfg})
    assert list(train._programs(key, None)) == [(8, 4, 3)]

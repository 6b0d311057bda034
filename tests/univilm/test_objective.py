import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from jaxml.dist import mesh, shard
from jaxml.univilm import masking, objective
from jaxml.univilm.config import PRESETS
from tests.univilm import oracle

CFG = PRESETS["tiny"].model


def draw(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize("n_pair", [1, 2, 3, 5])
def test_mil_nce_is_the_authors(n_pair):
    sim = 3 * draw(4 * n_pair, 4 * n_pair)
    want = oracle.mil_nce(sim, 4, n_pair)
    assert float(objective.mil_nce(jnp.asarray(sim, jnp.float32), n_pair)) == pytest.approx(
        want, rel=1e-5
    )


def test_one_positive_has_the_closed_form():
    s = draw(6, 6)
    e = np.exp(s)
    rows = e.sum(0) + e.sum(1) - np.diag(e)
    want = -np.log(np.diag(e) / rows).mean()
    assert float(objective.mil_nce(jnp.asarray(s))) == pytest.approx(want, rel=1e-5)


def test_it_is_neither_symmetric_infonce_nor_normalised_nor_tempered():
    s = 2 * draw(6, 6, seed=3)
    log = oracle.log_softmax
    symmetric = -0.5 * (np.diag(log(s)) + np.diag(log(s.T))).mean()
    got = float(objective.mil_nce(jnp.asarray(s), 3))
    assert abs(got - symmetric) > 0.05
    for other in (s / 0.07, s / np.linalg.norm(s)):
        assert abs(got - oracle.mil_nce(other, 2, 3)) > 0.05
    x, y = draw(6, 4), draw(6, 4, seed=1)
    pooled = objective.mil_nce_pooled(jnp.asarray(x), jnp.asarray(y), 3)
    assert float(pooled) == pytest.approx(oracle.mil_nce(x @ y.T, 2, 3), rel=1e-5)


def test_zero_similarity_and_permuted_videos():
    assert float(objective.mil_nce(jnp.zeros((12, 12)), 3)) == pytest.approx(np.log(21 / 3))
    s = draw(12, 12)
    order = np.concatenate([np.arange(3) + 3 * b for b in (2, 0, 3, 1)])
    a, b = (float(objective.mil_nce(jnp.asarray(x), 3)) for x in (s, s[order][:, order]))
    assert a == pytest.approx(b, rel=1e-6)


def test_same_captions_are_no_negatives():
    x, y = (jnp.asarray(draw(4, 3, seed=i)) for i in range(2))
    apart = objective.mil_nce_pooled(x, y, same=jnp.arange(4))
    assert float(apart) == pytest.approx(float(objective.mil_nce(x @ y.T)), rel=1e-6)
    twins = objective.mil_nce_pooled(x, y, same=jnp.zeros(4, jnp.int32))
    assert float(twins) == pytest.approx(0.0, abs=1e-6)


def test_cmfm_is_the_authors_and_reaches_over_clips():
    pred, target = draw(3, 4, 6), draw(3, 4, 6, seed=1)
    mask = np.arange(4)[None] < np.array([4, 2, 3])[:, None]
    hidden = mask & (draw(3, 4, seed=2) > 0)
    arrays = [jnp.asarray(x) for x in (pred, target, mask, hidden)]
    got = float(objective.cmfm_nce(*arrays))
    assert got == pytest.approx(oracle.cmfm(pred, target, mask, hidden), rel=1e-5)
    inside = np.mean([
        -np.diag(oracle.log_softmax(np.where(m[None], p @ t.T, -1e8)))[h]
        for p, t, m, h in zip(pred, target, mask, hidden, strict=True) for h in np.flatnonzero(h)
    ])  # fmt: skip
    assert abs(got - inside) > 0.1
    slope = jax.grad(lambda t: objective.cmfm_nce(arrays[0], t, *arrays[2:]))(arrays[1])
    assert float(jnp.abs(slope).sum()) > 0  # the target is not detached


def test_cmfm_of_one_hot_frames_is_cross_entropy():
    logits, hidden = draw(2, 3, 6), np.array([[1, 0, 1], [0, 1, 1]], bool)
    target = np.eye(6).reshape(2, 3, 6)
    got = objective.cmfm_nce(*map(jnp.asarray, (logits, target, np.ones((2, 3), bool), hidden)))
    want = oracle.cross_entropy(logits[hidden], np.arange(6).reshape(2, 3)[hidden], -1)
    assert float(got) == pytest.approx(want, rel=1e-5)


def test_nothing_masked_is_no_loss():
    zeros = jnp.zeros((2, 3, 4))
    none = jnp.zeros((2, 3), bool)
    assert float(objective.cmfm_nce(zeros, zeros, ~none, none)) == 0
    assert float(objective.cmlm_loss(zeros, jnp.full((2, 3), -1))) == 0


def test_token_losses():
    logits = draw(2, 5, 7)
    target = np.array([[4, 2, 3, 0, 0], [1, 3, 0, 0, 0]])
    for count, ignore in ((False, 0), (True, -1)):
        got = objective.reconstruction_loss(
            jnp.asarray(logits), jnp.asarray(target), count_padding=count
        )
        assert float(got) == pytest.approx(oracle.cross_entropy(logits, target, ignore), rel=1e-5)


@pytest.mark.parametrize(("n_pair", "hard_rate"), [(1, None), (3, None), (3, 0.5), (2, 0.3)])
def test_ranking_and_alignment(n_pair, hard_rate):
    s = draw(4 * n_pair, 4 * n_pair)
    got = objective.max_margin(jnp.asarray(s), 0.1, n_pair=n_pair, hard_rate=hard_rate)
    assert float(got) == pytest.approx(oracle.max_margin(s, 0.1, n_pair, hard_rate), rel=1e-5)
    want = -np.diag(oracle.log_softmax(s)).mean()
    assert float(objective.alignment_loss(jnp.asarray(s))) == pytest.approx(want, rel=1e-5)


def _every_loss(text, video, mask, hidden, axis):
    same = jnp.zeros(text.shape[0], jnp.int32)
    frames = jnp.stack([text, video], 1)
    scores = objective.cosines(text, video, axis_name=axis)
    return {
        "mil": objective.mil_nce_pooled(text, video, 3, axis_name=axis),
        "cmfm": objective.cmfm_nce(frames, jnp.tanh(frames), mask, hidden, axis_name=axis),
        "align": objective.alignment_loss(scores, axis_name=axis),
        "margin": objective.max_margin(scores, n_pair=3, hard_rate=0.5, axis_name=axis),
        "words": objective.cmlm_loss(frames, jnp.where(hidden, 1, -1) + same[:, None],
                                     axis_name=axis),
    }  # fmt: skip


MASK = jnp.asarray(draw(24, 2, seed=2) > -1)
HIDDEN = MASK & jnp.asarray(draw(24, 2, seed=3) > 0.3)


def total(body, x):
    found = body(*x, MASK, HIDDEN)
    return sum(found.values()), found


@pytest.fixture(scope="module")
def alone():
    x = [jnp.asarray(draw(24, 5, seed=i), jnp.float32) for i in range(2)]
    body = functools.partial(_every_loss, axis=None)
    return x, jax.jit(jax.value_and_grad(lambda x: total(body, x), has_aux=True))(x)


@pytest.mark.parametrize("num", [1, 2, 4, 8])
def test_devices_agree_with_one(num, alone):
    x, ((_, want), slope) = alone

    made = mesh.make(mesh.MeshConfig(data=num), jax.devices()[:num])
    spec = PartitionSpec("data")
    split = shard.over(functools.partial(_every_loss, axis="data"), made, (spec,) * 4,
                       PartitionSpec())  # fmt: skip
    run = jax.jit(jax.value_and_grad(lambda x: total(split, x), has_aux=True))
    (_, got), other = run(x)
    for name in want:
        assert float(got[name]) == pytest.approx(float(want[name]), rel=1e-5), name
    for a, b in zip(other, slope, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [(lambda: objective.mil_nce(jnp.zeros((3, 4))), "sim must have shape"),
     (lambda: objective.mil_nce(jnp.zeros((4, 4)), 3), "n_pair must divide N"),
     (lambda: objective.alignment_loss(jnp.zeros((2, 4))), "one column a row")],
)  # fmt: skip
def test_bad_shapes(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_masks(key):
    ids = jnp.tile(jnp.array([[2, 7, 8, 9, 10, 11, 3, 0]]), (4000, 1))
    masked, labels = masking.mask_tokens(key, CFG, ids)
    chosen = np.asarray(labels >= 0)
    assert not chosen[:, [0, 6, 7]].any()
    assert chosen[:, 1:6].mean() == pytest.approx(0.15, abs=0.01)
    put, true = np.asarray(masked)[chosen], np.asarray(ids)[chosen]
    assert (put == CFG.mask_id).mean() == pytest.approx(0.8, abs=0.03)
    assert (put == true).mean() == pytest.approx(0.1, abs=0.03)
    assert (np.asarray(masked) == np.asarray(ids))[~chosen].all()
    real = jnp.tile(jnp.arange(6)[None] < 4, (4000, 1))
    feats, hidden = masking.mask_frames(key, jnp.ones((4000, 6, 2)), real)
    assert not np.asarray(hidden)[:, 4:].any()
    assert np.asarray(hidden)[:, :4].mean() == pytest.approx(0.15, abs=0.01)
    assert (np.asarray(feats)[np.asarray(hidden)] == 0).all()
    dropped = np.asarray(masking.enhanced_v(key, CFG, ids[:3999], 3))
    gone = (dropped[:, 1] == CFG.sep_id).reshape(-1, 3)
    assert (gone.all(1) | ~gone.any(1)).all()  # whole videos
    assert gone.mean() == pytest.approx(0.15, abs=0.03)

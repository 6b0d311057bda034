import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxml import cap
from jaxml.cap import masks
from tests.cap import oracle

RNG = np.random.default_rng(0)
SCORES = {
    "normal": RNG.normal(size=(3, 7, 11)),
    "constant": np.zeros((3, 7, 11)),
    "ties": RNG.integers(-2, 3, (3, 7, 11)).astype(float),
    "signs": np.where(RNG.random((3, 7, 11)) < 0.5, -0.0, 0.0),
    "huge": RNG.normal(size=(3, 7, 11)) * 1e30,
}
mask = jax.jit(cap.topk_mask, static_argnames="keep")


@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize("keep", [0.03, 0.5, 1.0])
def test_topk_keeps_exactly_so_many(name, keep):
    x = SCORES[name].astype(np.float32)
    got = np.asarray(mask(x, keep=keep))
    want = np.stack([oracle.topk(m, int(keep * m.size)) for m in x])
    np.testing.assert_array_equal(got, want)


def test_a_traced_share_and_the_global_ranking():
    x = SCORES["normal"].astype(np.float32)
    got = jax.jit(cap.topk_mask)(x, jnp.float32(0.3))
    assert np.asarray(got).sum((1, 2)).tolist() == [int(0.3 * 77)] * 3
    both = cap.topk_masks({"a": x[0], "b": x[1:]}, 0.25, "global")
    want = oracle.topk(x.reshape(-1), int(0.25 * x.size))
    np.testing.assert_array_equal(np.concatenate([both["a"].reshape(-1), both["b"].reshape(-1)]),
                                  want)  # fmt: skip


def test_soft_threshold_and_its_floor():
    x = SCORES["normal"].astype(np.float32)
    got = np.asarray(cap.sigmoid_mask(x, 0.6))
    np.testing.assert_array_equal(got, 1 / (1 + np.exp(-x.astype(float))) > 0.6)
    floor = np.asarray(cap.sigmoid_mask(x, 0.999999, min_keep=0.05))
    want = np.stack([oracle.topk(m, int(0.05 * 77) + 1) for m in x])
    np.testing.assert_array_equal(floor, want)


def test_two_of_four():
    x = RNG.normal(size=(8, 5)).astype(np.float32)
    got = np.asarray(cap.nm_mask(jnp.asarray(x)))
    assert got.reshape(2, 4, 5).sum(1).tolist() == [[2] * 5] * 2
    for group in range(2):
        for o in range(5):
            column = x[4 * group : 4 * group + 4, o]
            np.testing.assert_array_equal(got[4 * group : 4 * group + 4, o], oracle.topk(column, 2))
    with pytest.raises(ValueError, match="m must divide axis_size; got m=4, axis_size=6"):
        cap.nm_mask(jnp.ones((6, 2)))


@pytest.mark.parametrize("method", ["movement", "soft", "magnitude"])
def test_gradients_pass_straight_through(method):
    rng = np.random.default_rng(1)
    x, w, s = rng.normal(size=(4, 6)), rng.normal(size=(6, 8)), rng.normal(size=(6, 8))
    b, up = rng.normal(size=8), rng.normal(size=(4, 8))
    level = 0.5
    x, w, s, b, up = (jnp.asarray(a, jnp.float32) for a in (x, w, s, b, up))

    def loss(w, s, b):
        return jnp.sum(up * masks.masked_dense(x, w, b, s, level, method))

    kept = {
        "movement": oracle.topk(np.asarray(s), 24),
        "soft": np.asarray(s) > 0,
        "magnitude": oracle.topk(np.abs(np.asarray(w)), 24),
    }[method]
    xn, wn, bn, un = (np.asarray(a, float) for a in (x, w, b, up))
    np.testing.assert_allclose(loss(w, s, b), np.sum(un * (xn @ (wn * kept) + bn)), rtol=1e-5)
    dw, ds, db = jax.grad(loss, (0, 1, 2))(w, s, b)
    upstream = np.asarray(x).T @ np.asarray(up)
    np.testing.assert_allclose(dw, upstream * kept, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(ds, upstream * np.asarray(w), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(db, np.asarray(up).sum(0), rtol=1e-5)


def test_penalty_is_the_mean_over_matrices():
    tree = {"a": jnp.zeros((2, 3, 4)), "b": jnp.full((1, 5, 5), 2.0)}
    want = (0.5 + 0.5 + 1 / (1 + np.exp(-2.0))) / 3
    np.testing.assert_allclose(cap.score_penalty(tree), want, rtol=1e-6)


def test_schedule_equals_float64():
    for step in range(0, 101, 5):
        for start, end in ((1.0, 0.03), (0.0, 0.1)):
            got = float(cap.cubic_threshold(step, 100, start, end, 20, 30))
            assert got == pytest.approx(oracle.cubic(step, 100, start, end, 20, 30), abs=1e-7)


@pytest.mark.parametrize("keep", [0.0, 1.5])
def test_shares_outside_are_refused(keep):
    with pytest.raises(ValueError, match=r"keep must lie in \(0, 1\]"):
        cap.topk_mask(jnp.ones((2, 2)), keep)


def test_a_schedule_without_room_is_refused():
    with pytest.raises(ValueError, match="warmup \\+ cooldown must be < total"):
        cap.cubic_threshold(0, 10, 1.0, 0.1, 5, 5)
    with pytest.raises(ValueError, match="warmup \\+ cooldown must be < 1"):
        cap.PruneConfig(warmup=0.5, cooldown=0.5)

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxml.merge import siblings

BASE = {"w": jnp.array([1.0, 2.0, 3.0, 4.0]), "n": jnp.array(3)}


def _tuned(*change):
    return {"w": BASE["w"] + jnp.array(change), "n": jnp.array(3)}


A, B = _tuned(1.0, -0.1, 0.5, 0.0), _tuned(-0.4, 0.2, 0.7, 0.0)


def test_slerp_stays_on_the_arc():
    a = {"w": jnp.array([3.0, 0.0]), "v": jnp.array([0.0, 1.0])}
    b = {"w": jnp.array([0.0, 3.0]), "v": jnp.array([0.0, 1.0])}
    third = siblings.slerp(a, b, 1 / 3)
    np.testing.assert_allclose(third["w"], [3 * np.cos(np.pi / 6), 1.5], rtol=1e-5)
    np.testing.assert_allclose(third["v"], [0.0, 1.0], atol=1e-6)  # parallel: the straight line
    for t, end in ((0.0, a), (1.0, b)):
        np.testing.assert_allclose(siblings.slerp(a, b, t)["w"], end["w"], atol=1e-6)
    whole = siblings.slerp(a, b, 0.5, per_leaf=False)
    flat = [np.concatenate([m["w"], m["v"]]) for m in (a, b)]
    angle = np.arccos(flat[0] @ flat[1] / 10)
    want = (flat[0] + flat[1]) * np.sin(angle / 2) / np.sin(angle)
    np.testing.assert_allclose(np.concatenate([whole["w"], whole["v"]]), want, rtol=1e-5)


def test_task_arithmetic_adds_and_forgets():
    got = siblings.task_arithmetic(BASE, [A, B], 0.5)["w"]
    np.testing.assert_allclose(got, BASE["w"] + 0.5 * jnp.array([0.6, 0.1, 1.2, 0.0]), rtol=1e-6)
    back = siblings.task_arithmetic(A, [_tuned(2.0, -0.2, 1.0, 0.0)], -1.0)
    np.testing.assert_allclose(back["w"], BASE["w"], atol=1e-6)
    assert got.dtype == BASE["w"].dtype


def test_ties_trims_elects_and_averages():
    got = siblings.ties(BASE, [A, B], density=0.5)["w"] - BASE["w"]
    # Kept: (1.0, 0.5) of A and (-0.4, 0.7) of B; signs: +, -, +.
    np.testing.assert_allclose(got, [1.0, 0.0, 0.6, 0.0], atol=1e-6)
    whole = siblings.ties(BASE, [A, B], density=1.0)["w"] - BASE["w"]
    np.testing.assert_allclose(whole, [1.0, 0.2, 0.6, 0.0], atol=1e-6)


def test_dare_keeps_the_mean():
    change = {"w": jnp.ones(40_000)}
    base = {"w": jnp.zeros(40_000)}
    got = siblings.dare(jax.random.key(0), base, [change, change], density=0.25)["w"]
    assert abs(float(got.mean()) - 1) < 0.03
    assert set(np.unique(got)) == {0.0, 2.0, 4.0}  # the networks' draws differ
    same = siblings.dare(jax.random.key(1), base, [change], density=1.0)
    np.testing.assert_allclose(same["w"], change["w"])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: siblings.ties(BASE, [A], density=0.0), "density must lie in"),
        (lambda: siblings.dare(jax.random.key(0), BASE, [], 0.5), "at least one network"),
        (lambda: siblings.slerp(A, B, 1.5), "t must lie in"),
        (lambda: siblings.task_arithmetic(BASE, [{"w": A["w"]}]), "missing n"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_leaves_that_are_no_numbers_stay():
    for merged in (siblings.ties(BASE, [A, B]), siblings.slerp(A, B, 0.5)):
        assert int(merged["n"]) == 3

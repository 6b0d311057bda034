"""The LSTM against a loop in NumPy; padding changes nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from scipy.special import expit

from jaxml.core import param
from jaxml.nn import recurrent

lstm = jax.jit(recurrent.lstm, static_argnames=("reverse", "dtype"))
bidirectional = jax.jit(recurrent.bidirectional)


def _random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def _params(declared, seed=5):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda p: rng.normal(size=p.shape), declared, is_leaf=param.is_param)


def _loop(p, x, h, c):
    """One row [t, i], one step at a time."""
    out = []
    for now in x:
        i, f, g, o = np.split(now @ p["input"] + h @ p["recurrent"] + p["bias"], 4)
        c = expit(f) * c + expit(i) * np.tanh(g)
        h = expit(o) * np.tanh(c)
        out.append(h)
    return np.array(out), h, c


def test_equals_a_loop_with_lengths_and_a_first_state():
    p, x = _params(recurrent.lstm_params(3, 4)), _random(3, 6, 3)
    state = recurrent.State(_random(3, 4, seed=1), _random(3, 4, seed=2))
    lengths = np.array([6, 2, 0])
    with jax.enable_x64(True):
        got, final = jax.tree.map(np.asarray, lstm(p, x, lengths, state))
    for row, length in enumerate(lengths):
        want, h, c = _loop(p, x[row, :length], state.h[row], state.c[row])
        np.testing.assert_allclose(got[row, :length], want.reshape(-1, 4), rtol=1e-10)
        assert (got[row, length:] == 0).all()
        np.testing.assert_allclose(final.h[row], h, rtol=1e-10)
        np.testing.assert_allclose(final.c[row], c, rtol=1e-10)


def test_reverse_reads_each_row_from_its_own_end():
    p, x = _params(recurrent.lstm_params(3, 4)), _random(2, 5, 3)
    with jax.enable_x64(True):
        got, final = lstm(p, x, np.array([5, 3]), reverse=True)
    for row, length in enumerate((5, 3)):
        want, h, _ = _loop(p, x[row, :length][::-1], np.zeros(4), np.zeros(4))
        np.testing.assert_allclose(got[row, :length], want[::-1], rtol=1e-10)
        np.testing.assert_allclose(final.h[row], h, rtol=1e-10)


def test_bidirectional_ignores_padding():
    p, x = _params(recurrent.bidirectional_params(3, 4)), _random(2, 7, 3).astype(np.float32)
    lengths = np.array([4, 2])
    wild = np.where(np.arange(7)[None, :, None] < lengths[:, None, None], x, 1e3)
    wild = wild.astype(np.float32)
    got, want = bidirectional(p, wild, lengths), bidirectional(p, x[:, :4], lengths)
    np.testing.assert_array_equal(got[0][:, 4:], 0)
    np.testing.assert_allclose(got[0][:, :4], want[0], atol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), got[1], want[1])
    ahead, _ = lstm(p["forward"], x[:, :4], lengths)
    np.testing.assert_allclose(got[0][:, :4, :4], ahead, atol=1e-6)


def test_gradient_against_finite_differences():
    p, x = _params(recurrent.bidirectional_params(2, 3)), _random(2, 4, 2)
    with jax.enable_x64(True):
        run = jax.jit(lambda p, x: recurrent.bidirectional(p, x, jnp.array([4, 2]))[0])
        check_grads(run, (p, x), 1, ["rev"])


def test_state_keeps_its_dtype():
    p, x = _params(recurrent.lstm_params(3, 4)), jnp.ones((1, 3, 3))
    y, state = lstm(p, x, dtype=jnp.bfloat16)
    assert {y.dtype, state.h.dtype, state.c.dtype} == {jnp.dtype(jnp.bfloat16)}


@pytest.mark.parametrize(
    ("x", "lengths", "message"),
    [
        (np.ones((2, 5, 4)), None, "x_bti must have shape [b, t, 3]; got x_bti.shape=(2, 5, 4)."),
        (np.ones((2, 5, 3)), np.ones(3, int), "lengths must have shape [2]"),
    ],
)
def test_bad_input_is_explained(x, lengths, message):
    with pytest.raises(ValueError) as error:
        recurrent.lstm(_params(recurrent.lstm_params(3, 4)), jnp.asarray(x), lengths)
    assert message in str(error.value)

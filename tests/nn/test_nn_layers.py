"""Linear maps, embeddings, positions, feed-forward layers, dropout, initialisers, convolutions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.test_util import check_grads
from scipy import signal, special

from jaxml.core import param
from jaxml.nn import conv, dropout, embed, initializer, linear, mlp, position, precision


def _random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def test_linear_equals_numpy_in_float64():
    with jax.enable_x64(True):
        p = {"kernel": jnp.asarray(_random(5, 3)), "bias": jnp.asarray(_random(3, seed=1))}
        x = _random(2, 4, 5, seed=2)
        got = linear.apply(p, jnp.asarray(x))
    assert got.dtype == jnp.float64
    np.testing.assert_allclose(got, x @ _random(5, 3) + _random(3, seed=1), rtol=1e-13)


def test_linear_shapes_axes_and_dtypes(key):
    declared = linear.params(6, 4, axes=("embed", "heads"))
    assert param.axes(declared) == {"kernel": ("embed", "heads"), "bias": ("heads",)}
    p = param.abstract(declared)
    for dtype, want in ((None, jnp.float32), (jnp.bfloat16, jnp.bfloat16)):
        y = jax.eval_shape(lambda p, x, d=dtype: linear.apply(p, x, d), p, jnp.zeros((2, 7, 6)))
        assert (y.shape, y.dtype) == ((2, 7, 4), want)
    assert set(linear.params(6, 4, bias=False)) == {"kernel"}


def test_linear_accumulates_in_float32():
    ones = {"kernel": jnp.ones((4096, 1)), "bias": jnp.zeros(1)}
    x = jnp.ones((1, 4096), jnp.bfloat16)
    assert linear.apply(ones, x).item() == 4096  # bfloat16 sums of ones stop growing at 256


def test_products_of_the_backward_pass_keep_the_compute_dtype():
    p = {"kernel": jnp.asarray(_random(8, 4), jnp.float32)}
    x = jnp.asarray(_random(3, 5, 8, seed=1), jnp.bfloat16)

    def loss(p, x):
        return jnp.sum(jnp.sin(linear.apply(p, x).astype(jnp.float32)))

    text = jax.jit(jax.grad(loss, (0, 1))).lower(p, x).as_text()
    products = [line for line in text.splitlines() if "dot_general" in line]
    assert len(products) == 3
    for line in products:
        assert line.split(" : ")[1].split("->")[0].count("bf16") == 2

    slopes = jax.grad(loss, (0, 1))(p, x)
    kernel, wide = p["kernel"].astype(jnp.bfloat16).astype(float), x.astype(float)
    up = np.cos(wide @ kernel)
    np.testing.assert_allclose(slopes[1].astype(float), up @ kernel.T, atol=0.1)
    want = np.einsum("bti,bto->io", wide, up)
    np.testing.assert_allclose(slopes[0]["kernel"], want, atol=0.1)


def test_narrow_products_sum_wide():
    ones = jnp.ones((1, 4096), jnp.bfloat16)  # a bfloat16 sum of ones stops at 256
    assert precision.dot(ones, jnp.ones((4096, 1)), jnp.bfloat16)[0, 0] == 4096
    made = precision.einsum("bi,ihc->bhc", ones, jnp.ones((4096, 2, 3)), ones.dtype)
    assert made.dtype == jnp.bfloat16 and bool(jnp.all(made == 4096))


def test_products_differentiate_forward_twice_and_by_one_operand():
    with jax.enable_x64(True):
        x, kernel = jnp.asarray(_random(2, 3)), jnp.asarray(_random(3, 4, seed=1))

        @jax.jit
        def curve(x, kernel):
            return jnp.sin(precision.dot(x, kernel))

        check_grads(curve, (x, kernel), 2, ["fwd", "rev"])
        check_grads(lambda x: curve(x, kernel), (x,), 1, ["fwd", "rev"])
        lowered = jax.jit(jax.grad(lambda x: curve(x, kernel).sum())).lower(x).as_text()
    assert lowered.count("dot_general") == 2  # nothing is spent on the fixed operand


def test_gradients_of_simple_layers_against_finite_differences():
    with jax.enable_x64(True):
        declared = {"plain": mlp.params(4, 6), "gated": mlp.gated_params(4, 6)}
        p = jax.tree.map(lambda q: _random(*q.shape), declared, is_leaf=param.is_param)
        x = _random(2, 4, seed=1)

        @jax.jit
        def both(p, x):
            return mlp.apply(p["plain"], x), mlp.gated(p["gated"], x)

        check_grads(both, (p, x), 1, ["rev"])


def test_feed_forward_layers_equal_their_equations():
    with jax.enable_x64(True):
        up, down, gate = _random(3, 5), _random(5, 3, seed=1), _random(3, 5, seed=2)
        x = _random(2, 3, seed=3)
        p = {name: {"kernel": jnp.asarray(w)} for name, w in zip("ud", (up, down), strict=True)}
        p = {"up": p["u"], "down": p["d"], "gate": {"kernel": jnp.asarray(gate)}}
        exact = x @ up * (1 + special.erf(x @ up / np.sqrt(2))) / 2
        np.testing.assert_allclose(mlp.apply(p, jnp.asarray(x)), exact @ down, rtol=1e-12)
        swish = x @ gate * special.expit(x @ gate) * (x @ up)
        np.testing.assert_allclose(mlp.gated(p, jnp.asarray(x)), swish @ down, rtol=1e-12)
        simple = mlp.gated(p, jnp.asarray(x), mlp.identity)
        np.testing.assert_allclose(simple, ((x @ gate) * (x @ up)) @ down, rtol=1e-12)


def test_embedding_looks_up_and_reads_back(key):
    p = param.init(key, embed.params(7, 4))
    ids = jnp.array([[1, 6], [0, 1]])
    x = embed.apply(p, ids, jnp.bfloat16)
    assert (x.shape, x.dtype) == ((2, 2, 4), jnp.bfloat16)
    logits = embed.attend(p, embed.apply(p, ids))
    assert logits.dtype == jnp.float32
    table = np.asarray(p["embedding"], np.float64)
    np.testing.assert_allclose(logits, table[np.asarray(ids)] @ table.T, rtol=1e-4, atol=1e-6)


def test_an_id_past_the_table_is_seen(key):
    p = param.init(key, embed.params(3, 2))
    assert np.isnan(embed.apply(p, jnp.array([0, 3]))).tolist() == [[False] * 2, [True] * 2]


@given(shift=st.integers(0, 500), gap=st.integers(0, 40))
def test_rope_sees_relative_positions_only(shift, gap):
    with jax.enable_x64(True):
        q, k = (jnp.asarray(_random(1, 1, 2, 8, seed=s)) for s in (0, 1))

        def score(i, j):
            a = position.rope(q, jnp.array([[i]]))
            b = position.rope(k, jnp.array([[j]]))
            return np.asarray(jnp.sum(a * b, -1))

        near, far = score(gap, 0), score(gap + shift, shift)
    np.testing.assert_allclose(near, far, atol=1e-10)


def test_rope_rotates_pairs_as_complex_numbers():
    x, place = _random(2, 3, 2, 6), np.array([[0, 1, 2], [5, 9, 100]])
    with jax.enable_x64(True):
        got = np.asarray(position.rope(jnp.asarray(x), jnp.asarray(place), base=50.0))
    turn = np.exp(1j * place[..., None, None] * 50.0 ** (-np.arange(3) / 3))
    want = (x[..., :3] + 1j * x[..., 3:]) * turn
    np.testing.assert_allclose(got, np.concatenate([want.real, want.imag], -1), atol=1e-12)


def test_sinusoidal_positions_follow_the_formula():
    got = position.sinusoidal(9, 6)
    for t in range(9):
        for i in range(3):
            angle = t / 10000 ** (2 * i / 6)
            want = [np.sin(angle), np.cos(angle)]
            np.testing.assert_allclose(got[t, 2 * i : 2 * i + 2], want, atol=1e-6)


def test_learned_positions(key):
    p = param.init(key, position.learned_params(5, 4))
    assert (position.learned(p, jnp.array([[4]]))[0, 0] == p["embedding"][4]).all()


def test_dropout_keeps_the_mean_and_the_share(key):
    x = dropout.apply(key, jnp.ones(20_000), 0.25)
    assert set(np.unique(x)) == {0.0, np.float32(1 / 0.75)}
    assert abs(float((x == 0).mean()) - 0.25) < 0.02
    assert dropout.apply(None, x, 0.5) is x
    assert dropout.split(None, 2) == [None, None]


@pytest.mark.parametrize(
    ("name", "low", "variance"),
    [
        ("lecun_normal", None, 1 / 200),
        ("he_normal", None, 2 / 200),
        ("glorot_uniform", np.sqrt(6 / 500), 2 / 500),
        ("uniform_fan_in", np.sqrt(1 / 200), 1 / 600),
    ],
)
def test_initialisers_have_their_variance(key, name, low, variance):
    x = jax.jit(getattr(initializer, name), static_argnums=1)(key, (200, 300))
    assert float(x.var()) == pytest.approx(variance, rel=0.03)
    if low is not None:
        assert 0.99 * low < float(abs(x).max()) <= low


def test_normal_initialiser(key):
    assert float(
        jax.jit(initializer.normal(0.02), static_argnums=1)(key, (300, 300)).std()
    ) == pytest.approx(0.02, rel=0.02)


def _correlate(x, kernel, stride, pad):
    x = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    out = []
    for image in x:
        maps = [
            sum(
                signal.correlate2d(image[..., i], kernel[..., i, o], "valid")
                for i in range(kernel.shape[2])
            )[::stride, ::stride]
            for o in range(kernel.shape[3])
        ]
        out.append(np.stack(maps, -1))
    return np.stack(out)


@pytest.mark.parametrize(("stride", "pad"), [(1, 0), (1, 1), (2, 1), (2, 3)])
def test_convolution_equals_scipy(stride, pad):
    x, kernel, bias = _random(2, 9, 8, 3), _random(3, 3, 3, 4, seed=1), _random(4, seed=2)
    with jax.enable_x64(True):
        p = {"kernel": jnp.asarray(kernel), "bias": jnp.asarray(bias)}
        got = conv.apply(p, jnp.asarray(x), stride, pad)
    np.testing.assert_allclose(got, _correlate(x, kernel, stride, pad) + bias, rtol=1e-10)


def test_grouped_convolution_is_several_small_ones():
    x, kernel, bias = _random(1, 5, 5, 4), _random(3, 3, 2, 6), _random(6)
    p = {"kernel": jnp.asarray(kernel), "bias": jnp.asarray(bias)}
    got = conv.apply(p, jnp.asarray(x), groups=2)
    parts = (
        _correlate(x[..., :2], kernel[..., :3], 1, 1),
        _correlate(x[..., 2:], kernel[..., 3:], 1, 1),
    )
    np.testing.assert_allclose(got, np.concatenate(parts, -1) + bias, atol=1e-5)


def test_pooling_against_windows():
    x = _random(2, 7, 6, 3).astype(np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(x, (2, 2), (1, 2))[:, ::2, ::2]
    np.testing.assert_array_equal(conv.max_pool(jnp.asarray(x)), windows.max((-1, -2)))
    np.testing.assert_allclose(conv.avg_pool(jnp.asarray(x)), windows.mean((-1, -2)), atol=1e-6)
    np.testing.assert_allclose(conv.global_avg_pool(jnp.asarray(x)), x.mean((1, 2)), atol=1e-6)


def test_gradient_of_pooling_against_finite_differences():
    with jax.enable_x64(True):

        @jax.jit
        def pools(x):
            return conv.max_pool(x), conv.avg_pool(x, 3, 2, 1), conv.global_avg_pool(x)

        check_grads(pools, (jnp.asarray(_random(1, 5, 4, 2)),), 1, ["rev"])


def test_padding_wins_no_maximum_and_weighs_no_mean():
    x = -jnp.ones((1, 2, 2, 1))
    assert (conv.max_pool(x, 3, 1, 1) == -1).all()
    assert (conv.avg_pool(x, 3, 1, 1) == -1).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: linear.params(0, 3), "in_width must be > 0; got in_width=0."),
        (
            lambda: linear.apply({"kernel": jnp.ones((3, 2))}, jnp.ones((1, 4))),
            "x must have width 3, the kernel's; got x.shape=(1, 4).",
        ),
        (lambda: embed.params(5, -1), "width must be > 0"),
        (lambda: position.sinusoidal(3, 5), "two must divide width"),
        (lambda: dropout.apply(None, jnp.ones(2), 1.0), "rate must lie in [0, 1); got rate=1.0."),
        (lambda: conv.params(3, 4, groups=2), "groups must divide in_width"),
        (
            lambda: conv.apply({"kernel": jnp.ones((3, 3, 3, 4))}, jnp.ones((1, 5, 5, 2))),
            "x must have shape [b, y, x, 3]; got x.shape=(1, 5, 5, 2).",
        ),
    ],
)
def test_bad_input_is_explained(call, message):
    with pytest.raises(ValueError) as error:
        call()
    assert message in str(error.value)


def test_ids_must_be_integers():
    with pytest.raises(TypeError, match="ids must be integers"):
        embed.apply({"embedding": jnp.ones((2, 2))}, jnp.ones(2))

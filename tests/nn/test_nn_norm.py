"""Normalisations against NumPy, and over eight devices against one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P
from jax.test_util import check_grads

from jaxml.core import param
from jaxml.nn import norm


@pytest.fixture
def mesh():
    return jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))


def _random(*shape, seed=0):
    return np.random.default_rng(seed).normal(2.0, 3.0, size=shape)


def _affine(width):
    return {"scale": _random(width, seed=8), "bias": _random(width, seed=9)}


def _on_device(tree):
    return jax.tree.map(jnp.asarray, tree)


def test_norms_equal_numpy_in_float64():
    x, p = _random(3, 4, 6), _affine(6)
    root = np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6)
    normal = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    grouped = x.reshape(3, 4, 2, 3)
    spread = np.sqrt(grouped.var((1, 3), keepdims=True) + 1e-5)
    grouped = ((grouped - grouped.mean((1, 3), keepdims=True)) / spread).reshape(x.shape)
    with jax.enable_x64(True):
        y, q = jnp.asarray(x), _on_device(p)
        close = lambda got, want: np.testing.assert_allclose(got, want, rtol=1e-11)  # noqa: E731
        close(norm.srms(y), x / root)
        close(norm.rms(q, y), x / root * p["scale"])
        close(norm.layer(q, y), normal * p["scale"] + p["bias"])
        close(norm.group(q, y, 2), grouped * p["scale"] + p["bias"])


@pytest.mark.parametrize("name", ["rms", "layer"])
def test_statistics_are_float32_and_the_result_is_not(name):
    x = (jnp.arange(512.0) % 7 * 100 + 3000).astype(jnp.bfloat16)[None]
    p = param.init(jax.random.key(0), getattr(norm, f"{name}_params")(512))
    got = getattr(norm, name)(p, x)
    want = getattr(norm, name)(p, x.astype(jnp.float32))
    assert got.dtype == jnp.bfloat16
    np.testing.assert_allclose(got.astype(jnp.float32), want, rtol=2**-8, atol=1e-6)


def test_gradients_against_finite_differences(key):
    with jax.enable_x64(True):
        p, x = _on_device(_affine(4)), jnp.asarray(_random(3, 2, 4))
        state = {"mean": jnp.zeros(4), "var": jnp.ones(4)}

        @jax.jit
        def every(p, x):
            batch, _ = norm.batch(p, state, x, train=True)
            return norm.rms(p, x), norm.layer(p, x), norm.group(p, x, 2), batch

        check_grads(every, (p, x), 1, ["rev"])


def test_batch_norm_trains_and_evaluates_like_numpy():
    x, p = _random(5, 3, 4), _affine(4)
    state = {"mean": _random(4, seed=3), "var": _random(4, seed=4) ** 2 + 0.1}
    rows = x.reshape(-1, 4)
    with jax.enable_x64(True):
        args = _on_device(p), _on_device(state), jnp.asarray(x)
        trained, new = norm.batch(*args, train=True, momentum=0.8)
        judged, same = norm.batch(*args, train=False)
    want = (x - rows.mean(0)) / np.sqrt(rows.var(0) + 1e-5) * p["scale"] + p["bias"]
    np.testing.assert_allclose(trained, want, rtol=1e-11)
    np.testing.assert_allclose(new["mean"], 0.8 * state["mean"] + 0.2 * rows.mean(0))
    np.testing.assert_allclose(new["var"], 0.8 * state["var"] + 0.2 * rows.var(0, ddof=1))
    want = (x - state["mean"]) / np.sqrt(state["var"] + 1e-5) * p["scale"] + p["bias"]
    np.testing.assert_allclose(judged, want, rtol=1e-11)
    np.testing.assert_array_equal(same["mean"], state["mean"])


def test_momentum_by_count_gives_plain_averages(key):
    batches = jax.random.normal(key, (6, 10, 3)) * 2 + 1
    p, state = (param.init(key, f(3)) for f in (norm.batch_params, norm.batch_state))

    def reset(state, row):
        index, x = row
        return norm.batch(p, state, x, train=True, momentum=index / (index + 1))[1], None

    state, _ = jax.lax.scan(reset, state, (jnp.arange(6), batches))
    np.testing.assert_allclose(state["mean"], batches.mean((0, 1)), rtol=1e-5)
    np.testing.assert_allclose(state["var"], batches.var(1, ddof=1).mean(0), rtol=1e-5)


def test_batch_norm_over_eight_devices_is_one_batch_norm(key, mesh):
    x = jax.random.normal(key, (16, 5, 3))
    p, state = (param.init(key, f(3)) for f in (norm.batch_params, norm.batch_state))

    def loss(p, x, axis_name):
        y, new = norm.batch(p, state, x, train=True, axis_name=axis_name)
        return jnp.sum(jnp.sin(y)), (y, new)

    @jax.jit
    @jax.shard_map(mesh=mesh, in_specs=(P(), P("data")), out_specs=(P("data"), P(), P("data")))
    def sharded(p, x):
        (_, (y, new)), slope = jax.value_and_grad(loss, 1, has_aux=True)(p, x, "data")
        return y, new, slope

    single = jax.jit(jax.value_and_grad(loss, 1, has_aux=True), static_argnums=2)
    (_, (y, new)), slope = single(p, x, None)
    for got, want in zip(sharded(p, x), (y, new, slope), strict=True):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6), got, want)


def test_simple_rms_norm_of_a_sharded_width(key, mesh):
    x = jax.random.normal(key, (3, 32))
    spec = P(None, "data")
    run = jax.shard_map(
        lambda x: norm.srms(x, axis_name="data"), mesh=mesh, in_specs=spec, out_specs=spec
    )
    np.testing.assert_allclose(run(x), norm.srms(x), rtol=1e-6)


def test_bad_input_is_explained(key):
    p = param.init(key, norm.group_params(6))
    with pytest.raises(ValueError, match="num_groups must divide width; got num_groups=4, width=6"):
        norm.group(p, jnp.ones((2, 6)), 4)
    with pytest.raises(ValueError, match="width must be > 0"):
        norm.rms_params(0)

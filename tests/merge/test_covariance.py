import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from jaxml.dist import mesh, shard
from jaxml.merge import covariance as cov

UPDATE = jax.jit(cov.covariance_update)


def _batches(n=3, d=5, sizes=(40, 40, 24), offset=0.0):
    random = np.random.default_rng(0)
    mix = random.normal(size=(n, d, d))
    base = [random.normal(size=(s, d)) for s in sizes]
    make = [np.stack([b @ mix[k] + offset for k in range(n)]) for b in base]
    return [jnp.asarray(b, jnp.float32) for b in make]


def _run(batches, **options):
    state = cov.covariance_init(batches[0], **options)
    for batch in batches:
        state = UPDATE(state, batch)
    return cov.covariance_finalize(state)


def _want(batches):
    rows = np.concatenate([np.asarray(b, np.float64) for b in batches], 1)
    n, _, d = rows.shape
    whole = np.cov(np.concatenate(list(rows), 1).T, bias=True).reshape(n, d, n, d)
    return rows.mean(1), whole


@pytest.mark.parametrize("offset", [0.0, 1000.0])
@pytest.mark.parametrize("pairs", ["reference", "all"])
def test_streaming_equals_numpy(offset, pairs):
    batches = _batches(offset=offset)
    got = _run(batches, pairs=pairs)
    mean, whole = _want(batches)
    np.testing.assert_allclose(got.mean, mean, rtol=1e-6)
    for k in range(3):
        np.testing.assert_allclose(got.own[k], whole[k, :, k], atol=3e-5)
        np.testing.assert_allclose(got.cross[k], whole[0, :, k], atol=3e-5)
    assert got.count == 104


def test_images_count_every_position_and_what_is_not_finite_is_zero():
    batch = np.array(_batches()[0]).reshape(3, 10, 2, 2, 5)
    batch[1, 0, 0, 0, 0] = np.inf
    got = _run([jnp.asarray(batch)])
    batch[1, 0, 0, 0, 0] = 0
    _, whole = _want([batch.reshape(3, -1, 5)])
    np.testing.assert_allclose(got.own[1], whole[1, :, 1], atol=1e-5)


def test_many_batches_lose_nothing():
    """Two hundred batches of float32: the error stays that of one."""
    batch = _batches(n=2, sizes=(64,))[0]
    got = _run([batch] * 200)
    _, whole = _want([batch])
    np.testing.assert_allclose(got.own[1], whole[1, :, 1], rtol=3e-6, atol=1e-6)


def test_symmetric_product_equals_the_plain_one():
    x = jax.random.normal(jax.random.key(0), (50, 64))
    np.testing.assert_allclose(cov.gram(x, smallest=8), x.T @ x, rtol=1e-5, atol=1e-5)


def test_eight_devices_equal_one():
    batches = _batches(sizes=(40, 40))
    devices = mesh.make(mesh.MeshConfig(data=8))
    samples, whole = PartitionSpec(None, "data"), PartitionSpec()
    start = shard.over(
        functools.partial(cov.covariance_init, axis_name="data"), devices, samples, whole
    )
    update = shard.over(
        functools.partial(cov.covariance_update, axis_name="data"),
        devices,
        (whole, samples),
        whole,
    )
    state = jax.jit(start)(batches[0])
    for batch in batches:
        state = jax.jit(update)(state, batch)
    got, want = cov.covariance_finalize(state), _run(batches)
    assert got.count == want.count
    np.testing.assert_allclose(got.cross, want.cross, atol=1e-5)
    np.testing.assert_allclose(got.own, want.own, atol=1e-5)


def test_bad_input():
    with pytest.raises(ValueError, match="num_models must be >= 2"):
        cov.covariance_init(jnp.ones((1, 4, 3)))
    with pytest.raises(ValueError, match="pairs must be one of"):
        cov.covariance_init(jnp.ones((2, 4, 3)), pairs="some")
    with pytest.raises(ValueError, match="covariances need samples"):
        cov.covariance_finalize(cov.covariance_init(jnp.ones((2, 4, 3))))

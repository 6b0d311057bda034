"""Layers over eight devices give the answer of one, inside `shard_map` and under `jit`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from jaxml.nn import linear, loss, recurrent, transformer

MESH = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
RNG = np.random.default_rng(0)
X = RNG.normal(size=(16, 3, 4)).astype(np.float32)
LABELS = RNG.integers(0, 7, (16, 3))


def _stack(p, x):
    def block(p, x, _):
        return jnp.tanh(linear.apply(p, x)), None

    return jnp.mean(transformer.scan_layers(block, p, x, remat="dots")[0] ** 2)


def _nll(table, x, labels=LABELS):
    return loss.chunked_cross_entropy(x, table, labels, chunk=2)[0]


def _last(p, x):
    return jnp.mean(recurrent.lstm(p, x)[1].h ** 2)


CASES = {
    "stack": (_stack, {"kernel": (2, 4, 4), "bias": (2, 4)}, (X,)),
    "chunked loss": (_nll, (7, 4), (X, LABELS)),
    "lstm": (_last, {"input": (4, 20), "recurrent": (5, 20), "bias": (20,)}, (X,)),
}


@pytest.mark.parametrize("check_vma", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_value_and_gradient_inside_shard_map(name, check_vma):
    function, shapes, inputs = CASES[name]
    p = jax.tree.map(
        lambda shape: RNG.normal(size=shape).astype(np.float32) / 3,
        shapes,
        is_leaf=lambda s: isinstance(s, tuple),
    )

    def whole(p, *inputs):
        return jax.value_and_grad(function)(p, *inputs)

    def local(p, *inputs):
        if not check_vma:  # each device has its own gradient
            return jax.tree.map(lambda a: jax.lax.pmean(a, "data"), whole(p, *inputs))
        return jax.value_and_grad(lambda p: jax.lax.pmean(function(p, *inputs), "data"))(p)

    specs = (P(), *(P("data") for _ in inputs))
    split = jax.shard_map(local, mesh=MESH, in_specs=specs, out_specs=P(), check_vma=check_vma)
    got, want = jax.jit(split)(p, *inputs), jax.jit(whole)(p, *inputs)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6), got, want)


def test_a_batch_sharded_under_jit_is_not_gathered():
    table = RNG.normal(size=(7, 4)).astype(np.float32)
    run = jax.jit(jax.value_and_grad(_nll, (0, 1)))
    placed = jax.device_put(X, NamedSharding(MESH, P("data")))
    labels = jax.device_put(LABELS, NamedSharding(MESH, P("data")))
    got, want = run(table, placed, labels), run(table, X, LABELS)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), got, want)
    assert "all-gather" not in run.lower(table, placed, labels).compile().as_text()

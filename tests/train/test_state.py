import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec

from jaxml.core.param import Param
from jaxml.dist import mesh, shard
from jaxml.dist.rules import TENSOR
from jaxml.train import state

NORMAL = jax.nn.initializers.normal(1.0)
DECLARED = {
    "kernel": Param((8, 4), ("embed", "mlp"), NORMAL),
    "block": {
        "kernel": Param((4, 8), ("mlp", "embed"), NORMAL),
        "bias": Param((8,), ("embed",), NORMAL),
    },
}


@pytest.fixture(scope="module")
def cube():
    return mesh.make(mesh.MeshConfig(data=2, fsdp=2, model=2))


@pytest.mark.parametrize(
    "optimizer",
    [
        optax.adam(1e-3),
        optax.chain(
            optax.clip(1.0), optax.masked(optax.adam(1e-3), {"kernel": True, "block": False})
        ),
        optax.multi_transform(
            {"a": optax.adam(1e-3), "b": optax.sgd(1e-3, momentum=0.9)},
            {"kernel": "a", "block": "b"},
        ),
    ],
    ids=["adam", "masked", "multi"],
)
def test_optimizer_state_lies_where_its_parameter_does(cube, key, optimizer):
    params = shard.init_sharded(key, DECLARED, cube, TENSOR)
    made = state.create(key, params, optimizer, extra={"seen": np.zeros(3)}, ema=True)
    pairs = {(8, 4): ("fsdp", "model"), (4, 8): ("model", "fsdp"), (8,): ("fsdp",)}
    mirrored = [x for x in jax.tree.leaves(made.opt_state) if x.shape in pairs]
    assert len(mirrored) >= 2
    for leaf in mirrored + jax.tree.leaves(made.ema):
        assert leaf.sharding.spec == PartitionSpec(*pairs[leaf.shape])
    for leaf in (made.step, made.key, made.num_rejected, made.extra["seen"]):
        assert leaf.sharding.is_fully_replicated and len(leaf.sharding.device_set) == 8


def test_without_a_mesh_nothing_is_placed(key):
    made = state.create(key, {"w": jnp.ones(3)}, optax.adam(1e-3))
    assert state.shardings(made) is None
    assert all(leaf.sharding is None for leaf in jax.tree.leaves(state.abstract(made)))
    assert made.ema is None and made.extra == {}


def test_the_callers_key_stays_usable_and_the_run_has_its_own(key):
    made = state.create(key, {"w": jnp.ones(3)}, optax.sgd(0.1))
    assert not np.array_equal(jax.random.key_data(made.key), jax.random.key_data(key))
    again = state.create(key, {"w": jnp.ones(3)}, optax.sgd(0.1))
    np.testing.assert_array_equal(jax.random.key_data(made.key), jax.random.key_data(again.key))


def test_abstract_has_shapes_dtypes_and_places(cube, key):
    params = shard.init_sharded(key, DECLARED, cube, TENSOR)
    made = state.create(key, params, optax.adam(1e-3))
    shape = state.abstract(made).params["kernel"]
    assert (shape.shape, shape.dtype) == ((8, 4), jnp.float32)
    assert shape.sharding == made.params["kernel"].sharding


def test_a_planned_state_is_the_one_that_is_made(cube, key):
    optimizer = optax.adam(1e-3)
    made = state.create(key, shard.init_sharded(key, DECLARED, cube, TENSOR), optimizer)
    planned = state.planned(shard.abstract(DECLARED, cube, TENSOR), optimizer)
    assert jax.tree.structure(planned) == jax.tree.structure(made)
    for want, got in zip(jax.tree.leaves(made), jax.tree.leaves(planned), strict=True):
        assert (got.shape, got.dtype, got.sharding) == (want.shape, want.dtype, want.sharding)

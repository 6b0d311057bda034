import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from jaxml.core import param
from jaxml.core.param import Param
from jaxml.dist import collective, mesh, shard
from jaxml.dist.rules import DATA, FSDP, TENSOR

NORMAL = jax.nn.initializers.normal(1.0)
DECLARED = {
    "embed": Param((16, 8), ("vocab", "embed"), NORMAL),
    "layers": param.stack({"up": Param((8, 12), ("embed", "mlp"), NORMAL)}, 3),
    "bias": Param((5,), (None,), NORMAL),
}


@pytest.fixture(scope="module")
def cube():
    return mesh.make(mesh.MeshConfig(data=2, fsdp=2, model=2))


@pytest.mark.parametrize("rules", [DATA, FSDP, TENSOR], ids=["data", "fsdp", "tensor"])
def test_sharded_init_gives_the_values_of_one_device(cube, key, rules):
    got = shard.init_sharded(key, DECLARED, cube, rules)
    chex.assert_trees_all_equal(jax.device_get(got), jax.device_get(param.init(key, DECLARED)))


def test_sharded_init_puts_every_part_in_its_place(cube, key):
    got = shard.init_sharded(key, DECLARED, cube, TENSOR)
    assert got["layers"]["up"].sharding.spec == PartitionSpec(None, "fsdp", "model")
    assert {s.data.shape for s in got["layers"]["up"].addressable_shards} == {(3, 4, 6)}
    assert {s.data.shape for s in got["embed"].addressable_shards} == {(8, 4)}
    assert {s.data.shape for s in got["bias"].addressable_shards} == {(5,)}


def test_an_array_that_does_not_fit_is_named_by_its_path(cube):
    declared = {"layers": {"up": Param((8, 13), ("embed", "mlp"), NORMAL)}}
    with pytest.raises(ValueError, match="axis mlp of layers/up; got mlp=13 over 2 parts"):
        shard.shardings(declared, cube, TENSOR)


def test_put_and_batch_sharding(cube):
    rows = np.arange(8 * 3).reshape(8, 3)
    placed = shard.put({"x": rows}, shard.batch_sharding(cube, DATA))["x"]
    assert {s.data.shape for s in placed.addressable_shards} == {(2, 3)}
    np.testing.assert_array_equal(placed, rows)


def test_constrain(cube):
    x = jnp.ones((8, 6))
    fixed = jax.jit(lambda x: shard.constrain(2 * x, ("batch", None), cube, DATA))(x)
    assert fixed.sharding.is_equivalent_to(
        NamedSharding(cube, PartitionSpec(("data", "fsdp"), None)), 2
    )
    assert shard.constrain(x, ("batch", None), None, DATA) is x


def test_gathered_parameters_are_whole_along_embed_and_split_elsewhere(cube, key):
    layer = {"up": DECLARED["layers"]["up"]}
    layer = {"up": Param(layer["up"].shape[1:], layer["up"].axes[1:], NORMAL), "b": DECLARED["bias"]}
    placed = shard.init_sharded(key, layer, cube, TENSOR)
    used = jax.jit(lambda p: shard.gather(p, layer, cube, TENSOR, jnp.bfloat16))(placed)
    assert {s.data.shape for s in used["up"].addressable_shards} == {(8, 6)}
    assert used["up"].dtype == jnp.bfloat16
    assert used["b"].dtype == jnp.float32, "what does not travel stays as it is"
    np.testing.assert_array_equal(used["up"], placed["up"].astype(jnp.bfloat16))


def body(x, weight, axis_name):
    """Every collective at once, of one part's rows [n, 2] and weight [1]."""
    return {
        "sum": collective.psum(x.sum(0), axis_name),
        "mean": collective.psum_mean(x.mean(0), axis_name),
        "weighted": collective.weighted_mean(x.mean(0), weight[0], axis_name),
        "rows": collective.all_gather_rows(x, axis_name) * 1.0,
        "size": jnp.float32(collective.axis_size_or_one(axis_name)),
    }


def test_collectives_over_eight_parts():
    line = mesh.make(mesh.MeshConfig(data=8))
    rows = np.random.default_rng(0).normal(size=(24, 2)).astype(np.float32)
    weight = np.array([3, 0, 1, 5, 2, 0, 7, 1], np.float32)
    data, whole = PartitionSpec("data"), PartitionSpec()
    out = {"sum": whole, "mean": whole, "weighted": whole, "rows": data, "size": whole}
    got = shard.over(lambda x, w: body(x, w, "data"), line, (data, data), out)(rows, weight)
    means = rows.reshape(8, 3, 2).astype(np.float64).mean(1)
    np.testing.assert_allclose(got["sum"], rows.sum(0), rtol=1e-5)
    np.testing.assert_allclose(got["mean"], means.mean(0), rtol=1e-5)
    np.testing.assert_allclose(got["weighted"], weight @ means / weight.sum(), rtol=1e-5)
    assert got["size"] == 8
    # Every part gathered all rows in order.
    np.testing.assert_array_equal(got["rows"], np.tile(rows, (8, 1)))


def test_collectives_without_a_mesh():
    rows = np.random.default_rng(1).normal(size=(6, 2)).astype(np.float32)
    got = shard.over(lambda x, w: body(x, w, None), None, None, None)(rows, jnp.ones(1))
    np.testing.assert_allclose(got["sum"], rows.sum(0), rtol=1e-5)
    for name in ("mean", "weighted"):
        np.testing.assert_allclose(got[name], rows.mean(0), rtol=1e-5)
    np.testing.assert_array_equal(got["rows"], rows)
    assert got["size"] == 1
    assert int(collective.axis_index_or_zero(None)) == 0


def test_a_part_without_items_is_left_out_even_if_its_mean_is_nan():
    assert float(collective.weighted_mean(jnp.array(jnp.nan), jnp.array(0.0), None)) == 0.0


@pytest.mark.parametrize("by", [1, 3, -1])
def test_ring_shift_hands_on_by_so_many_places(by):
    line = mesh.make(mesh.MeshConfig(seq=8))
    spec = PartitionSpec("seq")
    shift = shard.over(lambda x: collective.ring_shift(x, "seq", by), line, spec, spec)
    np.testing.assert_array_equal(shift(jnp.arange(8)), np.roll(np.arange(8), by))
    x = jnp.arange(3)
    assert collective.ring_shift(x, None, by) is x


def test_index_of_a_part():
    line = mesh.make(mesh.MeshConfig(data=8))
    index = shard.over(
        lambda x: x + collective.axis_index_or_zero("data"),
        line,
        PartitionSpec("data"),
        PartitionSpec("data"),
    )
    np.testing.assert_array_equal(index(jnp.zeros(8, jnp.int32)), np.arange(8))

"""Placing arrays on a mesh: parameters by their declared axes, batches by their first one."""

import functools
from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxml.core import param, tree
from jaxml.core.types import Array, Axes, Key, PyTree
from jaxml.dist.rules import Rules


def shardings(declared: PyTree, mesh: Mesh, rules: Rules) -> PyTree:
    """A `NamedSharding` for every declared parameter.

    Raises:
      ValueError: a rule does not fit an array (see `Rules.spec`); its path is named.
    """

    def one(keys: Any, p: param.Param) -> NamedSharding:
        return NamedSharding(mesh, rules.spec(p.axes, p.shape, mesh, tree.path_of(keys)))

    return jax.tree_util.tree_map_with_path(one, declared, is_leaf=param.is_param)


def abstract(declared: PyTree, mesh: Mesh, rules: Rules) -> PyTree:
    """Shapes, dtypes and shardings of the parameters, without an array.

    Raises:
      ValueError: a rule does not fit an array.
    """

    def one(like: jax.ShapeDtypeStruct, place: NamedSharding) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(like.shape, like.dtype, sharding=place)

    return jax.tree.map(one, param.abstract(declared), shardings(declared, mesh, rules))


def init_sharded(key: Key, declared: PyTree, mesh: Mesh, rules: Rules) -> PyTree:
    """Makes the parameters where they belong; no device ever holds more than its part.

    The values equal those of `param.init(key, declared)` on one device.

    Raises:
      ValueError: a rule does not fit an array.
    """
    place = shardings(declared, mesh, rules)
    return jax.jit(functools.partial(param.init, declared=declared), out_shardings=place)(key)


def put(arrays: PyTree, place: PyTree) -> PyTree:
    """Copies arrays to their shardings (one for all, or a tree of them)."""
    return jax.device_put(arrays, place)


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of what every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh, rules: Rules) -> NamedSharding:
    """The sharding of every array of a batch: split along its first axis only."""
    return NamedSharding(mesh, PartitionSpec(rules.of("batch") or None))


def constrain(x: Array, axes: Axes, mesh: Mesh | None, rules: Rules) -> Array:
    """Fixes the sharding of an intermediate array inside jit; without a mesh, returns `x`.

    Raises:
      ValueError: a rule does not fit the array.
    """
    if mesh is None:
        return x
    place = NamedSharding(mesh, rules.spec(axes, x.shape, mesh))
    return jax.lax.with_sharding_constraint(x, place)


def gather(
    arrays: PyTree, declared: PyTree, mesh: Mesh, rules: Rules, dtype: Any = None
) -> PyTree:
    """Parameters as they are used: whole along `embed`, split over the other axes of the rules.

    Inside jit, and layer by layer inside a scan, so that one layer is whole at a time; their
    gradients are summed and split again. Without it the compiler may rather gather the batch.

    Args:
      arrays: parameters, or one layer of stacked ones.
      declared: the same tree of `Param`, without the axis of the layers.
      mesh: where they lie.
      rules: the rules they lie by.
      dtype: matrices that travel are converted to it before; None: as they are.

    Raises:
      ValueError: a rule does not fit an array.
    """
    used = rules.replace(embed=None)

    def one(p: param.Param, x: Array) -> Array:
        travels = "embed" in p.axes and len(p.axes) > 1
        wanted = x.astype(dtype) if travels and dtype is not None else x
        return constrain(wanted, p.axes, mesh, used)

    return jax.tree.map(one, declared, arrays, is_leaf=param.is_param)


def over[**P, R](
    function: Callable[P, R], mesh: Mesh | None, in_specs: Any, out_specs: Any
) -> Callable[P, R]:
    """`jax.shard_map` of a function of local blocks; without a mesh, the function itself.

    >>> import jax.numpy as jnp
    >>> from jaxml.dist import mesh
    >>> double = over(lambda x: 2 * x, mesh.make(mesh.MeshConfig(data=-1)),
    ...               PartitionSpec("data"), PartitionSpec("data"))
    >>> double(jnp.arange(8)).tolist()
    [0, 2, 4, 6, 8, 10, 12, 14]
    """
    if mesh is None:
        return function
    return jax.shard_map(function, mesh=mesh, in_specs=in_specs, out_specs=out_specs)

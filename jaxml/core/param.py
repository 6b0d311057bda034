"""Declared parameters: shape, logical axes and initialiser, before any array exists.

A model's `params(cfg)` returns a nested dict of `Param`. Arrays, abstract shapes and partition
specs all come from that one tree.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxml.core import rng, tree
from jaxml.core.types import Axes, Initializer, Key, PyTree, Shape


@dataclasses.dataclass(frozen=True)
class Param:
    """One declared array.

    Attributes:
      shape: its sizes.
      axes: the logical name of each dimension (`None`: never sharded), as long as `shape`.
      init: `(key, shape, dtype) -> array`.
      dtype: of the master copy.
    """

    shape: Shape
    axes: Axes
    init: Initializer
    dtype: Any = jnp.float32

    def __post_init__(self):
        if len(self.shape) != len(self.axes):
            raise ValueError(
                f"axes must name every dimension; got shape={self.shape}, axes={self.axes}."
            )


def is_param(leaf: Any) -> bool:
    """True for a declaration: the `is_leaf` of every walk over declared trees."""
    return isinstance(leaf, Param)


def init(key: Key, declared: PyTree) -> PyTree:
    """Makes the arrays; each leaf draws from a key of its own path.

    >>> import jax
    >>> tree = {"w": Param((2, 3), ("embed", "mlp"), jax.nn.initializers.ones)}
    >>> init(jax.random.key(0), tree)["w"].shape
    (2, 3)
    """
    return jax.tree_util.tree_map_with_path(
        lambda keys, p: p.init(rng.fold(key, tree.path_of(keys)), p.shape, p.dtype),
        declared,
        is_leaf=is_param,
    )


def abstract(declared: PyTree) -> PyTree:
    """Shapes and dtypes only: a tree of `jax.ShapeDtypeStruct`."""
    return jax.tree.map(
        lambda p: jax.ShapeDtypeStruct(p.shape, p.dtype), declared, is_leaf=is_param
    )


def axes(declared: PyTree) -> PyTree:
    """The logical axes of every leaf, as tuples."""
    return jax.tree.map(lambda p: p.axes, declared, is_leaf=is_param)


def stack(declared: PyTree, num: int, axis: str = "layers") -> PyTree:
    """Adds a leading dimension: `num` independent copies, as `lax.scan` over layers wants them."""

    def stacked(p: Param) -> Param:
        def init_each(key: Key, shape: Shape, dtype: Any) -> jax.Array:
            return jnp.stack([p.init(k, shape[1:], dtype) for k in jax.random.split(key, shape[0])])

        return Param((num, *p.shape), (axis, *p.axes), init_each, p.dtype)

    return jax.tree.map(stacked, declared, is_leaf=is_param)

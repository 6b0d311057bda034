"""Collectives for functions of local blocks (the bodies of `shard_map`).

Each takes the mesh axis by name; with `axis_name=None` it computes the answer of a single device,
so that the same body runs without a mesh.
"""

import jax
import jax.numpy as jnp

from jaxml.core.types import Array, PyTree

type AxisName = str | tuple[str, ...] | None


def axis_size_or_one(axis_name: AxisName) -> int:
    """Number of parts along the axis; 1 without one.

    >>> axis_size_or_one(None)
    1
    """
    return 1 if axis_name is None else jax.lax.axis_size(axis_name)


def axis_index_or_zero(axis_name: AxisName) -> Array:
    """Which part this is, int32 []; 0 without an axis."""
    return jnp.int32(0) if axis_name is None else jax.lax.axis_index(axis_name)


def psum(values: PyTree, axis_name: AxisName) -> PyTree:
    """Sum over the parts."""
    return values if axis_name is None else jax.lax.psum(values, axis_name)


def psum_mean(values: PyTree, axis_name: AxisName) -> PyTree:
    """Mean over the parts, each counting the same."""
    return values if axis_name is None else jax.lax.pmean(values, axis_name)


def weighted_mean(value: Array, weight: Array, axis_name: AxisName) -> Array:
    """Mean of the parts' means, each counting `weight`: exact for parts of unequal size.

    Args:
      value: this part's mean, any shape.
      weight: how many items it is the mean of, a scalar; a part of weight 0 is left out, whatever
        its value.
      axis_name: the mesh axis.

    Returns:
      The mean over all items; 0 where there is none.

    >>> float(weighted_mean(jnp.float32(3.0), jnp.float32(2.0), None))
    3.0
    """
    share = jnp.where(weight > 0, value * weight, jnp.zeros_like(value))
    total, count = psum((share, weight), axis_name)
    return jnp.where(count > 0, total / jnp.where(count > 0, count, 1), jnp.zeros_like(total))


def all_gather_rows(x: Array, axis_name: AxisName) -> Array:
    """All parts' rows, [parts * n, ...], in the order of the parts."""
    return x if axis_name is None else jax.lax.all_gather(x, axis_name, axis=0, tiled=True)


def ring_shift(values: PyTree, axis_name: str | None, by: int = 1) -> PyTree:
    """Hands each part's values to the part `by` places further round the ring."""
    if axis_name is None:
        return values
    size = jax.lax.axis_size(axis_name)
    return jax.lax.ppermute(values, axis_name, [(i, (i + by) % size) for i in range(size)])

"""Points to pillars, with static shapes and no limit of points per pillar.

The published program keeps the first 32 points of a pillar, so that its answer depends on their
order, and lets padding into the batch statistics and the maximum. Here every point counts once,
and padding nowhere: the answer depends neither on the order nor on the padding.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxml.core import check, param
from jaxml.core.types import Array, PyTree
from jaxml.driving.detection2d.convnorm import EPS
from jaxml.driving.detection3d.config import GridConfig
from jaxml.nn import linear, norm

FEATURES = 10


class Pillars(NamedTuple):
    """Points made ready.

    Attributes:
      feature: x, y, z, intensity, offset from the mean of the pillar's points (3), offset from the
        middle of the pillar (3) [p, 10]; zeros where masked.
      cell: row * columns + column, int32 [p]; the number of cells where masked.
      mask: bool [p].
    """

    feature: Array
    cell: Array
    mask: Array


def pillarize(points: Array, mask: Array, grid: GridConfig) -> Pillars:
    """Features and pillar of every point.

    Args:
      points: x, y, z, intensity [p, 4].
      mask: bool [p].
      grid: of pillars; points outside are masked.

    Raises:
      ValueError: points without intensity, or a mask of another length.
    """
    if points.shape[-1] != 4:
        raise ValueError(
            "points must be x, y, z, intensity; "
            f"got {points.shape[-1]} numbers for each point (add a column of intensity)."
        )
    check.shape("points", points, ["p", 4])
    check.shape("mask", mask, [points.shape[0]])
    rows, columns = grid.shape
    column = jnp.floor((points[:, 0] - grid.x_m[0]) / grid.pillar_m).astype(jnp.int32)
    row = jnp.floor((points[:, 1] - grid.y_m[0]) / grid.pillar_m).astype(jnp.int32)
    inside = (column >= 0) & (column < columns) & (row >= 0) & (row < rows)
    inside &= (points[:, 2] >= grid.z_m[0]) & (points[:, 2] < grid.z_m[1])
    mask = mask & inside
    cell = jnp.where(mask, row * columns + column, rows * columns)
    middle = jnp.stack(
        [
            (column + 0.5) * grid.pillar_m + grid.x_m[0],
            (row + 0.5) * grid.pillar_m + grid.y_m[0],
            jnp.full(column.shape, (grid.z_m[0] + grid.z_m[1]) / 2),
        ],
        -1,
    )
    local = jnp.where(mask[:, None], points[:, :3] - middle, 0.0)  # small numbers add exactly
    ones = mask.astype(points.dtype)[:, None]
    total = jnp.zeros((rows * columns + 1, 4), points.dtype)
    total = total.at[cell].add(jnp.concatenate([local, ones], -1))[cell]
    mean = total[:, :3] / jnp.maximum(total[:, 3:], 1.0)
    feature = jnp.concatenate([points, local - mean, local], -1)
    return Pillars(jnp.where(mask[:, None], feature, 0.0), cell, mask)


def scatter_max(values: Array, cell: Array, shape: tuple[int, int]) -> Array:
    """The largest value of each cell, 0 where there is none: [p, c] -> [y, x, c]; values >= 0."""
    rows, columns = shape
    empty = jnp.zeros((rows * columns, values.shape[-1]), values.dtype)
    return empty.at[cell].max(values, mode="drop").reshape(rows, columns, -1)


def params(width: int) -> PyTree:
    """Declares `linear`, without bias, and `norm`."""
    return {"linear": linear.params(FEATURES, width, bias=False), "norm": norm.batch_params(width)}


def state(width: int) -> PyTree:
    """Declares the running statistics."""
    return norm.batch_state(width)


def apply(
    p: PyTree, s: PyTree, pillars: Pillars, shape: tuple[int, int], *, train: bool, kept: float
) -> tuple[Array, PyTree]:
    """The map of pillars of a batch and the new statistics.

    Args:
      p: parameters.
      s: statistics.
      pillars: with a leading batch axis.
      shape: rows and columns.
      train: normalise by the batch's points, padding left out.
      kept: share of the statistics that stays.

    Returns:
      [b, y, x, c] and the new statistics.
    """
    wide = linear.apply(p["linear"], pillars.feature)
    wide, s = _masked_norm(p["norm"], s, wide, pillars.mask, train, kept)
    wide = jax.nn.relu(wide) * pillars.mask[..., None]
    return jax.vmap(lambda v, c: scatter_max(v, c, shape))(wide, pillars.cell), s


def _masked_norm(
    p: PyTree, s: PyTree, x: Array, mask: Array, train: bool, kept: float
) -> tuple[Array, PyTree]:
    """Batch norm over the points that there are."""
    if train:
        weight = mask[..., None].astype(x.dtype)
        count = jnp.maximum(jnp.sum(weight), 2.0)
        axes = tuple(range(x.ndim - 1))
        mean = jnp.sum(x * weight, axes) / count
        centred = (x - mean.reshape(_last(x))) * weight
        variance = jnp.sum(jnp.square(centred), axes) / count
        seen = {"mean": mean, "var": variance * count / (count - 1)}
        s = jax.tree.map(lambda old, new: kept * old + (1 - kept) * new, s, seen)
    else:
        mean, variance = s["mean"], s["var"]
    scale = p["scale"] * jax.lax.rsqrt(variance + EPS)
    return x * scale.reshape(_last(x)) + (p["bias"] - mean * scale).reshape(_last(x)), s


def _last(x: Array) -> tuple[int, ...]:
    return (*(1,) * (x.ndim - 1), x.shape[-1])


def init(key: Array, width: int) -> PyTree:
    """Makes the parameters."""
    return param.init(key, params(width))

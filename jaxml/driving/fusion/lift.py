"""Feature level: image features lifted along their rays and summed on the ground.

Lift, splat (Philion & Fidler 2020), as BEVFusion uses it.
"""

import jax
import jax.numpy as jnp

from jaxml.core import check
from jaxml.core.types import Array
from jaxml.driving.fusion.config import LiftConfig
from jaxml.driving.geometry import se3
from jaxml.driving.geometry.camera import pixel_grid, unproject


def bin_depths(cfg: LiftConfig) -> Array:
    """The depths of the bins [bins], in metres."""
    return jnp.linspace(cfg.nearest_m, cfg.farthest_m, cfg.bins)


def splat(points: Array, values: Array, low: Array, cell_m: float, shape: tuple[int, int]) -> Array:
    """Sums values in the cells their points fall in.

    Args:
      points: x, y (and more) [p, >= 2].
      values: [p, c].
      low: x, y of the map's corner [2].
      cell_m: side of a cell.
      shape: rows (y) and columns (x); points outside are left out.

    Returns:
      [y, x, c].
    """
    rows, columns = shape
    at = jnp.floor((points[:, :2] - low[None]) / cell_m).astype(jnp.int32)
    inside = jnp.all(at >= 0, -1) & (at[:, 0] < columns) & (at[:, 1] < rows)
    cell = jnp.where(inside, at[:, 1] * columns + at[:, 0], rows * columns)
    summed = jax.ops.segment_sum(values, cell, rows * columns + 1)[:-1]
    return summed.reshape(rows, columns, -1)


def lift_splat(
    depth_logits: Array,
    context: Array,
    intrinsics: Array,
    camera_to_lidar: Array,
    depths: Array,
    low: Array,
    cell_m: float,
    shape: tuple[int, int],
) -> Array:
    """The image's features on the ground.

    Args:
      depth_logits: of the bins [y, x, bins].
      context: [y, x, c].
      intrinsics: of maps of this size [3, 3].
      camera_to_lidar: [4, 4].
      depths: of the bins [bins].
      low: x, y of the map's corner [2].
      cell_m: side of a cell.
      shape: rows and columns of the map.

    Returns:
      [rows, columns, c]: each feature shared out over its bins by their probabilities.
    """
    sizes = check.shape("depth_logits", depth_logits, ["y", "x", depths.shape[0]])
    check.shape("context", context, [sizes["y"], sizes["x"], "c"])
    share = jax.nn.softmax(depth_logits, -1).reshape(-1, depths.shape[0])
    uv = pixel_grid(sizes["y"], sizes["x"])
    uv = jnp.broadcast_to(uv[:, None], (*share.shape, 2)).reshape(-1, 2)
    depth = jnp.broadcast_to(depths[None], share.shape).reshape(-1)
    points = se3.transform(camera_to_lidar, unproject(intrinsics, uv, depth))
    lifted = share[..., None] * context.reshape(-1, 1, context.shape[-1])
    return splat(points, lifted.reshape(-1, context.shape[-1]), low, cell_m, shape)

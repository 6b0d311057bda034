"""Data level: what the image says of each point (PointPainting, Vora et al. 2020)."""

import jax.numpy as jnp

from jaxml.core import check
from jaxml.core.types import Array
from jaxml.driving.geometry import se3
from jaxml.driving.geometry.camera import project


def paint(
    points: Array, scores_yxc: Array, intrinsics: Array, lidar_to_camera: Array
) -> tuple[Array, Array]:
    """Appends the class scores of the pixel that a point falls on.

    Args:
      points: x, y, z and more [p, d], in the LiDAR's frame.
      scores_yxc: class probabilities of the image [y, x, c].
      intrinsics: [3, 3] or [3, 4].
      lidar_to_camera: [4, 4].

    Returns:
      [p, d + c], zeros for points the camera does not see, and which it sees, bool [p].

    Raises:
      ValueError: shapes that do not fit.
    """
    check.shape("lidar_to_camera", lidar_to_camera, [4, 4])
    height, width, _ = scores_yxc.shape
    uv, depth = project(intrinsics, se3.transform(lidar_to_camera, points[:, :3]))
    pixel = jnp.round(uv).astype(jnp.int32)
    limit = jnp.array([[width, height]])
    seen = (depth > 0.1) & jnp.all((pixel >= 0) & (pixel < limit), -1)
    at = jnp.clip(pixel, 0, limit - 1)
    found = jnp.where(seen[:, None], scores_yxc[at[:, 1], at[:, 0]], 0.0)
    return jnp.concatenate([points, found], -1), seen

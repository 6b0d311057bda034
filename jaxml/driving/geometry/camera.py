"""Pinhole cameras: x right, y down, z forward; pixels count from the middle of the first one."""

import jax.numpy as jnp

from jaxml.core.types import Array

_NEAR = 1e-3


def project(intrinsics: Array, points: Array) -> tuple[Array, Array]:
    """Pixels and depths of points in the camera's frame.

    Args:
      intrinsics: [..., 3, 3], or a projection [..., 3, 4] (KITTI's P2).
      points: [..., n, 3].

    Returns:
      Pixels (u, v) [..., n, 2] and depths [..., n]; a point behind the camera has a depth <= 0 and
      pixels that mean nothing.
    """
    homogeneous = points
    if intrinsics.shape[-1] == 4:
        homogeneous = jnp.concatenate([points, jnp.ones_like(points[..., :1])], -1)
    image = jnp.einsum("...ij,...nj->...ni", intrinsics, homogeneous)
    depth = image[..., 2]
    return image[..., :2] / jnp.maximum(depth, _NEAR)[..., None], depth


def unproject(intrinsics: Array, pixels: Array, depth: Array) -> Array:
    """Points [..., n, 3] of pixels [..., n, 2] at depths [..., n]; intrinsics [..., 3, 3]."""
    fx, fy = intrinsics[..., 0, 0], intrinsics[..., 1, 1]
    cx, cy = intrinsics[..., 0, 2], intrinsics[..., 1, 2]
    x = (pixels[..., 0] - cx[..., None]) / fx[..., None] * depth
    y = (pixels[..., 1] - cy[..., None]) / fy[..., None] * depth
    return jnp.stack([x, y, depth], -1)


def pixel_grid(height: int, width: int) -> Array:
    """The pixels (u, v) of an image, row by row [height * width, 2]."""
    v, u = jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij")
    return jnp.stack([u.ravel(), v.ravel()], -1).astype(jnp.float32)


def resized(intrinsics: Array, scale_x: float, scale_y: float) -> Array:
    """The intrinsics of the same image at another resolution."""
    scale = jnp.array([[scale_x], [scale_y], [1.0]], intrinsics.dtype)
    return intrinsics * scale

"""How well one frame explains another: warps, SSIM, the minimum over sources, smoothness."""

import jax
import jax.numpy as jnp

from jaxml.core.types import Array, Key
from jaxml.driving.geometry import se3
from jaxml.driving.geometry.camera import pixel_grid, project, unproject
from jaxml.driving.geometry.sample import bilinear
from jaxml.nn import conv

_C1, _C2 = 0.01**2, 0.03**2


def warp_to_target(source: Array, depth: Array, pose: Array, intrinsics: Array) -> Array:
    """The source image as the target's camera would see it.

    Pixels are normalised by (size - 1) and read as if by size, as the published program does: a
    pixel u of the source is read at u size / (size - 1) - 1/2. Beyond the border, its last pixel.

    Args:
      source: [y, x, 3].
      depth: of the target, in metres [y, x].
      pose: target's frame to the source's [4, 4].
      intrinsics: [3, 3].
    """
    height, width = depth.shape
    points = unproject(intrinsics, pixel_grid(height, width), depth.reshape(-1))
    uv, _ = project(intrinsics, se3.transform(pose, points))
    size = jnp.array([[width, height]], uv.dtype)
    return bilinear(source, uv * size / (size - 1) - 0.5, "border").reshape(height, width, -1)


def ssim(a: Array, b: Array) -> Array:
    """(1 - SSIM) / 2, clipped to [0, 1], over 3 x 3 means with reflected borders [b, y, x, c]."""
    sides = ((0, 0), (1, 1), (1, 1), (0, 0))
    a, b = (jnp.pad(x, sides, mode="reflect") for x in (a, b))
    mean_a, mean_b, aa, bb, ab = (conv.avg_pool(x, 3, 1) for x in (a, b, a * a, b * b, a * b))
    var_a, var_b, cov = aa - mean_a**2, bb - mean_b**2, ab - mean_a * mean_b
    top = (2 * mean_a * mean_b + _C1) * (2 * cov + _C2)
    bottom = (mean_a**2 + mean_b**2 + _C1) * (var_a + var_b + _C2)
    return jnp.clip((1 - top / bottom) / 2, 0.0, 1.0)


def photometric_error(predicted: Array, target: Array, ssim_share: float = 0.85) -> Array:
    """Mean over channels of SSIM's and L1's shares [b, y, x]."""
    l1 = jnp.mean(jnp.abs(predicted - target), -1)
    return ssim_share * jnp.mean(ssim(predicted, target), -1) + (1 - ssim_share) * l1


def auto_masked(key: Key, warped: Array, still: Array) -> tuple[Array, Array]:
    """The least error over sources, where no source as it stands explains the pixel better.

    Args:
      key: of the noise of 1e-5 that breaks ties.
      warped: errors of warped sources [s, b, y, x].
      still: errors of the sources as they are [s, b, y, x].

    Returns:
      The minimum over all [b, y, x], and which pixels a warped source explains best, bool.
    """
    still = still + 1e-5 * jax.random.normal(key, still.shape)
    best_warped, best_still = jnp.min(warped, 0), jnp.min(still, 0)
    return jnp.minimum(best_warped, best_still), best_warped < best_still


def smoothness(disparity: Array, image: Array) -> Array:
    """Edge-aware first differences of disparity over its mean; [b, y, x], [b, y, x, 3] -> []."""
    disparity = disparity / (jnp.mean(disparity, (1, 2), keepdims=True) + 1e-7)

    def along(axis: int) -> Array:
        step = jnp.abs(jnp.diff(disparity, axis=axis))
        edge = jnp.mean(jnp.abs(jnp.diff(image, axis=axis)), -1)
        return jnp.mean(step * jnp.exp(-edge))

    return along(2) + along(1)

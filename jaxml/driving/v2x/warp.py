"""Feature maps of one vehicle in the frame of another."""

import jax
import jax.numpy as jnp

from jaxml.core import rng
from jaxml.core.types import Array, Key
from jaxml.driving.detection3d.config import PillarConfig
from jaxml.driving.geometry import se3
from jaxml.driving.geometry.sample import bilinear
from jaxml.driving.v2x.config import NoiseConfig


def _cells(cfg: PillarConfig, pose: Array) -> Array:
    """Where the cells of the receiver's map lie in the sender's, in its cells [y, x, 2]."""
    rows, columns = cfg.map_shape
    x = (jnp.arange(columns) + 0.5) * cfg.cell_m + cfg.grid.x_m[0]
    y = (jnp.arange(rows) + 0.5) * cfg.cell_m + cfg.grid.y_m[0]
    y, x = jnp.meshgrid(y, x, indexing="ij")
    points = jnp.stack([x, y, jnp.zeros_like(x)], -1).reshape(-1, 3)
    theirs = se3.transform(se3.inverse(pose), points)[:, :2]
    low = jnp.array([[cfg.grid.x_m[0], cfg.grid.y_m[0]]])
    return ((theirs - low) / cfg.cell_m - 0.5).reshape(rows, columns, 2)


def warp_bev(feature_yxc: Array, pose: Array, cfg: PillarConfig) -> Array:
    """A map as the receiver would have it; zeros where the sender's map does not reach.

    Args:
      feature_yxc: the sender's map, of `cfg.map_shape` [y, x, c].
      pose: sender's frame to the receiver's [4, 4]; heights and tilts are left out.
      cfg: of both detectors.

    >>> cfg = PillarConfig()
    >>> x = jnp.ones((*cfg.map_shape, 1))
    >>> bool(jnp.allclose(warp_bev(x, jnp.eye(4), cfg), x))
    True
    """
    return bilinear(feature_yxc, _cells(cfg, pose))


def visible(pose: Array, cfg: PillarConfig) -> Array:
    """Share of each cell of the receiver that the sender's map covers [y, x]."""
    return warp_bev(jnp.ones((*cfg.map_shape, 1)), pose, cfg)[..., 0]


def noisy_poses(key: Key, poses: Array, noise: NoiseConfig) -> Array:
    """Poses [a, 4, 4] as the others report them; the first, the ego's own, stays."""
    num = poses.shape[0]
    shift = noise.position_m * jax.random.normal(rng.fold(key, "position"), (num, 2))
    turn = jnp.radians(noise.heading_deg) * jax.random.normal(rng.fold(key, "heading"), (num,))
    error = se3.planar(shift[:, 0], shift[:, 1], turn)
    error = jnp.where((jnp.arange(num) == 0)[:, None, None], jnp.eye(4)[None], error)
    return poses @ error

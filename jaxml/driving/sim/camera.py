"""A camera in the simulated world: colour and exact depth, by the same rays."""

from typing import NamedTuple

import jax.numpy as jnp

from jaxml.core.types import Array
from jaxml.driving.geometry.camera import pixel_grid
from jaxml.driving.sim.config import CameraConfig
from jaxml.driving.sim.raycast import cast

LIDAR_TO_CAMERA = jnp.array([[0.0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
"""Axes of a camera that looks along +x of the LiDAR's frame from the same place."""
_SUN = jnp.array([0.4, 0.3, 0.87])
_CLASS_COLOURS = jnp.array([[0.75, 0.15, 0.15], [0.15, 0.65, 0.25], [0.2, 0.3, 0.85]])


class Picture(NamedTuple):
    """One image.

    Attributes:
      colour: in [0, 1] [y, x, 3].
      depth: along the optical axis in metres; the background at the range limit [y, x].
      box: which box is seen, -1 ground, -2 nothing, int32 [y, x].
    """

    colour: Array
    depth: Array
    box: Array


def intrinsics(cfg: CameraConfig) -> Array:
    """The camera's matrix [3, 3]."""
    focal = 0.5 * cfg.width / jnp.tan(jnp.radians(cfg.view_deg) / 2)
    zero, one = jnp.zeros(()), jnp.ones(())
    rows = [focal, zero, (cfg.width - 1) / 2, zero, focal, (cfg.height - 1) / 2, zero, zero, one]
    return jnp.stack([jnp.asarray(x, jnp.float32) for x in rows]).reshape(3, 3)


def camera_rays(cfg: CameraConfig) -> tuple[Array, Array]:
    """Unit directions in the LiDAR's frame [y x, 3], and each one's share along the axis [y x]."""
    k = intrinsics(cfg)
    uv = pixel_grid(cfg.height, cfg.width)
    x, y = (uv[:, 0] - k[0, 2]) / k[0, 0], (uv[:, 1] - k[1, 2]) / k[1, 1]
    ways = jnp.stack([jnp.ones_like(x), -x, -y], -1)
    length = jnp.linalg.norm(ways, axis=-1)
    return ways / length[:, None], 1 / length


def look(
    cfg: CameraConfig,
    boxes: Array,
    mask: Array,
    label: Array,
    pose: Array,
    ground_z: float,
) -> Picture:
    """What the camera sees from the origin of the frame the boxes are in.

    Textures are fixed to the ground and to the boxes, so that they move as things do.

    Args:
      cfg: the camera.
      boxes: [n, 7].
      mask: bool [n].
      label: class by which a box is coloured, int32 [n].
      pose: this frame to the world's [4, 4], which the ground's texture is fixed to.
      ground_z: height of the ground in this frame.
    """
    ways, along = camera_rays(cfg)
    hits = cast(jnp.zeros(3), ways, boxes, mask, jnp.float32(ground_z))
    seen = hits.distance * along < cfg.range_m
    distance = jnp.where(seen, hits.distance, cfg.range_m / along)
    point = ways * distance[:, None]
    world = point @ pose[:3, :3].T + pose[None, :3, 3]
    owner = jnp.maximum(hits.box, 0)
    local = point - boxes[owner, :3]
    base = _CLASS_COLOURS[jnp.clip(label[owner], 0, 2)]
    shade = 0.55 + 0.45 * jnp.maximum(jnp.sum(hits.normal * _SUN[None], -1), 0.0)
    stripes = 0.85 + 0.15 * jnp.sin(7.0 * jnp.sum(local, -1))
    car = base * (shade * stripes)[:, None]
    grey = jnp.broadcast_to(_ground(world)[:, None], car.shape)
    sky = jnp.stack([0.6 + 0 * along, 0.75 + 0 * along, 0.9 + 0.1 * ways[:, 2]], -1)
    colour = jnp.where((hits.box >= 0)[:, None], car, grey)
    colour = jnp.where(seen[:, None], colour, sky)
    shape = (cfg.height, cfg.width)
    depth = (distance * along).reshape(shape)
    index = jnp.where(seen, hits.box, -2).reshape(shape)
    return Picture(jnp.clip(colour, 0, 1).reshape(*shape, 3), depth, index)


def _ground(world: Array) -> Array:
    """Asphalt: patches of three sizes, at fixed places."""
    x, y = world[:, 0], world[:, 1]
    waves = jnp.sin(1.7 * x + 0.4 * y) * jnp.sin(1.3 * y - 0.5 * x)
    waves = waves + 0.6 * jnp.sin(5.1 * x) * jnp.sin(4.3 * y + 1.0) + 0.4 * jnp.sin(0.31 * x * y)
    return 0.4 + 0.1 * waves

"""Rays against boxes and the ground: slab test in the frame of each box, nearest hit wins."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxml.core import rng
from jaxml.core.types import Array, Key
from jaxml.driving.sim.config import LidarConfig

_TINY = 1e-6


class Hits(NamedTuple):
    """Where rays end.

    Attributes:
      distance: along the ray, in metres; infinite where it ends nowhere [r].
      box: which box, -1 for the ground, -2 for nothing, int32 [r].
      normal: of the surface [r, 3].
    """

    distance: Array
    box: Array
    normal: Array


def cast(origin: Array, direction: Array, boxes: Array, mask: Array, ground_z: Array) -> Hits:
    """Nearest hits of rays.

    Args:
      origin: of all rays [3].
      direction: unit vectors [r, 3].
      boxes: [n, 7]; a box that holds the origin is not seen (it is the sensor's own vehicle).
      mask: which boxes there are, bool [n].
      ground_z: height of the ground [].

    Returns:
      Hits; a distance is exact up to rounding, noise is added by `scan`.
    """
    c, s = jnp.cos(boxes[:, 6])[:, None], jnp.sin(boxes[:, 6])[:, None]
    start = origin[None] - boxes[:, :3]
    start = _turned(start[:, None], c, s)  # [n, 1, 3]
    way = _turned(direction[None], c, s)  # [n, r, 3]
    half = boxes[:, None, 3:6] / 2
    safe = jnp.where(jnp.abs(way) < _TINY, jnp.where(way < 0, -_TINY, _TINY), way)
    one, two = (-half - start) / safe, (half - start) / safe
    enter, leave = jnp.minimum(one, two), jnp.maximum(one, two)
    near, far = jnp.max(enter, -1), jnp.min(leave, -1)
    hit = mask[:, None] & (near <= far) & (near > 0)
    distance = jnp.where(hit, near, jnp.inf)
    nearest = jnp.argmin(distance, 0)
    ray = jnp.arange(direction.shape[0])
    to_box = distance[nearest, ray]
    to_ground = (ground_z - origin[2]) / jnp.where(
        direction[:, 2] < -_TINY, direction[:, 2], -_TINY
    )
    to_ground = jnp.where((direction[:, 2] < -_TINY) & (to_ground > 0), to_ground, jnp.inf)
    on_ground = to_ground < to_box
    best = jnp.minimum(to_box, to_ground)
    index = jnp.where(on_ground, -1, nearest).astype(jnp.int32)
    index = jnp.where(jnp.isinf(best), -2, index)
    face = jnp.argmax(enter[nearest, ray], -1)
    sign = -jnp.sign(way[nearest, ray, face])
    local = jax.nn.one_hot(face, 3) * sign[:, None]
    normal = _turned(local, c[nearest, 0], -s[nearest, 0])
    up = jnp.broadcast_to(jnp.array([0.0, 0, 1], normal.dtype), normal.shape)
    return Hits(best, index, jnp.where(on_ground[:, None], up, normal))


def _turned(v: Array, c: Array, s: Array) -> Array:
    """Vectors [..., 3] turned about z by minus the angle whose cosine and sine are given."""
    x, y = v[..., 0], v[..., 1]
    z = jnp.broadcast_to(v[..., 2], jnp.broadcast_shapes(x.shape, c.shape))
    return jnp.stack([c * x + s * y, c * y - s * x, z], -1)


def lidar_rays(cfg: LidarConfig) -> Array:
    """Unit directions of one turn [beams * azimuths, 3], row by row from below."""
    up = jnp.radians(jnp.linspace(cfg.lowest_deg, cfg.highest_deg, cfg.beams))
    around = 2 * jnp.pi * jnp.arange(cfg.azimuths) / cfg.azimuths - jnp.pi
    up, around = jnp.meshgrid(up, around, indexing="ij")
    parts = [jnp.cos(up) * jnp.cos(around), jnp.cos(up) * jnp.sin(around), jnp.sin(up)]
    return jnp.stack(parts, -1).reshape(-1, 3)


def scan(
    key: Key, cfg: LidarConfig, boxes: Array, mask: Array, albedo: Array
) -> tuple[Array, Array, Array]:
    """One turn of a LiDAR that stands at the origin, `height_m` above the ground.

    Args:
      key: of the noise.
      cfg: the sensor.
      boxes: in the sensor's frame [n, 7].
      mask: bool [n].
      albedo: how bright each box is [n].

    Returns:
      Points x, y, z, intensity [r, 4] (zeros where nothing returns), which returned, bool [r], and
      the box each came from (-1 ground, -2 nothing), int32 [r].
    """
    ways = lidar_rays(cfg)
    hits = cast(jnp.zeros(3), ways, boxes, mask, jnp.float32(-cfg.height_m))
    noise = cfg.noise_m * jax.random.normal(rng.fold(key, "range"), hits.distance.shape)
    lost = jax.random.bernoulli(rng.fold(key, "dropout"), cfg.dropout, hits.distance.shape)
    seen = (hits.distance < cfg.range_m) & ~lost
    distance = jnp.where(seen, hits.distance + noise, 0.0)
    facing = jnp.abs(jnp.sum(hits.normal * ways, -1))
    bright = jnp.where(hits.box >= 0, albedo[jnp.maximum(hits.box, 0)], 0.2)
    points = jnp.concatenate([ways * distance[:, None], (bright * facing)[:, None]], -1)
    return jnp.where(seen[:, None], points, 0.0), seen, jnp.where(seen, hits.box, -2)

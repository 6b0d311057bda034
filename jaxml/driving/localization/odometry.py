"""LiDAR odometry: each cloud is registered to the map of those before it."""

import functools
from collections.abc import Sequence

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from jaxml.core.types import Array
from jaxml.driving.geometry import se3
from jaxml.driving.localization.config import OdometryConfig
from jaxml.driving.localization.icp import Registration, Residual, align, point_to_plane
from jaxml.driving.localization.voxelmap import VoxelMap, empty_map, insert, thin


@flax.struct.dataclass
class Odometry:
    """What is carried from cloud to cloud.

    Attributes:
      pose: LiDAR to the first cloud's frame [4, 4].
      motion: from the cloud before to this one, which is expected to go on [4, 4].
      world: the map, in the first cloud's frame.
      deviation2: sum of squared deviations from the motion model [].
      deviations: how many deviations it is of [].
      frames: clouds seen, int32 [].
    """

    pose: Array
    motion: Array
    world: VoxelMap
    deviation2: Array
    deviations: Array
    frames: Array


def first(cfg: OdometryConfig) -> Odometry:
    """Before any cloud."""
    eye = jnp.eye(4, dtype=jnp.float32)
    zero = jnp.zeros((), jnp.float32)
    world = empty_map(cfg.map_room, cfg.buckets, cfg.voxel_m, cfg.parts)
    return Odometry(eye, eye, world, zero, zero, jnp.zeros((), jnp.int32))


def pad_clouds(clouds: Sequence[np.ndarray], room: int) -> tuple[np.ndarray, np.ndarray]:
    """Clouds [p_i, >= 3] as one array [f, room, 3] with a mask [f, room].

    Raises:
      ValueError: no cloud, or one with more points than room.
    """
    most = max((len(cloud) for cloud in clouds), default=0)
    if not 0 < most <= room:
        raise ValueError(f"room must hold the largest cloud; got room={room}, largest {most}.")
    points = np.zeros((len(clouds), room, 3), np.float32)
    mask = np.zeros((len(clouds), room), bool)
    for i, cloud in enumerate(clouds):
        points[i, : len(cloud)], mask[i, : len(cloud)] = cloud[:, :3], True
    return points, mask


def step(
    cfg: OdometryConfig, now: Odometry, points: Array, mask: Array, residual: Residual
) -> tuple[Odometry, Registration]:
    """Takes the next cloud [p, 3] in.

    The limit of correspondences is 3 sigma, sigma the root mean square of how far the motion model
    was off, so far; the kernel is as wide as sigma.
    """
    distance = jnp.linalg.norm(points, axis=-1)
    mask = mask & (distance < cfg.max_range_m) & (distance >= cfg.min_range_m)
    fine, fine_mask = thin(points, mask, voxel_m=0.5 * cfg.voxel_m, room=points.shape[0])
    source, source_mask = thin(
        fine, fine_mask, voxel_m=1.5 * cfg.voxel_m, room=min(cfg.source_room, points.shape[0])
    )
    sigma = jnp.where(
        now.deviations > 0,
        jnp.sqrt(now.deviation2 / jnp.maximum(now.deviations, 1)),
        cfg.initial_sigma_m,
    )
    guess = now.pose @ now.motion
    found = align(
        now.world,
        source,
        source_mask,
        guess,
        limit_m=3 * sigma,
        kernel_m=sigma,
        residual=residual,
        max_iterations=cfg.max_iterations,
        tolerance=cfg.tolerance,
        cell_room=cfg.cell_room,
        octant=True,
    )
    pose = se3.straightened(jnp.where(now.frames > 0, found.pose, guess))
    off = _deviation(se3.inverse(guess) @ pose, cfg.max_range_m)
    counts = (off > cfg.min_motion_m) & (now.frames > 0)
    keep = jnp.linalg.norm(now.world.points - pose[:3, 3][None], axis=-1) < cfg.max_range_m
    world = insert(now.world, se3.transform(pose, fine), fine_mask, keep)
    after = Odometry(
        pose,
        se3.inverse(now.pose) @ pose,
        world,
        now.deviation2 + jnp.where(counts, off**2, 0.0),
        now.deviations + counts,
        now.frames + 1,
    )
    return after, found._replace(pose=pose)


def _deviation(error: Array, range_m: float) -> Array:
    """How far a wrong pose moves a point at the range limit, at most."""
    angle = jnp.linalg.norm(se3.log(error)[:3])
    return 2 * range_m * jnp.sin(angle / 2) + jnp.linalg.norm(error[:3, 3])


@functools.partial(jax.jit, static_argnames=("cfg", "residual"))
def run(
    points: Array, mask: Array, cfg: OdometryConfig, residual: Residual = point_to_plane
) -> tuple[Array, Registration]:
    """The path of a whole drive, in one program.

    Args:
      points: clouds in order [f, p, 3], from `pad_clouds`.
      mask: bool [f, p].
      cfg: of the odometry.
      residual: see `align`.

    Returns:
      Poses [f, 4, 4], LiDAR to the first cloud's frame, and every registration.
    """

    def take(now: Odometry, cloud: tuple[Array, Array]) -> tuple[Odometry, Registration]:
        return step(cfg, now, *cloud, residual)

    _, found = jax.lax.scan(take, first(cfg), (points, mask))
    return found.pose, found

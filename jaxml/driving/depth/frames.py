"""What depth is learnt from: simulated triplets of a moving car, or the real drive."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxml.core import rng
from jaxml.core.types import Array, Key, PyTree
from jaxml.driving.data.drive import drive
from jaxml.driving.geometry import se3
from jaxml.driving.sim import camera
from jaxml.driving.sim.config import CameraConfig, SimConfig
from jaxml.driving.sim.scene import agent_poses, viewpoints

HEIGHT, WIDTH = 96, 320
"""Of the real drive's images, half of what is stored."""


def triplet(key: Key, cfg: SimConfig, boxes: Array, label: Array, mask: Array) -> dict[str, Array]:
    """Three frames of a car that drives by a still scene, and the exact depth of the middle one.

    The car moves 0.3 to 0.9 m a frame and turns by up to 0.6 degrees.

    Returns:
      `before`, `image`, `after` [y, x, 3], `depth` [y, x], `intrinsics` [3, 3].
    """
    views = viewpoints(key, cfg, boxes, label, mask)
    pose = agent_poses(cfg, boxes, views)[0]
    others = mask & (jnp.arange(len(mask)) != views.index[0])
    step = jax.random.uniform(rng.fold(key, "step"), (), minval=0.3, maxval=0.9)
    turn = jax.random.uniform(rng.fold(key, "turn"), (), minval=-0.01, maxval=0.01)

    def at(number: int) -> camera.Picture:
        move = se3.planar(number * step, jnp.zeros(()), number * turn)
        now = pose @ move
        mine = se3.boxes_to(se3.inverse(now), boxes)
        return camera.look(cfg.camera, mine, others, label, now, -cfg.lidar.height_m)

    before, middle, after = (at(number) for number in (-1, 0, 1))
    return {
        "before": before.colour,
        "image": middle.colour,
        "after": after.colour,
        "depth": middle.depth,
        "intrinsics": camera.intrinsics(cfg.camera),
    }


def sense(key: Key, cfg: SimConfig, batch: PyTree) -> dict[str, Array]:
    """Triplets of a batch of layouts."""
    keys = jax.random.split(rng.fold(key, "scene"), batch["mask"].shape[0])
    return jax.vmap(lambda k, *x: triplet(k, cfg, *x))(
        keys, batch["boxes"], batch["label"], batch["mask"]
    )


def thinned(depth: Array, every: int = 4) -> Array:
    """Depth as a LiDAR leaves it: each so many rows and columns, 0 elsewhere; no sky."""
    rows = jnp.arange(depth.shape[-2]) % every == 0
    columns = jnp.arange(depth.shape[-1]) % every == 0
    kept = rows[:, None] & columns[None]
    return jnp.where(kept & (depth < 79.9), depth, 0.0)


def real_frames(path: Path | None = None) -> dict[str, np.ndarray]:
    """The real drive: `image` in [0, 1] [f, 96, 320, 3], `depth` of LiDAR points [f, 96, 320].

    Raises:
      DataNotFoundError: there is no copy.
    """
    found = drive(path)
    images = np.stack(found.images).astype(np.float32) / 255
    images = images.reshape(len(images), HEIGHT, 2, WIDTH, 2, 3).mean((2, 4))
    depth = np.zeros((len(images), HEIGHT, WIDTH), np.float32)
    scale = np.array([WIDTH / found.image_size[0], HEIGHT / found.image_size[1]])
    for frame, points in zip(depth, found.depth, strict=True):
        far_first = points[np.argsort(-points[:, 2], kind="stable")]  # the nearest stays
        column, row = np.floor(far_first[:, :2] * scale).astype(int).T
        inside = (column >= 0) & (column < WIDTH) & (row >= 0) & (row < HEIGHT)
        frame[row[inside], column[inside]] = far_first[inside, 2]
    return {"image": images.astype(np.float32), "depth": depth}


CAMERA = {
    "tiny": CameraConfig(32, 64),
    "laptop": CameraConfig(64, 192),
    "h100": CameraConfig(96, 320),
}
"""Simulated cameras by scale."""

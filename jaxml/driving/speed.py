"""What perception's inner loops cost: rotated overlap, pillars, registration."""

import functools
import statistics

import jax
import jax.numpy as jnp
import numpy as np

from jaxml.core.types import Array
from jaxml.driving import localization as loc
from jaxml.driving.detection3d import pillars
from jaxml.driving.detection3d.config import PRESETS
from jaxml.driving.detection3d.pillars import pillarize, scatter_max
from jaxml.driving.geometry.rotated_iou import rotated_iou_bev
from jaxml.driving.localization import recipe
from jaxml.report import timing


def boxes(num: int, seed: int, spread_m: float = 20.0) -> np.ndarray:
    """Boxes [n, 7] about as dense as candidates before suppression."""
    draw = np.random.default_rng(seed)
    where = draw.normal(size=(num, 3)) * [spread_m, spread_m, 0.3]
    size = draw.uniform([3.5, 1.6, 1.4], [5.0, 2.0, 1.8], (num, 3))
    turn = draw.uniform(-np.pi, np.pi, (num, 1))
    return np.concatenate([where, size, turn], 1).astype(np.float32)


@jax.jit
def all_pairs(a: Array, b: Array) -> Array:
    """Overlap of all pairs from above [n, m]."""
    return rotated_iou_bev(a[:, None], b[None])


@functools.partial(jax.jit, static_argnames="width")
def to_grid(points: Array, mask: Array, kernel: Array, width: int) -> Array:
    """Points to the map of pillars of the KITTI grid: features, linear layer, maximum."""
    grid = PRESETS["kitti"].grid
    made = pillarize(points, mask, grid)
    value = jax.nn.relu(made.feature @ kernel) * made.mask[:, None]
    return scatter_max(value, made.cell, grid.shape).reshape(*grid.shape, width)


def cloud(num: int, seed: int = 0) -> np.ndarray:
    """Points [p, 4] of the density of a LiDAR: many near, few far."""
    draw = np.random.default_rng(seed)
    r, angle = 69 * draw.uniform(0.03, 1, num) ** 2, draw.uniform(-0.5, 0.5, num)
    z, bright = draw.uniform(-2, 0.5, num), draw.uniform(0, 1, num)
    columns = [r * np.cos(angle), r * np.sin(angle), z, bright]
    return np.stack(columns, -1).astype(np.float32)


def alone(repeats: int = 20, points: int = 120_000) -> list[timing.Row]:
    """Rows without peers, as a GPU machine can take them."""
    a, b = (jnp.asarray(boxes(1000, seed)) for seed in (0, 1))
    cloud_p, mask = jnp.asarray(cloud(points)), jnp.ones(points, bool)
    kernel = jax.random.normal(jax.random.key(0), (pillars.FEATURES, 64))
    calls = {
        "rotated IoU 1000 x 1000": lambda: all_pairs(a, b),
        f"pillarise and scatter {points}": lambda: to_grid(cloud_p, mask, kernel, 64),
    }
    found = timing.alternate(calls, repeats=repeats, warmups=2)
    rows = [timing.Row(name, "call_ms", "ms", 1e3 * t.median) for name, t in found.items()]
    return [*rows, odometry_row()]


def odometry_row(repeats: int = 3) -> timing.Row:
    """Milliseconds of one frame of odometry: the real drive, or a simulated one."""
    drive, name = clouds()
    cfg = loc.PRESETS["laptop"]
    points, mask = (jnp.asarray(x) for x in loc.pad_clouds(drive, cfg.cloud_room))

    def run() -> Array:
        return loc.run(points, mask, cfg, loc.point_to_point)[0]

    jax.block_until_ready(run())
    median = statistics.median(timing.once(run) for _ in range(repeats))
    return timing.Row(f"odometry, {name}", "frame_ms", "ms", 1e3 * median / len(drive))


def clouds() -> tuple[list[np.ndarray], str]:
    """Clouds of a drive in order, and where they are from."""
    from jaxml.driving import data
    from jaxml.inputs.integrity import DataNotFoundError

    try:
        return data.drive(with_images=False).clouds, "78 real clouds"
    except DataNotFoundError:
        return recipe.simulated(12)[0], "12 simulated clouds"

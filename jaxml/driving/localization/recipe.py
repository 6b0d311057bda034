"""Odometry on the real drive beside KISS-ICP's path, or on a simulated drive."""

import dataclasses
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxml.core import rng
from jaxml.driving import data
from jaxml.driving.geometry import se3
from jaxml.driving.localization import odometry
from jaxml.driving.localization.config import PRESETS
from jaxml.driving.localization.icp import point_to_plane, point_to_point
from jaxml.driving.localization.path import ape, path_length
from jaxml.driving.sim.config import LidarConfig
from jaxml.driving.sim.layout import generated
from jaxml.driving.sim.raycast import scan
from jaxml.inputs.integrity import DataNotFoundError
from jaxml.report import figure
from jaxml.report.claim import Promise, at_most
from jaxml.report.recipe import Context, Figure, Outcome

RESIDUALS = {"point": point_to_point, "plane": point_to_plane}
DRIVE = Promise(
    "driving",
    "odometry-kiss",
    "LiDAR odometry by the KISS-ICP recipe follows KISS-ICP 1.3.0 on a real drive",
    "same path (goal of ours: within 2 %)",
    "none",
    "% of the path",
    at_most(2.0, "largest distance of positions over the length of the path"),
)


class Paths(NamedTuple):
    """A path found and the one it is compared with.

    Attributes:
      found: [f, 4, 4].
      truth: [f, 4, 4].
      source: of the clouds.
      reference: what `truth` is.
      length_m: of `truth`.
      max_m: largest distance of positions.
    """

    found: np.ndarray
    truth: np.ndarray
    source: str
    reference: str
    length_m: float
    max_m: float


def paths(
    preset: str, residual: str = "point", frames: int | None = None, path: Path | None = None
) -> Paths:
    """Runs odometry over the drive, or over a simulated one where it is not found."""
    cfg = PRESETS[preset]
    try:
        drive = data.drive(path, with_images=False)
        clouds, truth = drive.clouds[:frames], drive.poses[:frames]
        words = ("KITTI raw, one drive of 2011_09_26", "path of KISS-ICP 1.3.0")
    except DataNotFoundError:
        if path is not None:
            raise
        clouds, truth = simulated(frames or 12)
        words = ("a simulated drive", "exact path")
    room = max(len(cloud) for cloud in clouds)
    cfg = dataclasses.replace(
        cfg, cloud_room=room, map_room=max(cfg.map_room, room + cfg.source_room)
    )
    points, mask = odometry.pad_clouds(clouds, room)
    found, _ = odometry.run(jnp.asarray(points), jnp.asarray(mask), cfg, RESIDUALS[residual])
    found = np.asarray(found, np.float64)
    return Paths(found, truth, *words, path_length(truth), ape(truth, found)["max_m"])


def simulated(frames: int, step_m: float = 0.5) -> tuple[list[np.ndarray], np.ndarray]:
    """Clouds and exact poses of a car that drives straight through a made-up street."""
    street = generated(1, 48, seed=3)
    boxes = jnp.asarray(street.boxes[0])
    height = LidarConfig().height_m
    lidar = LidarConfig(24, 180, dropout=0.0, height_m=height)
    there = jnp.asarray(street.mask[0]) & (jnp.linalg.norm(boxes[:, :2], axis=-1) > 3)
    albedo = jnp.full(len(boxes), 0.5)
    sense = jax.jit(
        lambda key, pose: scan(key, lidar, se3.boxes_to(se3.inverse(pose), boxes), there, albedo)[
            :2
        ]
    )
    clouds, poses = [], []
    for i in range(frames):
        pose = se3.planar(*(jnp.float32(x) for x in (step_m * i, 0.0, 0.0)), z=jnp.float32(height))
        points, seen = sense(rng.fold(jax.random.key(0), i), pose)
        clouds.append(np.asarray(points)[np.asarray(seen), :3])
        poses.append(np.asarray(pose, np.float64))
    return clouds, np.linalg.inv(poses[0]) @ np.stack(poses)


def picture(run: Paths) -> Figure:
    """Both paths from above."""
    series = {
        name: (path[:, 0, 3].tolist(), path[:, 1, 3].tolist())
        for name, path in ((run.reference, run.truth), ("found", run.found))
    }
    caption = f"{run.source}, {len(run.found)} frames. The axes have different scales."
    return figure.lines(
        "driving-odometry", "Odometry from above", caption, series, x="x (m)", y="y (m)"
    )


def measure(scale: str, context: Context) -> Outcome:
    """The claim, with the picture."""
    context.say("odometry on the real drive (simulated without the data)")
    preset, frames = ("tiny", 4) if scale == "tiny" else ("laptop", None)
    run = paths(preset, "point", frames)
    if run.reference == "exact path":
        why = "needs the set kitti_raw78 (set JAXML_DATA); a simulated drive was run instead"
        claim = DRIVE.missing(why, context.scale)
    elif scale == "tiny":
        claim = DRIVE.missing("the tiny scale runs the first frames only", context.scale)
    else:
        why = f"{run.max_m:.3f} m of {run.length_m:.2f} m; the reference was computed, not surveyed"
        claim = DRIVE.measured(100 * run.max_m / run.length_m, context.scale, why=why)
    row = (run.source, "JAXML_DATA" if "KITTI" in run.source else "made", "", "CC BY-NC-SA 3.0")
    return Outcome([claim], [picture(run)], data=[row])

"""Where vehicles stand: real layouts of KITTI tracking in the world's frame, or made-up streets."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxml.core import check
from jaxml.driving.boxes import kitti
from jaxml.driving.data import archive
from jaxml.driving.tracks import kitti as tracks
from jaxml.inputs.integrity import DataNotFoundError

CLASSES = ("Car", "Pedestrian", "Cyclist")
_NAMES = {"Car": 0, "Van": 0, "Truck": 0, "Pedestrian": 1, "Person": 1, "Cyclist": 2}
_LIDAR_HEIGHT = 1.73


class Layouts(NamedTuple):
    """Frames, each a set of boxes on a flat ground z = 0.

    Attributes:
      boxes: [f, room, 7] in the frame of the recording vehicle's LiDAR, but z above the ground.
      label: index into `CLASSES`, int32 [f, room].
      mask: bool [f, room].
      sequence: int32 [f].
      pose: recording vehicle's LiDAR to the sequence's world [f, 4, 4], planar.
      source: "kitti_tracking" or "generated".
    """

    boxes: np.ndarray
    label: np.ndarray
    mask: np.ndarray
    sequence: np.ndarray
    pose: np.ndarray
    source: str

    def where(self, keep: np.ndarray) -> "Layouts":
        """Those frames."""
        return Layouts(
            self.boxes[keep],
            self.label[keep],
            self.mask[keep],
            self.sequence[keep],
            self.pose[keep],
            self.source,
        )


def real(room: int = 32, path: Path | str | None = None, *, every: int = 5) -> Layouts:
    """Every so many frames of the 21 labelled sequences; the recording car itself is box 0.

    Raises:
      DataNotFoundError: there is no copy of the labels.
      ValueError: `room` below 2.
    """
    check.at_least(2, room=room)
    files, _ = archive.texts("kitti_tracking", path)
    parts = [_sequence(files, number, room, every) for number in range(21)]
    boxes, label, mask, sequence, pose = (np.concatenate(x) for x in zip(*parts, strict=True))
    return Layouts(boxes, label, mask, sequence, pose, "kitti_tracking")


def _sequence(files: dict[str, str], number: int, room: int, every: int) -> tuple:
    name = f"{number:04d}"
    calibration = kitti.parse_calibration(files[f"calib/{name}"])
    poses = planar_poses(files[f"oxts/{name}"])
    rows = [line.split() for line in files[f"label/{name}"].splitlines()]
    by_frame: dict[int, list[list[str]]] = {}
    for row in rows:
        if row[2] in _NAMES:
            by_frame.setdefault(int(row[0]), []).append(row)
    chosen = [f for f in range(0, len(poses), every) if f in by_frame]
    boxes = np.tile(np.array([0, 0, 0.5, 1, 1, 1, 0], np.float32), (len(chosen), room, 1))
    label, mask = np.zeros((len(chosen), room), np.int32), np.zeros((len(chosen), room), bool)
    for i, frame in enumerate(chosen):
        objects = kitti.parse_objects("\n".join(" ".join(r[2:17]) for r in by_frame[frame]))
        found = kitti.from_kitti(objects, calibration)
        found = np.concatenate([_recorder(), found])
        near = np.argsort(np.linalg.norm(found[:, :2], axis=-1), kind="stable")[:room]
        found[:, 2] = found[:, 5] / 2  # on the flat ground
        names = np.array([0, *(_NAMES[n] for n in objects.name)], np.int32)
        boxes[i, : len(near)], label[i, : len(near)] = found[near], names[near]
        mask[i, : len(near)] = True
    sequence = np.full(len(chosen), number, np.int32)
    return boxes, label, mask, sequence, poses[chosen]


def _recorder() -> np.ndarray:
    """The recording car around its own LiDAR."""
    return np.array([[-0.5, 0.0, 0.75, 4.5, 1.8, 1.5, 0.0]])


def planar_poses(text: str) -> np.ndarray:
    """Poses [f, 4, 4] of GPS/IMU lines on a plane: east, north and yaw, from the first one."""
    full = tracks.poses(text)
    yaw = np.arctan2(full[:, 1, 0], full[:, 0, 0])
    pose = np.tile(np.eye(4, dtype=np.float32), (len(full), 1, 1))
    pose[:, 0, 0], pose[:, 0, 1] = np.cos(yaw), -np.sin(yaw)
    pose[:, 1, 0], pose[:, 1, 1] = np.sin(yaw), np.cos(yaw)
    pose[:, :2, 3] = full[:, :2, 3]
    return pose


def generated(num: int, room: int = 32, seed: int = 0) -> Layouts:
    """Made-up streets: parked rows, traffic on both sides, people; for machines without KITTI."""
    check.positive(num=num)
    check.at_least(8, room=room)
    rng = np.random.default_rng(seed)
    boxes = np.tile(np.array([0, 0, 0.5, 1, 1, 1, 0], np.float32), (num, room, 1))
    label, mask = np.zeros((num, room), np.int32), np.zeros((num, room), bool)
    for i in range(num):
        rows, names = _street(rng)
        keep = min(room, len(rows))
        boxes[i, :keep], label[i, :keep], mask[i, :keep] = rows[:keep], names[:keep], True
    sequence = np.arange(num, dtype=np.int32) % 21
    return Layouts(
        boxes, label, mask, sequence, np.tile(np.eye(4, dtype=np.float32), (num, 1, 1)), "generated"
    )


def _street(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    rows, names = [_recorder()[0]], [0]
    for lane, turn in ((-5.5, 0.0), (-2.8, 0.0), (2.8, np.pi), (5.5, np.pi), (0.0, 0.0)):
        at = -38 + rng.uniform(0, 10)
        while at < 38:
            at += rng.uniform(6, 18)
            size = rng.normal([4.1, 1.7, 1.5], [0.35, 0.1, 0.08])
            if lane == 0.0 and abs(at) < 9:
                continue
            where = [at, lane + rng.normal() * 0.3, size[2] / 2]
            rows.append(np.array([*where, *size, turn + rng.normal() * 0.06]))
            names.append(0)
    for _ in range(rng.integers(2, 6)):
        size, name = ((0.8, 0.6, 1.75), 1) if rng.random() < 0.6 else ((1.8, 0.6, 1.75), 2)
        where = [rng.uniform(-30, 30), rng.choice([-8.5, 8.5]) + rng.normal() * 0.5, size[2] / 2]
        rows.append(np.array([*where, *size, rng.uniform(-np.pi, np.pi)]))
        names.append(name)
    order = np.argsort(np.linalg.norm(np.array(rows)[:, :2], axis=-1), kind="stable")
    return np.array(rows)[order], np.array(names, np.int32)[order]


def layouts(room: int = 32, path: Path | str | None = None) -> Layouts:
    """The real layouts where they are found, made-up ones otherwise."""
    try:
        return real(room, path)
    except DataNotFoundError:
        return generated(600, room)


def crowded(every: Layouts, least: int) -> Layouts:
    """The frames with so many cars or more; KITTI labels only what its camera sees.

    Raises:
      ValueError: there is none.
    """
    keep = ((every.label == 0) & every.mask).sum(1) >= least
    if not keep.any():
        raise ValueError(f"least must leave some frames; got least={least}, none left.")
    return every.where(keep)


def split(every: Layouts) -> tuple[Layouts, Layouts]:
    """Training and validation, by whole sequences."""
    held = np.isin(every.sequence, tracks.VALIDATION)
    return every.where(~held), every.where(held)

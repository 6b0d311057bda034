"""Where vehicles stand: real layouts of KITTI tracking in the world's frame, or made-up streets."""

import functools
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxml.core import check
from jaxml.driving.boxes import kitti
from jaxml.driving.data import archive
from jaxml.driving.tracks import kitti as tracks
from jaxml.inputs.integrity import DataNotFoundError

CLASSES = ("Car", "Pedestrian", "Cyclist")
_NAMES = {"Car": 0, "Van": 0, "Truck": 0, "Pedestrian": 1, "Person": 1, "Cyclist": 2}
SECONDS = 0.1
"""Between two frames of KITTI."""
_RECORDER = -1
"""Track number of the recording car."""


class Layouts(NamedTuple):
    """Frames, each a set of boxes on a flat ground z = 0.

    Attributes:
      boxes: [f, room, 7] in the frame of the recording vehicle's LiDAR, but z above the ground.
      label: index into `CLASSES`, int32 [f, room].
      mask: bool [f, room].
      sequence: int32 [f].
      pose: recording vehicle's LiDAR to the sequence's world [f, 4, 4], planar.
      velocity: of each box over the ground, along the layout's axes, m/s [f, room, 2]; 0 where a
        track has one frame only.
      source: "kitti_tracking" or "generated".
    """

    boxes: np.ndarray
    label: np.ndarray
    mask: np.ndarray
    sequence: np.ndarray
    pose: np.ndarray
    velocity: np.ndarray
    source: str

    def where(self, keep: np.ndarray) -> "Layouts":
        """Those frames."""
        return self._replace(**{name: getattr(self, name)[keep] for name in self._fields[:-1]})


def real(room: int = 32, path: Path | str | None = None, *, every: int = 5) -> Layouts:
    """Every so many frames of the 21 labelled sequences; the recording car itself is box 0.

    Raises:
      DataNotFoundError: there is no copy of the labels.
      ValueError: `room` below 2.
    """
    check.at_least(2, room=room)
    files, _ = archive.texts("kitti_tracking", path)
    parts = [_sequence(files, number, room, every) for number in range(21)]
    found = map(np.concatenate, zip(*parts, strict=True))
    arrays: dict[str, Any] = dict(zip(Layouts._fields, found, strict=False))
    return Layouts(**arrays, source="kitti_tracking")


def _sequence(files: dict[str, str], number: int, room: int, every: int) -> tuple:
    name = f"{number:04d}"
    calibration = kitti.parse_calibration(files[f"calib/{name}"])
    poses = planar_poses(files[f"oxts/{name}"])
    rows = [line.split() for line in files[f"label/{name}"].splitlines()]
    by_frame: dict[int, list[list[str]]] = {}
    for row in rows:
        if row[2] in _NAMES:
            by_frame.setdefault(int(row[0]), []).append(row)

    @functools.cache
    def objects(frame: int) -> _Objects:
        lines = by_frame.get(frame, []) if 0 <= frame < len(poses) else []
        found = kitti.parse_objects("\n".join(" ".join(r[2:17]) for r in lines))
        rows = np.concatenate([_recorder(), kitti.from_kitti(found, calibration)])
        names = np.array([0, *(_NAMES[n] for n in found.name)], np.int32)
        return _Objects(rows, names, [_RECORDER, *(int(r[1]) for r in lines)])

    chosen = [f for f in range(0, len(poses), every) if f in by_frame]
    made = _empty(len(chosen), room)
    for i, frame in enumerate(chosen):
        found = objects(frame)
        moving = _velocity([objects(f) for f in (frame - 1, frame, frame + 1)], poses, frame)
        near = np.argsort(np.linalg.norm(found.boxes[:, :2], axis=-1), kind="stable")[:room]
        made.boxes[i, : len(near)], made.mask[i, : len(near)] = found.boxes[near], True
        made.boxes[i, : len(near), 2] = found.boxes[near, 5] / 2  # on the flat ground
        made.label[i, : len(near)], made.velocity[i, : len(near)] = found.label[near], moving[near]
    sequence = np.full(len(chosen), number, np.int32)
    return made.boxes, made.label, made.mask, sequence, poses[chosen], made.velocity


class _Objects(NamedTuple):
    """One frame's boxes [n, 7] in the recorder's frame, class indices [n] and track numbers."""

    boxes: np.ndarray
    label: np.ndarray
    track: list[int]


class _Room(NamedTuple):
    """Room for the objects of some frames, nothing in it."""

    boxes: np.ndarray
    label: np.ndarray
    mask: np.ndarray
    velocity: np.ndarray


def _empty(num: int, room: int) -> _Room:
    boxes = np.tile(np.array([0, 0, 0.5, 1, 1, 1, 0], np.float32), (num, room, 1))
    label, mask = np.zeros((num, room), np.int32), np.zeros((num, room), bool)
    return _Room(boxes, label, mask, np.zeros((num, room, 2), np.float32))


def _velocity(around: list[_Objects], poses: np.ndarray, frame: int) -> np.ndarray:
    """Velocities [n, 2] of a frame's objects from where they were before and are after."""
    places: list[dict[int, np.ndarray]] = []
    for objects, at in zip(around, (frame - 1, frame, frame + 1), strict=True):
        pose = poses[min(max(at, 0), len(poses) - 1)]
        world = objects.boxes[:, :2] @ pose[:2, :2].T + pose[:2, 3]
        seen = zip(objects.track, world, strict=True) if 0 <= at < len(poses) else ()
        places.append(dict(seen))
    out = np.zeros((len(around[1].track), 2))
    for row, track in enumerate(around[1].track):
        when = [i for i, known in enumerate(places) if track in known]
        if len(when) > 1:
            moved = places[when[-1]][track] - places[when[0]][track]
            out[row] = moved / ((when[-1] - when[0]) * SECONDS) @ poses[frame][:2, :2]
    return out


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
    made = _empty(num, room)
    for i in range(num):
        rows, names, speed = _street(rng)
        keep = min(room, len(rows))
        made.boxes[i, :keep], made.label[i, :keep] = rows[:keep], names[:keep]
        ahead = np.stack([np.cos(rows[:keep, 6]), np.sin(rows[:keep, 6])], -1)
        made.velocity[i, :keep], made.mask[i, :keep] = speed[:keep, None] * ahead, True
    sequence = np.arange(num, dtype=np.int32) % 21
    pose = np.tile(np.eye(4, dtype=np.float32), (num, 1, 1))
    return Layouts(made.boxes, made.label, made.mask, sequence, pose, made.velocity, "generated")


def _street(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes [n, 7], class indices [n] and speeds [n]; the outer rows of cars are parked."""
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
    boxes, label = np.array(rows), np.array(names, np.int32)
    walking = np.where(label == 1, rng.normal(1.3, 0.3, len(label)), rng.normal(4, 1, len(label)))
    driving = np.where(np.abs(boxes[:, 1]) > 4.2, 0.0, rng.normal(9.0, 2.0, len(label)))
    order = np.argsort(np.linalg.norm(boxes[:, :2], axis=-1), kind="stable")
    return boxes[order], label[order], np.where(label == 0, driving, walking)[order]


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

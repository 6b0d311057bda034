"""Where vehicles stand: real layouts of KITTI tracking in the world's frame, or made-up streets."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxml.core import check
from jaxml.driving.tracks import kitti as tracks
from jaxml.inputs.integrity import DataNotFoundError

CLASSES = ("Car", "Pedestrian", "Cyclist")
_NAMES = {"Car": 0, "Van": 0, "Truck": 0, "Pedestrian": 1, "Person": 1, "Cyclist": 2}
SECONDS = 0.1
"""Between two frames of KITTI."""
_RECORDER = (4.5, 1.8, 1.5)
"""Length, width and height of the recording car."""
BEHIND_M = 0.5
"""The middle of the recording car lies so far behind its LiDAR."""


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
    drives, _ = tracks.layouts(None if path is None else str(path))
    parts = [_sequence(drive, number, room, every) for number, drive in drives.items()]
    found = map(np.concatenate, zip(*parts, strict=True))
    arrays: dict[str, Any] = dict(zip(Layouts._fields, found, strict=False))
    return Layouts(**arrays, source="kitti_tracking")


def _sequence(drive: tracks.Layout, number: int, room: int, every: int) -> tuple:
    frames, pose = _frames(drive), _planar(drive.lidar)
    chosen = [f for f in range(0, len(pose), every) if len(frames[f].track) > 1]
    made = _empty(len(chosen), room)
    for i, frame in enumerate(chosen):
        found, turn = frames[frame], pose[frame, :2, :2]
        place = (found.boxes[:, :2] - pose[frame, :2, 3]) @ turn
        near = np.argsort(np.linalg.norm(place, axis=-1), kind="stable")[:room]
        made.boxes[i, : len(near)], made.mask[i, : len(near)] = found.boxes[near], True
        made.boxes[i, : len(near), :2] = place[near]
        made.boxes[i, : len(near), 6] -= drive.lidar[frame, 2]
        made.label[i, : len(near)] = found.label[near]
        made.velocity[i, : len(near)] = (_velocity(frames, frame) @ turn)[near]
    made.boxes[..., 6] = (made.boxes[..., 6] + np.pi) % (2 * np.pi) - np.pi
    sequence = np.full(len(chosen), number, np.int32)
    return made.boxes, made.label, made.mask, sequence, pose[chosen], made.velocity


class _Objects(NamedTuple):
    """One frame's boxes [n, 7] in the world, class indices [n] and track numbers."""

    boxes: np.ndarray
    label: np.ndarray
    track: list[int]


def _frames(drive: tracks.Layout) -> list[_Objects]:
    """What stands where in every frame, the recording car first."""
    rows: list[list[tracks.Box]] = [[] for _ in drive.lidar]
    for box in drive.boxes:
        if box.kind in _NAMES:
            rows[box.frame].append(box)
    found = []
    for (x, y, heading), boxes in zip(drive.lidar, rows, strict=True):
        ahead, (length, width, height) = np.array([np.cos(heading), np.sin(heading)]), _RECORDER
        middle = np.array([x, y]) - BEHIND_M * ahead
        body = [[*middle, height / 2, length, width, height, heading]]
        body += [
            [b.x, b.y, b.height / 2, b.length, b.width, b.height, b.heading] for b in boxes
        ]  # fmt: skip
        label = np.array([0, *(_NAMES[b.kind] for b in boxes)], np.int32)
        found.append(_Objects(np.array(body), label, [-1, *(b.track for b in boxes)]))
    return found


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


def _velocity(frames: list[_Objects], frame: int) -> np.ndarray:
    """Velocities [n, 2] in the world of a frame's objects, from the frames beside it."""
    beside = [
        dict(zip(frames[f].track, frames[f].boxes[:, :2], strict=True)) if f < len(frames) else {}
        for f in (max(frame - 1, 0), frame, frame + 1)
    ]
    times = (max(frame - 1, 0), frame, frame + 1)
    out = np.zeros((len(frames[frame].track), 2))
    for row, track in enumerate(frames[frame].track):
        when = [i for i, known in enumerate(beside) if track in known]
        seconds = (times[when[-1]] - times[when[0]]) * SECONDS
        if seconds > 0:
            out[row] = (beside[when[-1]][track] - beside[when[0]][track]) / seconds
    return out


def _planar(place: np.ndarray) -> np.ndarray:
    """Poses [f, 4, 4] on a plane of x, y and heading [f, 3]."""
    pose = np.tile(np.eye(4, dtype=np.float32), (len(place), 1, 1))
    pose[:, 0, 0], pose[:, 1, 1] = np.cos(place[:, 2]), np.cos(place[:, 2])
    pose[:, 1, 0], pose[:, 0, 1] = np.sin(place[:, 2]), -np.sin(place[:, 2])
    pose[:, :2, 3] = place[:, :2]
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
    rows, names = [np.array([-BEHIND_M, 0.0, _RECORDER[2] / 2, *_RECORDER, 0.0])], [0]
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

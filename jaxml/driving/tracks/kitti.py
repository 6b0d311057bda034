"""KITTI tracking in the world frame: 1 s seen, 3 s to forecast, at 5 Hz.

Boxes come in camera coordinates (x right, y down, z ahead, bottom centre, rotation_y about the
downward axis) and leave as points and headings of a flat world: x east, y north, metres, from the
first pose of the sequence.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jaxml.core import check
from jaxml.driving.data import archive
from jaxml.driving.tracks.windows import Windows, concatenate, cut
from jaxml.inputs.source import Provenance

VALIDATION = (1, 6, 8, 10, 12, 13, 14, 15, 16, 18, 19)
"""Sequences of AB3DMOT's validation split; the other ten are trained on."""
CHOICE = (2, 7)
"""Sequences among those trained on that choose the checkpoint; whole, as windows overlap."""
FOLDS = ((0, 11), (2, 3), (4, 17), (5, 7), (9, 20))
"""The same ten in five parts, for cross-validation."""
TRAIN = tuple(i for i in range(21) if i not in VALIDATION)
KINDS = {"vehicle": ("Car", "Van", "Truck", "Tram"), "person": ("Pedestrian", "Cyclist")}
NUM_PAST, NUM_FUTURE, STRIDE, EVERY, STEP_S = 5, 15, 2, 5, 0.2
MOVING_M_S = 1.0
"""An agent moves if its mean observed speed is above this."""
EARTH_M = 6378137.0


class Box(NamedTuple):
    """One labelled box in the world."""

    frame: int
    track: int
    kind: str
    x: float
    y: float
    heading: float
    length: float
    width: float
    height: float


@dataclasses.dataclass(frozen=True)
class Layout:
    """One drive: all boxes, and by frame where the recording car and its LiDAR were.

    Attributes:
      name: of the sequence.
      boxes: of every labelled object.
      ego: x, y, heading of the inertial unit [frames, 3].
      lidar: of the LiDAR [frames, 3].
    """

    name: str
    boxes: tuple[Box, ...]
    ego: np.ndarray
    lidar: np.ndarray


def poses(text: str) -> np.ndarray:
    """Poses [frames, 4, 4] of the inertial unit in the world, from OXTS lines.

    Mercator projection at the first latitude; roll, pitch and yaw are intrinsic z-y-x.
    """
    rows = np.array([line.split()[:6] for line in text.strip().splitlines()], np.float64)
    lat, lon, alt, roll, pitch, yaw = rows.T
    scale = np.cos(np.deg2rad(lat[0]))
    found = np.zeros((len(rows), 4, 4))
    found[:, 0, 3] = scale * EARTH_M * np.deg2rad(lon)
    found[:, 1, 3] = scale * EARTH_M * np.log(np.tan(np.pi * (90.0 + lat) / 360.0))
    found[:, 2, 3], found[:, 3, 3] = alt, 1.0
    found[:, :3, :3] = _turn(2, yaw) @ _turn(1, pitch) @ _turn(0, roll)
    found[:, :3, 3] -= found[0, :3, 3]
    return found


def _turn(axis: int, angle: np.ndarray) -> np.ndarray:
    """Rotations [n, 3, 3] about one axis."""
    i, j = ((1, 2), (2, 0), (0, 1))[axis]
    found = np.zeros((len(angle), 3, 3))
    found[:, axis, axis] = 1.0
    found[:, i, i] = found[:, j, j] = np.cos(angle)
    found[:, j, i], found[:, i, j] = np.sin(angle), -np.sin(angle)
    return found


def calibration(text: str) -> tuple[np.ndarray, np.ndarray]:
    """The 4x4 transforms to the inertial unit: of rectified camera coordinates, of the LiDAR's.

    Raises:
      ValueError: a matrix that the calibration lacks.
    """
    rows = {
        words[0].rstrip(":"): np.array(words[1:], np.float64)
        for words in map(str.split, text.strip().splitlines())
        if words
    }

    def matrix(*names: str) -> np.ndarray:
        found = next((rows[n] for n in names if n in rows), None)
        if found is None:
            raise ValueError(f"calibration must hold {' or '.join(names)}; got {', '.join(rows)}.")
        full, part = np.eye(4), found.reshape(3, -1)
        full[:3, : part.shape[1]] = part
        return full

    rectify = matrix("R_rect", "R0_rect")
    velo = matrix("Tr_velo_cam", "Tr_velo_to_cam")
    imu = matrix("Tr_imu_velo", "Tr_imu_to_velo")
    return np.linalg.inv(rectify @ velo @ imu), np.linalg.inv(imu)


def layout(label: str, oxts: str, calib: str, name: str = "") -> Layout:
    """One sequence in the world frame.

    Raises:
      ValueError: a pose or a box that is not finite.
    """
    world = poses(oxts)
    camera, lidar = calibration(calib)
    from_camera = world @ camera
    if not np.isfinite(from_camera).all():
        raise ValueError(f"poses must be finite; sequence {name!r} has others.")
    boxes = []
    for words in map(str.split, label.strip().splitlines()):
        frame, track, kind = int(words[0]), int(words[1]), words[2]
        if kind == "DontCare" or frame >= len(world):
            continue
        height, width, length, x, y, z, rotation = map(float, words[10:17])
        check.positive(height=height, width=width, length=length)
        place = from_camera[frame] @ np.array([x, y, z, 1.0])
        ahead = from_camera[frame][:3, :3] @ np.array([np.cos(rotation), 0, -np.sin(rotation)])
        heading = float(np.arctan2(ahead[1], ahead[0]))
        boxes.append(Box(frame, track, kind, place[0], place[1], heading, length, width, height))
    return Layout(name, tuple(boxes), _on_the_ground(world), _on_the_ground(world @ lidar))


def _on_the_ground(pose: np.ndarray) -> np.ndarray:
    """x, y and heading [n, 3] of poses [n, 4, 4]."""
    return np.stack(
        [pose[:, 0, 3], pose[:, 1, 3], np.arctan2(pose[:, 1, 0], pose[:, 0, 0])], -1
    )  # fmt: skip


def tracks(drive: Layout, kinds: tuple[str, ...]) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Frames and rows (x, y, heading, length, width) by track, of some kinds of objects."""
    by_track: dict[int, list[Box]] = {}
    for box in drive.boxes:
        if box.kind in kinds:
            by_track.setdefault(box.track, []).append(box)
    found = {}
    for track, boxes in by_track.items():
        boxes = sorted(boxes, key=lambda b: b.frame)
        rows = [(b.x, b.y, b.heading, b.length, b.width) for b in boxes]
        found[track] = (np.array([b.frame for b in boxes]), np.array(rows))
    return found


def windows(drive: Layout, kind: str, every: int = EVERY) -> Windows:
    """Windows of one drive, by default one every half second.

    Args:
      drive: its boxes.
      kind: "vehicle" or "person".
      every: raw frames (10 Hz) from one window to the next.

    Raises:
      ValueError: another kind than "vehicle" or "person".
    """
    check.one_of(KINDS, kind=kind)
    found = tracks(drive, KINDS[kind])
    last = max((int(frames[-1]) for frames, _ in found.values()), default=-1)
    return cut(
        drive.name, found, range(0, last + 1, every),
        num_past=NUM_PAST, num_future=NUM_FUTURE, stride=STRIDE, step_s=STEP_S,
    )  # fmt: skip


def moving(found: Windows) -> np.ndarray:
    """Agents whose mean observed speed exceeds `MOVING_M_S`, bool [n]."""
    travelled = np.linalg.norm(found.past[:, -1] - found.past[:, 0], axis=-1)
    return travelled / ((found.past.shape[1] - 1) * found.step_s) > MOVING_M_S


def layouts(path: str | None = None) -> tuple[dict[int, Layout], Provenance]:
    """All 21 drives by number.

    Raises:
      DataNotFoundError: the set is not on this machine; says how to get it.
    """
    found, about = archive.texts("kitti_tracking", path)
    drives = {}
    for i in range(21):
        label, oxts, calib = (found[f"{part}/{i:04d}"] for part in ("label", "oxts", "calib"))
        drives[i] = layout(label, oxts, calib, f"{i:04d}")
    return drives, about


class Split(NamedTuple):
    """Windows of training sequences and of validation sequences.

    Attributes:
      train: of all ten, every half second.
      train_drive: the sequence of each, int [n].
      dense: of the same, at every frame: to fit to.
      dense_drive: the sequence of each.
      validation: every half second.
    """

    train: Windows
    train_drive: np.ndarray
    dense: Windows
    dense_drive: np.ndarray
    validation: Windows

    @property
    def fit(self) -> Windows:
        """What is fitted to where others choose: all of `dense` but the drives of `CHOICE`."""
        return self.dense.take(~np.isin(self.dense_drive, CHOICE))

    @property
    def choice(self) -> Windows:
        """The windows of `train` of the drives of `CHOICE`."""
        return self.train.take(np.isin(self.train_drive, CHOICE))


def numbered(
    drives: Mapping[int, Layout], numbers: Sequence[int], kind: str, every: int
) -> tuple[Windows, np.ndarray]:
    """Windows of some drives, and the drive of each."""
    parts = [windows(drives[i], kind, every) for i in numbers]
    drive = np.repeat(numbers, [len(p) for p in parts])
    return concatenate(f"kitti-{kind}", parts), drive


def load(kind: str = "vehicle", path: str | None = None) -> tuple[Split, Provenance]:
    """Windows by part, and where they came from.

    Raises:
      DataNotFoundError: see `layouts`.
    """
    drives, about = layouts(path)
    train, dense = (numbered(drives, TRAIN, kind, every) for every in (EVERY, 1))
    return Split(*train, *dense, numbered(drives, VALIDATION, kind, EVERY)[0]), about

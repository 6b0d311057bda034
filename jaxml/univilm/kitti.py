"""Captions of real drives: KITTI tracking labels and the ego's motion, 4 seconds at a time.

Nobody wrote these captions: a grammar reads them off the labels. A feature is what a frame's labels
show from above (32 x 32 cells of 2.5 m by three kinds), the ego's speed and its yaw rate.
"""

import collections
import io
import lzma
import tarfile
from typing import NamedTuple

import numpy as np

from jaxml.core import check
from jaxml.inputs import source

KINDS = {"Car": 0, "Van": 0, "Truck": 0, "Pedestrian": 1, "Person_sitting": 1, "Cyclist": 2}
NAMES = (("car", "cars"), ("pedestrian", "pedestrians"), ("cyclist", "cyclists"))
GRID, CELL = 32, 2.5
WIDTH = 3 * GRID * GRID + 2
TRAIN = (0, 2, 3, 4, 5, 7, 9, 11, 17, 20)
RATE, WINDOW, STRIDE, KEEP = 10, 40, 10, 4


class Drive(NamedTuple):
    """One sequence: labels [m, 5] (frame, track, kind, right and ahead in metres), ego [t, 2].

    Ego rows are the forward speed in m/s and the yaw rate in rad/s (left is positive).
    """

    labels: np.ndarray
    ego: np.ndarray


class Window(NamedTuple):
    """Four seconds: sequence, first frame, features [10, 3074], caption."""

    sequence: int
    start: int
    feats: np.ndarray
    caption: str


def drives() -> dict[int, Drive]:
    """All 21 sequences.

    Raises:
      DataNotFoundError: the labels are not here; says how to get them.
    """
    located = source.find("kitti_tracking")
    file = source.dataset("kitti_tracking").files[0]
    content = source.read(located, file)
    content = lzma.decompress(content) if content[:6] == b"\xfd7zXZ\x00" else content
    parts: dict[tuple[str, str], str] = {}
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        for member in archive.getmembers():
            words = member.name.removeprefix("./").split("/")
            if member.isfile() and len(words) >= 2 and words[-2] in ("label", "oxts"):
                handle = archive.extractfile(member)
                assert handle is not None
                parts[words[-2], words[-1][:4]] = handle.read().decode()
    names = sorted(name for kind, name in parts if kind == "label")
    return {int(n): Drive(_labels(parts["label", n]), _ego(parts["oxts", n])) for n in names}


def _labels(text: str) -> np.ndarray:
    rows = (line.split() for line in text.splitlines())
    kept = [(int(r[0]), int(r[1]), KINDS[r[2]], float(r[13]), float(r[15]))
            for r in rows if len(r) > 15 and r[2] in KINDS]  # fmt: skip
    return np.array(kept, np.float64).reshape(-1, 5)


def _ego(text: str) -> np.ndarray:
    rows = [line.split() for line in text.splitlines() if line.strip()]
    return np.array([(float(r[8]), float(r[19])) for r in rows])


def feature(drive: Drive, frame: int) -> np.ndarray:
    """One frame's feature, float32 [3074]."""
    above = np.zeros((3, GRID, GRID), np.float32)
    for _, _, kind, right, ahead in drive.labels[drive.labels[:, 0] == frame]:
        y, x = int(ahead / CELL), int(right / CELL + GRID / 2)
        if 0 <= y < GRID and 0 <= x < GRID:
            above[int(kind), y, x] = 1
    speed, yaw = drive.ego[min(frame, len(drive.ego) - 1)]
    return np.concatenate([above.ravel(), [speed / 10, 5 * yaw]]).astype(np.float32)


def windows(drive: Drive, sequence: int) -> list[Window]:
    """Every window that fits, one a second."""
    found = []
    for start in range(0, len(drive.ego) - WINDOW + 1, STRIDE):
        feats = np.stack([feature(drive, t) for t in range(start, start + WINDOW, KEEP)])
        found.append(Window(sequence, start, feats, describe(drive, start)))
    return found


def describe(drive: Drive, start: int) -> str:
    """The caption of a window: what we do, what the car ahead does, who is there, who crosses."""
    labels, ego = drive.labels, drive.ego[start : start + WINDOW]
    here = labels[(labels[:, 0] >= start) & (labels[:, 0] < start + WINDOW)]
    parts = [_own(ego), *_ahead(here, ego, start), *_crossing(here)]
    return " and ".join([*parts, _counts(here)])


def _own(ego: np.ndarray) -> str:
    turned = float(np.sum(ego[:, 1])) / RATE
    first, last = ego[:10, 0].mean(), ego[-10:, 0].mean()
    if max(first, last) < 0.5:
        return "we stand"
    if abs(turned) > 0.35:
        return f"we turn {'left' if turned > 0 else 'right'}"
    if last < 0.5:
        return "we stop"
    if abs(last - first) > max(1.0, 0.2 * first):
        return "we speed up" if last > first else "we slow down"
    return "we drive on"


def _ahead(here: np.ndarray, ego: np.ndarray, start: int) -> list[str]:
    """What the nearest car in our lane does, by its distance and our own speed."""
    lane = here[(here[:, 2] == 0) & (abs(here[:, 3]) < 2) & (here[:, 4] > 2) & (here[:, 4] < 45)]
    seen = collections.Counter(lane[:, 1].tolist())
    if not seen or max(seen.values()) < WINDOW // 2:
        return []
    track = lane[lane[:, 1] == max(seen, key=lambda k: seen[k])]
    times = (track[:, 0] - start).astype(int)
    speed = np.gradient(track[:, 4], times / RATE) + ego[times, 0]
    third = max(len(speed) // 3, 1)
    change = float(np.median(speed[-third:]) - np.median(speed[:third]))
    if np.median(speed) < 0.7:
        return ["the car ahead stands"]
    if abs(change) < 1.5:
        return ["we follow a car"]
    return [f"the car ahead {'speeds up' if change > 0 else 'slows down'}"]


def _crossing(here: np.ndarray) -> list[str]:
    """Whoever passes from one side of our lane to the other."""
    said = []
    for kind in (1, 2):
        for track in np.unique(here[here[:, 2] == kind, 1]):
            right = here[here[:, 1] == track, 3]
            if len(right) > 5 and right.min() < -1 and right.max() > 1:
                side = "left" if right[-1] > right[0] else "right"
                said.append(f"a {NAMES[kind][0]} crosses from the {side}")
    return sorted(set(said))


def _counts(here: np.ndarray) -> str:
    parts = []
    for kind, (one, many) in enumerate(NAMES):
        num = len(np.unique(here[here[:, 2] == kind, 1]))
        if num:
            word = "many" if num > 5 else ("one", "two", "three", "four", "five")[num - 1]
            parts.append(f"{word} {one if num == 1 else many}")
    return f"there are {' '.join(parts)}" if parts else "there is nobody"


def split() -> tuple[list[Window], list[Window]]:
    """Windows of the ten training sequences, and of the other eleven."""
    every = {n: windows(drive, n) for n, drive in drives().items()}
    check.positive(sequences=len(every))
    return tuple(
        [w for n in every if (n in TRAIN) == first for w in every[n]] for first in (True, False)
    )  # pyright: ignore[reportReturnType]

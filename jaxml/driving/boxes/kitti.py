"""KITTI's conventions, at the edge only.

A KITTI label is in the rectified camera's frame (x right, y down, z forward): height, width,
length, the middle of the *bottom* face, and a rotation about y (down), from +x to -z. Here: the
LiDAR's frame (x forward, y left, z up), length, width, height, the middle of the box, a heading
counter-clockwise from +x; so heading = -rotation - pi / 2.

A box is exact in the *upright camera's* frame: the rectified camera's axes renamed to x forward,
y left, z up. The LiDAR is tilted against it by some milliradians; in its frame, as all detectors
do, positions are exact and the tilt of the box is left out.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

_UPRIGHT = np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
"""Rectified camera (x right, y down, z forward) to the same origin with z up."""


class Calibration(NamedTuple):
    """Of one frame, float64.

    Attributes:
      projection: rectified camera to pixels of the left colour camera, P2 [3, 4].
      velo_to_camera: LiDAR to rectified camera [4, 4].
    """

    projection: np.ndarray
    velo_to_camera: np.ndarray

    @property
    def velo_to_upright(self) -> np.ndarray:
        """LiDAR to upright camera [4, 4]."""
        return _UPRIGHT @ self.velo_to_camera


class KittiObjects(NamedTuple):
    """The lines of a label file.

    Attributes:
      name: type, e.g. "Car", str [n].
      truncated: share outside the image [n]; -1 for don't-care regions.
      occluded: 0 to 3, int [n].
      alpha: observation angle [n].
      box2d: left, top, right, bottom in pixels [n, 4].
      size_hwl: height, width, length [n, 3].
      location: middle of the bottom face in the camera's frame [n, 3].
      rotation_y: [n].
      score: of detections; 1 in label files [n].
    """

    name: np.ndarray
    truncated: np.ndarray
    occluded: np.ndarray
    alpha: np.ndarray
    box2d: np.ndarray
    size_hwl: np.ndarray
    location: np.ndarray
    rotation_y: np.ndarray
    score: np.ndarray


def parse_calibration(text: str) -> Calibration:
    """Reads the text of a calibration file of the object or the tracking benchmark.

    Raises:
      ValueError: a matrix is missing.
    """
    rows: dict[str, np.ndarray] = {}
    for line in text.splitlines():
        words = line.replace(":", " ").split()
        if len(words) > 1:
            rows[words[0]] = np.array([float(x) for x in words[1:]])
    p2 = _first(rows, "P2").reshape(3, 4)
    rect, velo = np.eye(4), np.eye(4)
    rect[:3, :3] = _first(rows, "R0_rect", "R_rect").reshape(3, 3)
    velo[:3] = _first(rows, "Tr_velo_to_cam", "Tr_velo_cam").reshape(3, 4)
    return Calibration(p2, rect @ velo)


def _first(rows: Mapping[str, np.ndarray], *names: str) -> np.ndarray:
    found = [rows[name] for name in names if name in rows]
    if not found:
        raise ValueError(f"calibration must have a line {names[0]}; got {', '.join(rows)}.")
    return found[0]


def parse_objects(text: str) -> KittiObjects:
    """Reads the text of a label or result file (15 or 16 words a line).

    Raises:
      ValueError: a line with another number of words.
    """
    rows = [line.split() for line in text.splitlines() if line.strip()]
    for number, row in enumerate(rows):
        if len(row) not in (15, 16):
            raise ValueError(f"line {number + 1} must have 15 or 16 words; got {len(row)}.")
    numbers = np.array([[float(x) for x in row[1:15]] for row in rows]).reshape(-1, 14)
    score = np.array([float(row[15]) if len(row) == 16 else 1.0 for row in rows])
    return KittiObjects(
        np.array([row[0] for row in rows], np.str_),
        numbers[:, 0],
        numbers[:, 1].astype(int),
        numbers[:, 2],
        numbers[:, 3:7],
        numbers[:, 7:10],
        numbers[:, 10:13],
        numbers[:, 13],
        score,
    )


def upright_boxes(objects: KittiObjects) -> np.ndarray:
    """Boxes [n, 7] in the upright camera's frame, float64, exact.

    Raises:
      ValueError: a don't-care line, which has no box.
    """
    if (objects.size_hwl <= 0).any():
        raise ValueError("objects must have boxes; drop the DontCare lines first.")
    height, width, length = objects.size_hwl.T
    centre = objects.location @ _UPRIGHT[:3, :3].T
    centre[:, 2] += height / 2
    heading = _wrap(-objects.rotation_y - np.pi / 2)
    return np.concatenate([centre, np.stack([length, width, height, heading], -1)], -1)


def from_kitti(objects: KittiObjects, calibration: Calibration) -> np.ndarray:
    """Boxes [n, 7] in the LiDAR's frame, float64; errors as in `upright_boxes`."""
    boxes = upright_boxes(objects)
    back = np.linalg.inv(calibration.velo_to_upright)
    boxes[:, :3] = boxes[:, :3] @ back[:3, :3].T + back[:3, 3]
    return boxes


def to_kitti(
    boxes: np.ndarray, calibration: Calibration
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The inverse: sizes (h, w, l) [n, 3], locations [n, 3], rotations about y [n]."""
    boxes = np.asarray(boxes, np.float64)
    pose = calibration.velo_to_camera
    centre = boxes[:, :3] @ pose[:3, :3].T + pose[:3, 3]
    size = boxes[:, [5, 4, 3]]
    location = centre + np.stack([0 * size[:, 0], size[:, 0] / 2, 0 * size[:, 0]], -1)
    return size, location, _wrap(-boxes[:, 6] - np.pi / 2)


def _wrap(angle: np.ndarray) -> np.ndarray:
    return (angle + np.pi) % (2 * np.pi) - np.pi

"""One nuScenes key frame: six cameras, the LiDAR sweep, boxes."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxml.driving.data import archive
from jaxml.inputs.codec import decode


class CameraView(NamedTuple):
    """One camera.

    Attributes:
      image: uint8 [y, x, 3].
      intrinsics: of this image [3, 3].
      lidar_to_camera: [4, 4].
    """

    image: np.ndarray
    intrinsics: np.ndarray
    lidar_to_camera: np.ndarray


class NuScenesFrame(NamedTuple):
    """The frame, in the frame of its LiDAR (x right, y forward, z up).

    Attributes:
      points: x, y, z, intensity [p, 4].
      boxes: [n, 7]; the file's middle of the box is already the volume's.
      velocity: [n, 2] in m/s, NaN where unknown.
      label: index into `categories`, int [n].
      num_points: LiDAR points inside, as the data set says, int [n].
      categories: names by label.
      cameras: by name.
    """

    points: np.ndarray
    boxes: np.ndarray
    velocity: np.ndarray
    label: np.ndarray
    num_points: np.ndarray
    categories: tuple[str, ...]
    cameras: dict[str, CameraView]


def nuscenes_frame(path: Path | str | None = None) -> NuScenesFrame:
    """Reads the frame. Arguments and errors as in `source.find`."""
    files = archive.contents("nuscenes_frame", path)
    record = json.loads(files["frame.json"])
    frame, known = record["data_list"][0], record["metainfo"]["categories"]
    rows = frame["instances"]
    return NuScenesFrame(
        archive.cloud(archive.arrays(files["lidar_top.npz"])),
        np.array([row["bbox_3d"] for row in rows]),
        np.array([row["velocity"] for row in rows], float),
        np.array([row["bbox_label_3d"] for row in rows]),
        np.array([row["num_lidar_pts"] for row in rows]),
        tuple(sorted(known, key=known.__getitem__)),
        {name: _camera(view, files[f"{name}.jpg"]) for name, view in frame["images"].items()},
    )


def _camera(view: dict[str, Any], content: bytes) -> CameraView:
    """The images are kept at half the size that the intrinsics are for."""
    intrinsics = np.array(view["cam2img"])
    intrinsics[:2] *= 0.5
    return CameraView(np.asarray(decode(content)), intrinsics, np.array(view["lidar2cam"]))

"""Frames of KITTI's object benchmark: fixtures and a transfer check, never an AP."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxml.driving.boxes import kitti
from jaxml.driving.boxes.kitti import Calibration, KittiObjects
from jaxml.driving.data import archive
from jaxml.inputs.codec import decode


class KittiFrame(NamedTuple):
    """One labelled frame.

    Attributes:
      name: e.g. "000134".
      points: x, y, z, intensity [p, 4], in the LiDAR's frame.
      objects: every line of the label file, don't-care regions included.
      boxes: of the lines that are no don't-care region [n, 7], in the LiDAR's frame.
      calibration: of the frame.
      image: uint8 [y, x, 3].
    """

    name: str
    points: np.ndarray
    objects: KittiObjects
    boxes: np.ndarray
    calibration: Calibration
    image: np.ndarray

    @property
    def names(self) -> np.ndarray:
        """Types of `boxes`."""
        return self.objects.name[self.objects.name != "DontCare"]


def labelled_frames(path: Path | str | None = None) -> list[KittiFrame]:
    """The five labelled frames, by name. Arguments and errors as in `source.find`."""
    files = archive.contents("kitti_object", path)
    names = sorted(n[:-4] for n in files if n.endswith(".npz") and "_lidar_only" not in n)
    return [_frame(n, files[f"{n}.npz"], files[f"{n}.jpg"]) for n in names]


def _frame(name: str, content: bytes, image: bytes) -> KittiFrame:
    found = archive.arrays(content)
    objects = kitti.parse_objects(str(found["label_txt"]))
    calibration = kitti.parse_calibration(str(found["calib_txt"]))
    real = KittiObjects(*(column[objects.name != "DontCare"] for column in objects))
    boxes = kitti.from_kitti(real, calibration)
    points = archive.cloud(found)
    return KittiFrame(name, points, objects, boxes, calibration, np.asarray(decode(image)))


def unlabelled_clouds(path: Path | str | None = None) -> dict[str, np.ndarray]:
    """The six clouds without labels [p, 4], by name."""
    files = archive.contents("kitti_object", path, "_lidar_only.npz")
    return {n.split("_")[0]: archive.cloud(archive.arrays(x)) for n, x in sorted(files.items())}

"""One drive of KITTI's raw data: 78 frames at 10 Hz with images, sparse depth and clouds."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxml.driving.boxes.kitti import Calibration
from jaxml.driving.data import archive


class Drive(NamedTuple):
    """The frames in order.

    Attributes:
      clouds: x, y, z in metres [p, 3] each, thinned to voxels of 0.4 m.
      poses: of KISS-ICP 1.3.0 [f, 4, 4]: LiDAR of each frame to that of the first. They were
        computed, not surveyed.
      images: uint8 [y, x, 3] each, 640 x 192.
      depth: (u, v, metres) [p, 3] each, LiDAR points in the original 1242 x 375 image.
      calibration: of the original image size.
      image_size: original width and height.
    """

    clouds: list[np.ndarray]
    poses: np.ndarray
    images: list[np.ndarray]
    depth: list[np.ndarray]
    calibration: Calibration
    image_size: tuple[int, int]


def drive(path: Path | str | None = None, *, with_images: bool = True) -> Drive:
    """Reads the drive. Arguments and errors as in `source.find`.

    Args:
      path: see `source.find`.
      with_images: False leaves `images` empty, which is quicker.
    """
    (content,) = archive.contents("kitti_raw78", path).values()
    found = archive.arrays(content)
    cloud = found["cloud_cm"].astype(np.float32) / 100
    depth = found["depth_uvd_cm"].astype(np.float32) * np.array([1, 1, 0.01], np.float32)
    velo = np.asarray(found["R0_rect"], np.float64) @ found["Tr_velo_cam"]
    images = archive.jpegs(found["jpeg"], found["jpeg_offset"]) if with_images else []
    width, height = (int(x) for x in found["image_size"])
    return Drive(
        np.split(cloud, found["cloud_offset"][1:-1]),
        found["kiss_icp_pose_velo"],
        images,
        np.split(depth, found["depth_offset"][1:-1]),
        Calibration(found["P2"], velo),
        (width, height),
    )

"""Readers of real frames; the data stay where they are and never enter the package."""

from jaxml.driving.data.av2 import Sweep, sweeps
from jaxml.driving.data.bccd import CellImages, bccd
from jaxml.driving.data.clouds import car_clouds
from jaxml.driving.data.drive import Drive, drive
from jaxml.driving.data.kitti import KittiFrame, labelled_frames, unlabelled_clouds
from jaxml.driving.data.nuscenes import CameraView, NuScenesFrame, nuscenes_frame

__all__ = [
    "CameraView",
    "CellImages",
    "Drive",
    "KittiFrame",
    "NuScenesFrame",
    "Sweep",
    "bccd",
    "car_clouds",
    "drive",
    "labelled_frames",
    "nuscenes_frame",
    "sweeps",
    "unlabelled_clouds",
]

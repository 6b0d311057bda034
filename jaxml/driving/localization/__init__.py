"""Where the vehicle is: registration of clouds, odometry, errors of trajectories."""

from jaxml.driving.localization.config import PRESETS, OdometryConfig
from jaxml.driving.localization.icp import Registration, align, point_to_plane, point_to_point
from jaxml.driving.localization.narrowing import align_narrowing
from jaxml.driving.localization.odometry import Odometry, first, pad_clouds, run, step
from jaxml.driving.localization.path import ape, path_length, rpe, segment_drift
from jaxml.driving.localization.voxelmap import (
    Candidates,
    VoxelMap,
    around,
    empty_map,
    insert,
    nearest,
    thin,
)

__all__ = [
    "PRESETS",
    "Candidates",
    "Odometry",
    "OdometryConfig",
    "Registration",
    "VoxelMap",
    "align",
    "align_narrowing",
    "ape",
    "around",
    "empty_map",
    "first",
    "insert",
    "nearest",
    "pad_clouds",
    "path_length",
    "point_to_plane",
    "point_to_point",
    "rpe",
    "run",
    "segment_drift",
    "step",
    "thin",
]

"""The simulator: LiDAR and cameras cast into real or made-up street layouts, labels exact."""

from jaxml.driving.sim.camera import Picture, camera_rays, look
from jaxml.driving.sim.config import PRESETS, CameraConfig, LidarConfig, SimConfig
from jaxml.driving.sim.layout import Layouts, crowded, generated, layouts, real, split
from jaxml.driving.sim.raycast import Hits, cast, lidar_rays, scan
from jaxml.driving.sim.scene import Scene, Views, delayed, observe, picture, scenes_of, viewpoints

__all__ = [
    "PRESETS",
    "CameraConfig",
    "Hits",
    "Layouts",
    "LidarConfig",
    "Picture",
    "Scene",
    "SimConfig",
    "Views",
    "camera_rays",
    "cast",
    "crowded",
    "delayed",
    "generated",
    "layouts",
    "lidar_rays",
    "look",
    "observe",
    "picture",
    "real",
    "scan",
    "scenes_of",
    "split",
    "viewpoints",
]

"""Depth from one camera: Monodepth2's self-supervision (Godard et al. 2019), or LiDAR points."""

from jaxml.driving.depth.config import PRESETS, DepthConfig
from jaxml.driving.depth.net import apply, disparity_to_depth, init, init_state, relative_pose
from jaxml.driving.depth.objective import lidar_loss_fn, self_supervised_loss_fn
from jaxml.driving.depth.photometric import (
    auto_masked,
    photometric_error,
    smoothness,
    ssim,
    warp_to_target,
)

__all__ = [
    "PRESETS",
    "DepthConfig",
    "apply",
    "auto_masked",
    "disparity_to_depth",
    "init",
    "init_state",
    "lidar_loss_fn",
    "photometric_error",
    "relative_pose",
    "self_supervised_loss_fn",
    "smoothness",
    "ssim",
    "warp_to_target",
]

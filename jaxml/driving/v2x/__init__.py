"""Vehicles that share what they sense: early, late and intermediate fusion."""

from jaxml.driving.v2x.bandwidth import bytes_per_agent
from jaxml.driving.v2x.config import METHODS, PRESETS, NoiseConfig, V2XConfig
from jaxml.driving.v2x.fuse import early, fcooper, late, v2vnet, v2vnet_params
from jaxml.driving.v2x.model import apply, detect, init, init_state, loss_fn
from jaxml.driving.v2x.warp import noisy_poses, visible, warp_bev

__all__ = [
    "METHODS",
    "PRESETS",
    "NoiseConfig",
    "V2XConfig",
    "apply",
    "bytes_per_agent",
    "detect",
    "early",
    "fcooper",
    "init",
    "init_state",
    "late",
    "loss_fn",
    "noisy_poses",
    "v2vnet",
    "v2vnet_params",
    "visible",
    "warp_bev",
]

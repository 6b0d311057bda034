"""Camera and LiDAR together: painted points, lifted features, fused candidates."""

from jaxml.driving.fusion.clocs import clocs_apply, clocs_features, clocs_params
from jaxml.driving.fusion.config import PRESETS, SENSORS, FusionConfig, LiftConfig
from jaxml.driving.fusion.lift import bin_depths, lift_splat, splat
from jaxml.driving.fusion.model import apply, init, init_state, loss_fn
from jaxml.driving.fusion.paint import paint

__all__ = [
    "PRESETS",
    "SENSORS",
    "FusionConfig",
    "LiftConfig",
    "apply",
    "bin_depths",
    "clocs_apply",
    "clocs_features",
    "clocs_params",
    "init",
    "init_state",
    "lift_splat",
    "loss_fn",
    "paint",
    "splat",
]

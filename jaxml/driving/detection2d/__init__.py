"""2D detection: objects as points (CenterNet, Zhou et al. 2019)."""

from jaxml.driving.detection2d.config import PRESETS, CenterNetConfig
from jaxml.driving.detection2d.decode import decode
from jaxml.driving.detection2d.heatmap import draw, focal_loss, gaussian_radius, peaks
from jaxml.driving.detection2d.net import apply, init, init_state
from jaxml.driving.detection2d.objective import loss_fn, targets

__all__ = [
    "PRESETS",
    "CenterNetConfig",
    "apply",
    "decode",
    "draw",
    "focal_loss",
    "gaussian_radius",
    "init",
    "init_state",
    "loss_fn",
    "peaks",
    "targets",
]

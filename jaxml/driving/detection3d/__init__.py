"""3D detection: PointPillars with a CenterPoint head."""

from jaxml.driving.detection3d.config import PRESETS, GridConfig, PillarConfig
from jaxml.driving.detection3d.decode import decode
from jaxml.driving.detection3d.net import apply, backbone, encode, head, init, init_state
from jaxml.driving.detection3d.objective import center_loss, loss_fn, targets
from jaxml.driving.detection3d.pillars import Pillars, pillarize, scatter_max

__all__ = [
    "PRESETS",
    "GridConfig",
    "PillarConfig",
    "Pillars",
    "apply",
    "backbone",
    "center_loss",
    "decode",
    "encode",
    "head",
    "init",
    "init_state",
    "loss_fn",
    "pillarize",
    "scatter_max",
    "targets",
]

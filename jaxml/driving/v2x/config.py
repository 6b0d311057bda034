"""Configuration of cooperative detection."""

import dataclasses

from jaxml.core import check
from jaxml.driving.detection3d import config as pillars
from jaxml.driving.detection3d.config import PillarConfig
from jaxml.driving.sim.config import CameraConfig, LidarConfig, SimConfig
from jaxml.train.optim import OptimConfig
from jaxml.train.run import RunConfig

METHODS = ("none", "late", "early", "fcooper", "v2vnet")
"""What is shared: nothing, boxes, points, features (maximum), features (messages)."""


@dataclasses.dataclass(frozen=True)
class NoiseConfig:
    """How wrong the poses are that other agents send, and how old all they send is.

    Attributes:
      position_m: standard deviation along x and y.
      heading_deg: of the heading.
      delay_s: age of the others' data.
    """

    position_m: float = 0.0
    heading_deg: float = 0.0
    delay_s: float = 0.0

    def __post_init__(self):
        check.types(self)
        check.at_least(0, position_m=self.position_m, heading_deg=self.heading_deg)
        check.at_least(0, delay_s=self.delay_s)


@dataclasses.dataclass(frozen=True)
class V2XConfig:
    """A training run.

    Attributes:
      method: one of `METHODS`; "none" and "late" share one model, that of a single vehicle.
      model: the detector.
      sim: the sensors; `agents` vehicles of which the first is the ego.
      iterations: of V2VNet's messages.
      batch_size: scenes per update.
      optim: the optimiser; its schedule is as long as the run.
      run: length, logs and checkpoints.
      seed: of everything.
    """

    method: str = "v2vnet"
    model: PillarConfig = pillars.PRESETS["laptop"]
    sim: SimConfig = SimConfig(LidarConfig(32, 256), agents=3)
    iterations: int = 2
    batch_size: int = 4
    optim: OptimConfig = OptimConfig(lr=3e-3, warmup_steps=30, weight_decay=0.01, clip_norm=10.0)
    run: RunConfig = RunConfig(num_steps=300, save_every=150)
    seed: int = 0

    def __post_init__(self):
        check.types(self)
        check.one_of(METHODS, method=self.method)
        check.positive(iterations=self.iterations, batch_size=self.batch_size)


_TINY_SIM = SimConfig(LidarConfig(8, 64), CameraConfig(16, 32), room=16, agents=2, reach_m=16.0)
_TINY_RUN = RunConfig(num_steps=2, save_every=2, log_every=1)
_GPU = PillarConfig(
    pillars.around(40.0, 0.4), 3, 48, (2, 3, 3), (2, 2, 2), (48, 96, 128), 64, 48, most=128
)
PRESETS = {
    "tiny": V2XConfig(
        "v2vnet", pillars.PRESETS["tiny"], _TINY_SIM, 1, 2, OptimConfig(lr=1e-2), _TINY_RUN
    ),
    "laptop": V2XConfig(),
    "h100": V2XConfig(
        "v2vnet",
        _GPU,
        SimConfig(LidarConfig(32, 512), agents=4),
        batch_size=8,
        optim=OptimConfig(lr=2e-3, warmup_steps=100, weight_decay=0.01, clip_norm=10.0),
        run=RunConfig(num_steps=2500, save_every=2500, log_every=50),
    ),
}
"""By scale."""

"""Configuration of feature-level fusion on the simulator."""

import dataclasses

from jaxml.core import check
from jaxml.driving.detection3d import config as pillars
from jaxml.driving.detection3d.config import GridConfig, PillarConfig
from jaxml.driving.sim.config import CameraConfig, LidarConfig, SimConfig
from jaxml.train.optim import OptimConfig
from jaxml.train.run import RunConfig

SENSORS = ("camera", "lidar", "fused")


@dataclasses.dataclass(frozen=True)
class LiftConfig:
    """From the image to the ground.

    Attributes:
      widths: channels of the image network at strides 2 and 4.
      context: channels of a lifted feature.
      bins: depths a pixel may have.
      nearest_m: first depth.
      farthest_m: last depth.
    """

    widths: tuple[int, int] = (24, 48)
    context: int = 24
    bins: int = 40
    nearest_m: float = 2.0
    farthest_m: float = 42.0

    def __post_init__(self):
        check.types(self)
        check.positive(context=self.context, nearest_m=self.nearest_m)
        check.at_least(2, bins=self.bins)
        if self.farthest_m <= self.nearest_m:
            raise ValueError(
                "farthest_m must be above nearest_m; "
                f"got farthest_m={self.farthest_m}, nearest_m={self.nearest_m}."
            )


@dataclasses.dataclass(frozen=True)
class FusionConfig:
    """A training run.

    Attributes:
      sensors: one of `SENSORS`: which of both reach the fused map.
      model: the detector; its grid is what the camera sees.
      lift: the camera's part.
      sim: the sensors.
      depth_weight: of the cross-entropy of the depth bins against LiDAR-like exact depth.
      batch_size: scenes per update.
      optim: the optimiser; its schedule is as long as the run.
      run: length, logs and checkpoints.
      seed: of everything.
    """

    sensors: str = "fused"
    model: PillarConfig = dataclasses.replace(
        pillars.PRESETS["laptop"], grid=GridConfig((0.0, 40.0), (-20.0, 20.0), (-3.0, 1.5), 0.625)
    )
    lift: LiftConfig = LiftConfig()
    sim: SimConfig = SimConfig(LidarConfig(16, 256, dropout=0.2), CameraConfig(32, 96))
    depth_weight: float = 0.5
    batch_size: int = 4
    optim: OptimConfig = OptimConfig(lr=2e-3, warmup_steps=30, weight_decay=0.01, clip_norm=10.0)
    run: RunConfig = RunConfig(num_steps=300, save_every=150)
    seed: int = 0

    def __post_init__(self):
        check.types(self)
        check.one_of(SENSORS, sensors=self.sensors)
        check.at_least(0, depth_weight=self.depth_weight)
        check.positive(batch_size=self.batch_size)
        for side, size in (("height", self.sim.camera.height), ("width", self.sim.camera.width)):
            check.divides(**{"stride": 4, side: size})


_SIM = SimConfig(LidarConfig(8, 64), CameraConfig(16, 32), room=16, reach_m=16.0)
PRESETS = {
    "tiny": FusionConfig(
        "fused",
        dataclasses.replace(
            pillars.PRESETS["tiny"], grid=GridConfig((0.0, 16.0), (-8.0, 8.0), (-3.0, 1.5), 1.0)
        ),
        LiftConfig((8, 8), 4, 6, 2.0, 16.0),
        _SIM,
        batch_size=2,
        optim=OptimConfig(lr=1e-2),
        run=RunConfig(num_steps=2, save_every=2, log_every=1),
    ),
    "laptop": FusionConfig(),
    "h100": FusionConfig(
        "fused",
        PillarConfig(
            GridConfig((0.0, 40.0), (-20.0, 20.0), (-3.0, 1.5), 0.3125), 3, 48, (2, 3, 3),
            (2, 2, 2), (48, 96, 128), 64, 48, most=128,
        ),
        LiftConfig((48, 96), 48, 64),
        SimConfig(LidarConfig(16, 512, dropout=0.2), CameraConfig(96, 288)),
        batch_size=8,
        optim=OptimConfig(lr=2e-3, warmup_steps=100, weight_decay=0.01, clip_norm=10.0),
        run=RunConfig(num_steps=2500, save_every=2500, log_every=50),
    ),
}  # fmt: skip
"""By scale. A sparse LiDAR of 16 rows that loses a fifth of its returns, fixed beforehand."""

"""Configuration of the simulated sensors."""

import dataclasses

from jaxml.core import check


@dataclasses.dataclass(frozen=True)
class LidarConfig:
    """A spinning LiDAR.

    Attributes:
      beams: rows of rays.
      azimuths: rays of each row, all around.
      lowest_deg: elevation of the lowest row.
      highest_deg: of the highest.
      range_m: nothing is seen beyond.
      noise_m: standard deviation of a distance.
      dropout: share of returns that are lost.
      height_m: of the sensor above the ground.
    """

    beams: int = 64
    azimuths: int = 512
    lowest_deg: float = -24.0
    highest_deg: float = 2.0
    range_m: float = 80.0
    noise_m: float = 0.02
    dropout: float = 0.05
    height_m: float = 1.73

    def __post_init__(self):
        check.types(self)
        check.positive(beams=self.beams, azimuths=self.azimuths, range_m=self.range_m)
        check.positive(height_m=self.height_m)
        check.at_least(0, noise_m=self.noise_m)
        check.between(0, 1, dropout=self.dropout)

    @property
    def rays(self) -> int:
        """Rays of one turn."""
        return self.beams * self.azimuths


@dataclasses.dataclass(frozen=True)
class CameraConfig:
    """A pinhole camera that looks ahead from the LiDAR's place.

    Attributes:
      height: rows.
      width: columns.
      view_deg: horizontal field of view.
      range_m: depth of the background.
    """

    height: int = 64
    width: int = 192
    view_deg: float = 90.0
    range_m: float = 80.0

    def __post_init__(self):
        check.types(self)
        check.positive(height=self.height, width=self.width, range_m=self.range_m)
        check.between(10, 150, view_deg=self.view_deg)


@dataclasses.dataclass(frozen=True)
class SimConfig:
    """A simulated world.

    Attributes:
      lidar: of every agent.
      camera: of every agent.
      room: boxes that a scene holds.
      agents: vehicles that sense, the ego first.
      reach_m: agents and labels lie this near to the ego.
      least_points: a label counts where some agent has so many returns from it.
    """

    lidar: LidarConfig = LidarConfig()
    camera: CameraConfig = CameraConfig()
    room: int = 32
    agents: int = 1
    reach_m: float = 40.0
    least_points: int = 5

    def __post_init__(self):
        check.types(self)
        check.positive(room=self.room, agents=self.agents, reach_m=self.reach_m)
        check.at_least(0, least_points=self.least_points)


PRESETS = {
    "tiny": SimConfig(LidarConfig(8, 64), CameraConfig(16, 32), room=16, reach_m=16.0),
    "laptop": SimConfig(LidarConfig(32, 256), CameraConfig(32, 96)),
    "h100": SimConfig(),
}
"""By scale; "h100" has the 64 x 512 rays of the spec."""

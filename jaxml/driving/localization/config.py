"""Configuration of registration and odometry."""

import dataclasses

from jaxml.core import check


@dataclasses.dataclass(frozen=True)
class OdometryConfig:
    """LiDAR odometry after KISS-ICP (Vizzo et al. 2023).

    Attributes:
      voxel_m: side of a voxel of the map, v. New clouds are thinned to one point for each v / 2
        before they enter the map, and to one for each 1.5 v before they are registered.
      parts: the map keeps one point for each v / parts; a power of two up to 16.
      max_range_m: points farther away are not used, and leave the map.
      min_range_m: nor are points nearer than this.
      initial_sigma_m: how far the first prediction may be off.
      min_motion_m: deviations from the motion model below this do not adapt sigma.
      max_iterations: of one registration.
      tolerance: a step of the pose below this ends the registration.
      map_room: points that the map holds.
      cloud_room: points of one cloud.
      source_room: points that are registered.
      cell_room: points of one voxel that are looked at.
      buckets: of the map's hash, a power of two.
    """

    voxel_m: float = 1.0
    parts: int = 4
    max_range_m: float = 100.0
    min_range_m: float = 0.0
    initial_sigma_m: float = 2.0
    min_motion_m: float = 0.1
    max_iterations: int = 50
    tolerance: float = 1e-4
    map_room: int = 49_152
    cloud_room: int = 12_288
    source_room: int = 3_072
    cell_room: int = 20
    buckets: int = 1 << 17

    def __post_init__(self):
        check.types(self)
        check.positive(voxel_m=self.voxel_m, max_range_m=self.max_range_m)
        check.positive(initial_sigma_m=self.initial_sigma_m, min_motion_m=self.min_motion_m)
        check.positive(max_iterations=self.max_iterations, tolerance=self.tolerance)
        check.positive(source_room=self.source_room, cell_room=self.cell_room)
        check.at_least(0, min_range_m=self.min_range_m)
        check.at_least(self.cloud_room, map_room=self.map_room)
        if self.parts not in (1, 2, 4, 8, 16):
            raise ValueError(f"parts must be 1, 2, 4, 8 or 16; got parts={self.parts}.")
        if self.buckets < 2 or self.buckets > 1 << 17 or self.buckets & (self.buckets - 1):
            raise ValueError(f"buckets must be a power of two <= 2^17; got buckets={self.buckets}.")


PRESETS = {
    "tiny": OdometryConfig(
        map_room=2048, cloud_room=1024, source_room=256, buckets=1 << 12, max_iterations=15
    ),
    "laptop": OdometryConfig(),
    "h100": OdometryConfig(map_room=65_536, cloud_room=131_072 // 2, source_room=8192),
}
"""By scale: "laptop" for clouds of ten thousand points."""

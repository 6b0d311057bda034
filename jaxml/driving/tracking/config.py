"""Configuration of the tracker."""

import dataclasses

from jaxml.core import check


@dataclasses.dataclass(frozen=True)
class TrackerConfig:
    """Tracking after AB3DMOT (Weng et al. 2020).

    Attributes:
      least_iou: pairs that overlap less, seen from above, are not matched.
      max_age: frames without a match after which a track ends.
      min_hits: matches before a track is shown, after the first frames.
      initial_velocity_var: of a new track.
      process_var: added to velocities with each frame; a hundredth of it to everything else.
      measurement_var: of each number of a box.
    """

    least_iou: float = 0.1
    max_age: int = 2
    min_hits: int = 3
    initial_velocity_var: float = 1e3
    process_var: float = 0.1
    measurement_var: float = 0.1

    def __post_init__(self):
        check.types(self)
        check.between(0, 1, least_iou=self.least_iou)
        check.positive(max_age=self.max_age, min_hits=self.min_hits)
        check.positive(process_var=self.process_var, measurement_var=self.measurement_var)
        check.positive(initial_velocity_var=self.initial_velocity_var)

"""What a vehicle is assumed to do at worst."""

import dataclasses

from jaxml.core import check


@dataclasses.dataclass(frozen=True)
class RSSConfig:
    """Parameters of responsibility-sensitive safety (Shalev-Shwartz et al. 2017).

    The defaults are those commonly used with the library ad-rss.

    Attributes:
      response_s: rho, the time in which a vehicle may still do the worst.
      accel_max: a_max during it, m/s^2.
      brake_min: b_min, the braking that the rear vehicle is sure to do.
      brake_max: b_max, the hardest that the front vehicle may brake.
      brake_min_correct: braking of a vehicle in its own lane facing one in the wrong lane.
      lateral_accel_max: towards the other.
      lateral_brake_min: of sideways motion.
      margin_m: mu, sideways fluctuation to allow for.
    """

    response_s: float = 1.0
    accel_max: float = 3.5
    brake_min: float = 4.0
    brake_max: float = 8.0
    brake_min_correct: float = 3.0
    lateral_accel_max: float = 0.2
    lateral_brake_min: float = 0.8
    margin_m: float = 0.1

    def __post_init__(self):
        check.types(self)
        check.positive(response_s=self.response_s, brake_min=self.brake_min)
        check.positive(brake_max=self.brake_max, brake_min_correct=self.brake_min_correct)
        check.positive(lateral_brake_min=self.lateral_brake_min)
        check.at_least(0, accel_max=self.accel_max, margin_m=self.margin_m)
        check.at_least(0, lateral_accel_max=self.lateral_accel_max)
        if self.brake_min > self.brake_max:
            raise ValueError(
                f"brake_min must be <= brake_max; got brake_min={self.brake_min}, "
                f"brake_max={self.brake_max}."
            )

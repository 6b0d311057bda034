"""The intelligent driver model (Treiber et al. 2000) and pure pursuit."""

import dataclasses

import jax.numpy as jnp

from jaxml.core import check
from jaxml.core.types import Array


@dataclasses.dataclass(frozen=True)
class IDMConfig:
    """A driver.

    Attributes:
      speed: wanted, m/s.
      accel: highest acceleration a_0, m/s^2.
      brake: comfortable deceleration b, m/s^2.
      headway_s: T.
      gap_m: s_0, at standstill.
      exponent: of the free road.
    """

    speed: float = 25.0
    accel: float = 2.0
    brake: float = 3.0
    headway_s: float = 1.5
    gap_m: float = 3.0
    exponent: float = 4.0

    def __post_init__(self):
        check.positive(speed=self.speed, accel=self.accel, brake=self.brake)
        check.positive(headway_s=self.headway_s, exponent=self.exponent)
        check.at_least(0, gap_m=self.gap_m)


def acceleration(cfg: IDMConfig, speed: Array, gap: Array, closing: Array) -> Array:
    """`a_0 [1 - (v/v_0)^4 - (s*/s)^2]`, any shape, m/s^2.

    Args:
      cfg: the driver.
      speed: own v, m/s.
      gap: s to the vehicle ahead, bumper to bumper, metres; infinite on a free road.
      closing: own speed minus the leader's.

    >>> float(acceleration(IDMConfig(speed=20.0), jnp.float32(20.0), jnp.inf, jnp.float32(0.0)))
    0.0
    """
    brake = 2 * jnp.sqrt(cfg.accel * cfg.brake)
    wish = cfg.gap_m + jnp.maximum(speed * cfg.headway_s + speed * closing / brake, 0.0)
    free = (jnp.maximum(speed, 0.0) / cfg.speed) ** cfg.exponent
    return cfg.accel * (1 - free - (wish / jnp.maximum(gap, 0.1)) ** 2)


def pure_pursuit(place: Array, heading: Array, target: Array) -> Array:
    """Curvature of the arc through a point ahead, `2 y / d^2` in the vehicle's frame, [...].

    Args:
      place: own position [..., 2].
      heading: own heading [...].
      target: point to drive through [..., 2].

    >>> float(pure_pursuit(jnp.zeros(2), jnp.float32(0.0), jnp.array([5.0, 0.0])))
    0.0
    """
    gap = target - place
    across = -jnp.sin(heading) * gap[..., 0] + jnp.cos(heading) * gap[..., 1]
    return 2 * across / jnp.maximum(jnp.sum(gap**2, -1), 1.0)

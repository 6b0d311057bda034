"""Distances of responsibility-sensitive safety: closed forms over arrays of any shape.

Speeds are in metres per second, distances in metres from bumper to bumper or side to side.
"""

from typing import NamedTuple

import jax.numpy as jnp

from jaxml.core.types import Array
from jaxml.driving.safety.config import RSSConfig


def _stopping(speed: Array, accel: float, brake: float, response_s: float) -> Array:
    """Way until standstill: accelerate for the response time, then brake."""
    faster = speed + accel * response_s
    return (speed + faster) / 2 * response_s + faster**2 / (2 * brake)


def same_direction(rear: Array, front: Array, cfg: RSSConfig) -> Array:
    """Least safe distance of a rear vehicle behind a front one.

    `[v_r rho + a rho^2 / 2 + (v_r + rho a)^2 / (2 b_min) - v_f^2 / (2 b_max)]_+`

    Args:
      rear: speed of the rear vehicle, >= 0.
      front: speed of the front vehicle, >= 0.
      cfg: assumptions.

    >>> round(float(same_direction(jnp.float32(10.0), jnp.float32(10.0), RSSConfig())), 3)
    28.281
    """
    ahead = front**2 / (2 * cfg.brake_max)
    return jnp.maximum(_stopping(rear, cfg.accel_max, cfg.brake_min, cfg.response_s) - ahead, 0.0)


def opposite_direction(correct: Array, wrong: Array, cfg: RSSConfig) -> Array:
    """Least safe distance of two vehicles that face each other.

    Args:
      correct: speed of the vehicle in its own lane, >= 0.
      wrong: speed of the one in the wrong lane, >= 0, measured along its own way.
      cfg: assumptions.
    """
    mine = _stopping(correct, cfg.accel_max, cfg.brake_min_correct, cfg.response_s)
    return mine + _stopping(wrong, cfg.accel_max, cfg.brake_min, cfg.response_s)


def lateral(left: Array, right: Array, cfg: RSSConfig) -> Array:
    """Least safe distance sideways.

    Args:
      left: sideways speed of the left vehicle, positive to the right (towards the other).
      right: sideways speed of the right vehicle, in the same direction (negative: towards).
      cfg: assumptions.
    """
    a, b, rho = cfg.lateral_accel_max, cfg.lateral_brake_min, cfg.response_s

    def way(towards: Array) -> Array:
        """Towards the other: during the response time, and braking if it still approaches."""
        after = towards + a * rho
        return (towards + after) / 2 * rho + jnp.maximum(after, 0.0) ** 2 / (2 * b)

    return jnp.maximum(cfg.margin_m + way(left) + way(-right), 0.0)


class Response(NamedTuple):
    """What the rule asks for: whether the situation is dangerous, and the braking it demands."""

    dangerous: Array
    longitudinal_safe: Array
    lateral_safe: Array
    brake: Array


def respond(
    gap: Array, side_gap: Array, rear: Array, front: Array, left: Array, right: Array,
    cfg: RSSConfig,
) -> Response:  # fmt: skip
    """A situation is dangerous only when both distances are too short.

    Args:
      gap: bumper to bumper, negative if side by side.
      side_gap: side to side, negative if in line.
      rear: speed of the rear vehicle.
      front: of the front one.
      left: sideways speed of the left vehicle, see `lateral`.
      right: of the right one.
      cfg: assumptions.
    """
    along = gap >= same_direction(rear, front, cfg)
    across = side_gap >= lateral(left, right, cfg)
    dangerous = ~(along | across)
    return Response(dangerous, along, across, jnp.where(dangerous, cfg.brake_min, 0.0))

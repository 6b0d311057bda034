"""What a planner sees of a straight road with lanes, and the forms that planners have."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

from jaxml.core.types import Array
from jaxml.driving.planning.idm import IDMConfig, acceleration


class Traffic(NamedTuple):
    """A road along x at one moment; a vehicle is (x, y, heading, length, width, speed).

    Attributes:
      ego: own vehicle [6].
      others: [o, 6].
      mask: [o], False where there is none.
      lanes: y of the lane centres, [l].
      speed: wanted, m/s [].
      lane_m: width of a lane [].
    """

    ego: Array
    others: Array
    mask: Array
    lanes: Array
    speed: Array
    lane_m: Array


type Planner = Callable[[Traffic], Array]
"""From what is seen to an action (acceleration, curvature) [2]; pure, so it maps over drives."""

LANE_M = 4.0
FREE_M = 500.0


class Leader(NamedTuple):
    """The nearest vehicle ahead in a lane: bumper gap, its speed; FREE_M on a free lane."""

    gap: Array
    speed: Array


def in_lane(traffic: Traffic, y: Array) -> Array:
    """Vehicles whose body reaches into the lane at `y` within the next second, bool [o]."""
    side = traffic.others[:, 5] * jnp.sin(traffic.others[:, 2])
    now = jnp.abs(traffic.others[:, 1] - y)
    soon = jnp.abs(traffic.others[:, 1] + side - y)
    reach = traffic.lane_m / 2 + traffic.others[:, 4] / 2 - 0.6
    return traffic.mask & (jnp.minimum(now, soon) < reach)


def leader(traffic: Traffic, y: Array) -> Leader:
    """Who drives ahead in the lane at `y`."""
    apart = traffic.others[:, 0] - traffic.ego[0]
    body = (traffic.others[:, 3] + traffic.ego[3]) / 2
    ahead = in_lane(traffic, y) & (apart > 0)
    gap = jnp.where(ahead, apart - body, FREE_M)
    who = jnp.argmin(gap)
    speed = traffic.others[who, 5] * jnp.cos(traffic.others[who, 2])
    return Leader(gap[who], jnp.where(gap[who] < FREE_M, speed, traffic.ego[5]))


def follower(traffic: Traffic, y: Array) -> Leader:
    """Who drives behind in the lane at `y`."""
    apart = traffic.ego[0] - traffic.others[:, 0]
    body = (traffic.others[:, 3] + traffic.ego[3]) / 2
    behind = in_lane(traffic, y) & (apart >= 0)
    gap = jnp.where(behind, apart - body, FREE_M)
    who = jnp.argmin(gap)
    speed = traffic.others[who, 5] * jnp.cos(traffic.others[who, 2])
    return Leader(gap[who], jnp.where(gap[who] < FREE_M, speed, 0.0))


def foresee(traffic: Traffic, num_steps: int, step_s: float) -> Array:
    """Where others will be at constant velocity, [steps, o, 2]; who is not there is far away."""
    when = step_s * jnp.arange(1, num_steps + 1, dtype=traffic.ego.dtype)
    angle = traffic.others[:, 2]
    velocity = traffic.others[:, 5:6] * jnp.stack([jnp.cos(angle), jnp.sin(angle)], -1)
    places = traffic.others[None, :, :2] + velocity[None] * when[:, None, None]
    return jnp.where(traffic.mask[None, :, None], places, 1e4)


def driver(traffic: Traffic, cfg: IDMConfig) -> Callable[[Array, Leader], Array]:
    """The driver model with the wanted speed of `traffic`: `(speed, leader) -> acceleration`."""

    def accelerate(speed: Array, ahead: Leader) -> Array:
        scaled = speed * cfg.speed / traffic.speed  # the free-road term sees v / v_0
        free = acceleration(cfg, scaled, jnp.asarray(jnp.inf), jnp.zeros_like(speed))
        near = acceleration(cfg, speed, ahead.gap, speed - ahead.speed)
        alone = acceleration(cfg, speed, jnp.asarray(jnp.inf), jnp.zeros_like(speed))
        return free + near - alone

    return accelerate

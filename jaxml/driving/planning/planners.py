"""Three planners of one form: a driver that keeps its lane, one that plans, one that learnt."""

import dataclasses

import jax
import jax.numpy as jnp

from jaxml.core import check
from jaxml.core.types import Array
from jaxml.driving.planning import idm, mpc, traffic
from jaxml.driving.planning.idm import IDMConfig
from jaxml.driving.planning.mpc import MPCConfig, Plan, Problem
from jaxml.driving.planning.traffic import Leader, Planner, Traffic


@dataclasses.dataclass(frozen=True)
class PlannerConfig:
    """How a planner drives.

    Attributes:
      driver: of the way behind a leader.
      mpc: the controller.
      change_m: metres of progress over the horizon that a change of lane must gain.
      front_s: least time gap to the new leader.
      rear_brake: hardest braking a change may ask of the new follower, m/s^2.
      look_s: pure pursuit aims this far ahead.
    """

    driver: IDMConfig = IDMConfig()
    mpc: MPCConfig = MPCConfig()
    change_m: float = 3.0
    front_s: float = 0.8
    rear_brake: float = 2.0
    look_s: float = 1.2

    def __post_init__(self):
        check.positive(look_s=self.look_s, front_s=self.front_s, rear_brake=self.rear_brake)
        check.at_least(0, change_m=self.change_m)


def own_lane(seen: Traffic) -> Array:
    """Index of the lane that the ego vehicle is in, or moves into, []."""
    soon = seen.ego[1] + seen.ego[5] * jnp.sin(seen.ego[2])
    return jnp.argmin(jnp.abs(seen.lanes - soon))


def keep_lane(cfg: PlannerConfig) -> Planner:
    """IDM in the own lane, steered by pure pursuit."""

    def act(seen: Traffic) -> Array:
        y = seen.lanes[own_lane(seen)]
        here = traffic.leader(seen, y)
        crossing = traffic.leader(seen, seen.ego[1])
        drive = traffic.driver(seen, cfg.driver)
        accel = jnp.minimum(drive(seen.ego[5], here), drive(seen.ego[5], crossing))
        ahead = jnp.stack([seen.ego[0] + jnp.maximum(seen.ego[5] * cfg.look_s, 6.0), y])
        return jnp.stack([accel, idm.pure_pursuit(seen.ego[:2], seen.ego[2], ahead)])

    return act


def reference(cfg: PlannerConfig, seen: Traffic, y: Array) -> Array:
    """Positions along x and speeds of the driver model in the lane at `y`, [N, 2].

    The leader keeps its speed.
    """
    ahead, dt = traffic.leader(seen, y), cfg.mpc.step_s
    here = traffic.leader(seen, seen.ego[1])
    drive = traffic.driver(seen, cfg.driver)

    def step(carry: tuple[Array, ...], k: Array) -> tuple[tuple[Array, ...], Array]:
        way, speed = carry
        when = dt * k
        new = Leader(ahead.gap + ahead.speed * when - way, ahead.speed)
        old = Leader(here.gap + here.speed * when - way, here.speed)
        leaving = jnp.abs(seen.ego[1] - y) < LANE_SHARE * seen.lane_m
        both = jnp.minimum(drive(speed, new), drive(speed, old))
        accel = jnp.where((k < LEAVE_STEPS) | leaving, both, drive(speed, new))
        accel = jnp.clip(accel, -6.0, 4.0)
        way = way + jnp.maximum(speed * dt + 0.5 * accel * dt**2, 0.0)
        speed = jnp.maximum(speed + accel * dt, 0.0)
        return (way, speed), jnp.stack([way, speed])

    steps = jnp.arange(cfg.mpc.num_steps, dtype=seen.ego.dtype)
    _, found = jax.lax.scan(step, (jnp.zeros_like(seen.ego[0]), seen.ego[5]), steps)
    return found + jnp.stack([seen.ego[0], jnp.zeros_like(seen.ego[0])])[None]


LANE_SHARE = 0.5
LEAVE_STEPS = 5


def problem(cfg: PlannerConfig, seen: Traffic, y: Array) -> tuple[Problem, Array]:
    """The control problem of driving in the lane at `y`, and the way made by its reference."""
    found = reference(cfg, seen, y)
    flat = jnp.zeros_like(found[:, 0])
    path = jnp.stack([found[:, 0], flat + y, flat], -1)
    state = jnp.stack([seen.ego[0], seen.ego[1], seen.ego[2], seen.ego[5]])
    extent = jnp.stack(
        [(seen.others[:, 3] + seen.ego[3]) * 0.6, (seen.others[:, 4] + seen.ego[4]) * 0.35], -1
    )
    around = traffic.foresee(seen, cfg.mpc.num_steps, cfg.mpc.step_s)
    made = Problem(
        state, jnp.zeros(2, state.dtype), path, found[:, 1], around, extent, seen.others[:, 2],
        jnp.ones(2, state.dtype),
    )  # fmt: skip
    return made, found[-1, 0] - seen.ego[0]


def allowed(cfg: PlannerConfig, seen: Traffic, lane: Array) -> Array:
    """Whether the lane may be driven in: next to the own one, room ahead and behind, bool []."""
    here, y = own_lane(seen), seen.lanes[lane]
    ahead, behind = traffic.leader(seen, y), traffic.follower(seen, y)
    closing = behind.speed - seen.ego[5]
    drive = traffic.driver(seen._replace(speed=jnp.maximum(behind.speed, 1.0)), cfg.driver)
    asked = drive(behind.speed, Leader(behind.gap, seen.ego[5]))
    room = ahead.gap > 2.0 + cfg.front_s * seen.ego[5] * (ahead.gap < traffic.FREE_M)
    brake = (seen.ego[5] - ahead.speed) ** 2 / 2 / jnp.maximum(ahead.gap - 2.0, 0.1)
    soft = (seen.ego[5] <= ahead.speed) | (brake < 2.0)
    rear = (behind.gap > 2.0 + jnp.maximum(closing, 0.0)) & (asked > -cfg.rear_brake)
    return (lane == here) | ((jnp.abs(lane - here) == 1) & room & soft & rear)


def plan(cfg: PlannerConfig, seen: Traffic) -> Plan:
    """The plan of the lane that promises most way, by MPC; lanes are solved side by side."""
    lanes = jnp.arange(seen.lanes.shape[0])
    problems, way = jax.vmap(lambda y: problem(cfg, seen, y))(seen.lanes)
    plans = jax.vmap(lambda p: mpc.solve(cfg.mpc, p))(problems)
    here = own_lane(seen)
    gain = way - cfg.change_m * (lanes != here)
    may = jax.vmap(lambda i: allowed(cfg, seen, i))(lanes)
    best = jnp.argmax(jnp.where(may, gain, -jnp.inf))
    return jax.tree.map(lambda x: x[best], plans)


def planned(cfg: PlannerConfig) -> Planner:
    """Model-predictive control among lanes: the first action of the best plan."""

    def act(seen: Traffic) -> Array:
        return plan(cfg, seen).actions[0]

    return act

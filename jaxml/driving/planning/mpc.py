"""Model-predictive control: Gauss-Newton iLQR through the bicycle, one problem or thousands.

The cost of a step is a sum of squares of residuals - position, speed, acceleration, curvature,
jerk, change of curvature, nearness of obstacles, limits - so its Gauss-Newton model is exact where
residuals are linear and always convex. Everything is a function of arrays: `jax.vmap(solve)` solves
a batch in one program and `jax.grad` differentiates through it.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxml.core import check
from jaxml.core.types import Array
from jaxml.driving.planning import bicycle


@dataclasses.dataclass(frozen=True)
class MPCConfig:
    """Weights and length of the problem.

    Attributes:
      num_steps: N, the horizon.
      step_s: seconds of a step.
      num_iterations: Gauss-Newton steps.
      position: weight of a metre off the reference path.
      speed: of a metre per second off.
      accel: of 1 m/s^2.
      curvature: of 1 1/m.
      jerk: of a change of 1 m/s^2 between steps.
      twist: of a change of curvature of 1 1/m between steps.
      obstacle: of standing on an obstacle; falls as a Gaussian with its extent.
      limit: of 1 beyond a limit of the action.
      heading: of one radian off the reference.
      lateral: of 1 m/s^2 sideways.
    """

    num_steps: int = 20
    step_s: float = 0.2
    num_iterations: int = 8
    position: float = 0.3
    speed: float = 0.3
    accel: float = 0.3
    curvature: float = 20.0
    jerk: float = 0.3
    twist: float = 60.0
    obstacle: float = 8.0
    limit: float = 10.0
    heading: float = 1.0
    lateral: float = 0.2

    def __post_init__(self):
        check.types(self)
        check.positive(num_steps=self.num_steps, step_s=self.step_s)
        check.positive(num_iterations=self.num_iterations, accel=self.accel)
        check.positive(curvature=self.curvature)
        check.at_least(0, obstacle=self.obstacle, limit=self.limit, jerk=self.jerk)


class Problem(NamedTuple):
    """What one problem is about.

    Attributes:
      state: where the vehicle is, [4].
      last_action: what it did before, [2].
      path: reference x, y, heading by step, [N, 3].
      speed: wanted speed by step, [N].
      obstacles: x, y by step, [N, o, 2]; far away where there is none.
      extent: half length and half width of the ellipse to keep out of, by obstacle, [o, 2].
      direction: heading of each obstacle, [o].
      track: weights that multiply those of being off the path along and across it, [2].
    """

    state: Array
    last_action: Array
    path: Array
    speed: Array
    obstacles: Array
    extent: Array
    direction: Array
    track: Array


class Plan(NamedTuple):
    """Actions [N, 2], the states they lead to [N, 4], and the cost []."""

    actions: Array
    states: Array
    cost: Array


def follow(state: Array, path: Array, speed: Array) -> Problem:
    """A problem without obstacles: be at `path` [N, 3] at every step, with `speed` [N]."""
    num = path.shape[0]
    return Problem(
        state, jnp.zeros(2, state.dtype), path, speed,
        jnp.full((num, 1, 2), 1e4, state.dtype), jnp.ones((1, 2), state.dtype),
        jnp.zeros(1, state.dtype), jnp.ones(2, state.dtype),
    )  # fmt: skip


def residuals(cfg: MPCConfig, whole: Array, action: Array, now: tuple[Array, ...]) -> Array:
    """Residuals of one step; its cost is half their squared norm.

    Args:
      cfg: weights.
      whole: state after the action and the action before it, [6].
      action: [2].
      now: path [3], speed [], obstacles [o, 2], extent [o, 2], direction [o], track [2].
    """
    path, speed, obstacles, extent, direction, track = now
    off = whole[:2] - path[:2]
    cos, sin = jnp.cos(path[2]), jnp.sin(path[2])
    along, across = off[0] * cos + off[1] * sin, off[1] * cos - off[0] * sin
    gap = whole[None, :2] - obstacles
    c, s = jnp.cos(direction), jnp.sin(direction)
    own = jnp.stack([gap[:, 0] * c + gap[:, 1] * s, gap[:, 1] * c - gap[:, 0] * s], -1) / extent
    near = jnp.exp(-0.5 * jnp.sum(own**2, -1))
    limit = jnp.array([bicycle.MAX_ACCEL, bicycle.MAX_CURVATURE], whole.dtype)
    beyond = jax.nn.relu(jnp.abs(action) - limit) / limit
    backwards = jax.nn.relu(-whole[3:4])
    turn = bicycle.wrap(whole[2] - path[2])
    sizes = [
        (cfg.position * track[0], along[None]), (cfg.position * track[1], across[None]),
        (cfg.speed, whole[3:4] - speed), (cfg.heading, turn[None]),
        (cfg.accel, action[:1]), (cfg.curvature, action[1:]),
        (cfg.lateral, whole[3:4] ** 2 * action[1:]),
        (cfg.jerk, action[:1] - whole[4:5]), (cfg.twist, action[1:] - whole[5:6]),
        (cfg.obstacle, near), (cfg.limit, beyond), (cfg.limit, backwards),
    ]  # fmt: skip
    return jnp.concatenate([jnp.sqrt(weight) * value for weight, value in sizes])


def _advance(cfg: MPCConfig, whole: Array, action: Array) -> Array:
    """State and last action [6] after one action."""
    return jnp.concatenate([bicycle.step(whole[:4], action, cfg.step_s), action])


def _steps(problem: Problem) -> tuple[Array, ...]:
    num = problem.path.shape[0]
    fixed = (problem.extent, problem.direction, problem.track)
    spread = (jnp.broadcast_to(x, (num, *x.shape)) for x in fixed)
    return (problem.path, problem.speed, problem.obstacles, *spread)


def _step_cost(cfg: MPCConfig, whole: Array, action: Array, now: tuple[Array, ...]) -> Array:
    after = _advance(cfg, whole, action)
    late = jnp.concatenate([after[:4], whole[4:]])
    return residuals(cfg, late, action, now)


def _simulate(cfg: MPCConfig, problem: Problem, actions: Array) -> tuple[Array, Array]:
    """All states [N + 1, 6] and the cost []."""
    start = jnp.concatenate([problem.state, problem.last_action])

    def body(whole: Array, at: tuple[Array, tuple[Array, ...]]) -> tuple[Array, tuple]:
        action, now = at
        cost = 0.5 * jnp.sum(_step_cost(cfg, whole, action, now) ** 2)
        after = _advance(cfg, whole, action)
        return after, (after, cost)

    _, (states, costs) = jax.lax.scan(body, start, (actions, _steps(problem)))
    return jnp.concatenate([start[None], states]), jnp.sum(costs)


def _backward(
    cfg: MPCConfig, problem: Problem, states: Array, actions: Array, damping: Array
) -> tuple[Array, Array]:
    """Feed-forward [N, 2] and feedback [N, 2, 6] of the quadratic model."""

    def model(whole: Array, action: Array, now: tuple[Array, ...]) -> tuple[Array, ...]:
        r = _step_cost(cfg, whole, action, now)
        rx, ru = jax.jacfwd(_step_cost, argnums=(1, 2))(cfg, whole, action, now)
        fx, fu = jax.jacfwd(_advance, argnums=(1, 2))(cfg, whole, action)
        return r, rx, ru, fx, fu

    parts = jax.vmap(model)(states[:-1], actions, _steps(problem))

    def body(value: tuple[Array, Array], part: tuple[Array, ...]) -> tuple:
        slope, bend = value
        r, rx, ru, fx, fu = part
        qx, qu = rx.T @ r + fx.T @ slope, ru.T @ r + fu.T @ slope
        qxx = rx.T @ rx + fx.T @ bend @ fx
        quu = ru.T @ ru + fu.T @ bend @ fu + damping * jnp.eye(2, dtype=r.dtype)
        qux = ru.T @ rx + fu.T @ bend @ fx
        det = quu[0, 0] * quu[1, 1] - quu[0, 1] * quu[1, 0]
        adjugate = jnp.stack([
            jnp.stack([quu[1, 1], -quu[0, 1]]), jnp.stack([-quu[1, 0], quu[0, 0]]),
        ])  # fmt: skip
        inverse = adjugate / det
        k, gain = -inverse @ qu, -inverse @ qux
        slope = qx + gain.T @ quu @ k + gain.T @ qu + qux.T @ k
        bend = qxx + gain.T @ quu @ gain + gain.T @ qux + qux.T @ gain
        return (slope, 0.5 * (bend + bend.T)), (k, gain)

    zero = (jnp.zeros(6, states.dtype), jnp.zeros((6, 6), states.dtype))
    _, found = jax.lax.scan(body, zero, parts, reverse=True)
    return found


def _forward(
    cfg: MPCConfig, states: Array, actions: Array, k: Array, gain: Array, share: Array
) -> Array:
    """New actions [N, 2] along the new states."""

    def body(whole: Array, at: tuple[Array, ...]) -> tuple[Array, Array]:
        old, action, feed, feedback = at
        new = action + share * feed + feedback @ (whole - old)
        new = bicycle.clip_action(new)
        return _advance(cfg, whole, new), new

    return jax.lax.scan(body, states[0], (states[:-1], actions, k, gain))[1]


SHARES = (1.0, 0.5, 0.2, 0.05)
"""Lengths of step tried side by side."""


def solve(cfg: MPCConfig, problem: Problem, guess: Array | None = None) -> Plan:
    """The plan of one problem; map it over a batch with `jax.vmap`.

    Args:
      cfg: weights; `num_iterations` steps are made, each the best of four lengths, none worse
        than standing still.
      problem: see `Problem`.
      guess: actions to start from, [N, 2] (default: zeros).

    Raises:
      ValueError: a horizon that differs from the configuration's.
    """
    check.shape("path", problem.path, [cfg.num_steps, 3])
    check.shape("speed", problem.speed, [cfg.num_steps])
    actions = jnp.zeros((cfg.num_steps, 2), problem.state.dtype) if guess is None else guess

    def improve(carry: tuple[Array, Array, Array, Array], _: None) -> tuple:
        actions, states, cost, damping = carry
        k, gain = _backward(cfg, problem, states, actions, damping)
        shares = jnp.array(SHARES, states.dtype)
        tried = jax.vmap(lambda s: _forward(cfg, states, actions, k, gain, s))(shares)
        ways, costs = jax.vmap(lambda a: _simulate(cfg, problem, a))(tried)
        costs = jnp.where(jnp.isfinite(costs), costs, jnp.inf)
        best = jnp.argmin(costs)
        better = costs[best] < cost
        damping = jnp.where(better, damping * 0.3, jnp.maximum(damping, 1e-3) * 10.0)
        new = (tried[best], ways[best], costs[best])
        kept = jax.tree.map(lambda a, b: jnp.where(better, a, b), new, (actions, states, cost))
        return (*kept, damping), None

    start = (actions, *_simulate(cfg, problem, actions), jnp.asarray(1e-4, actions.dtype))
    (actions, states, cost, _), _ = jax.lax.scan(improve, start, length=cfg.num_iterations)
    return Plan(actions, states[1:, :4], cost)

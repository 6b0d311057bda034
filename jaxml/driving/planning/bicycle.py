"""The kinematic bicycle of Waymax: acceleration and curvature move position, heading, speed.

State [..., 4] = (x, y, heading, speed) in metres, radians, metres per second; action [..., 2] =
(acceleration in m/s^2, curvature in 1/m).
"""

import jax
import jax.numpy as jnp

from jaxml.core import check
from jaxml.core.types import Array

MAX_ACCEL = 6.0
MAX_CURVATURE = 0.3
SLOW_M_S = 0.6
"""Below this speed a heading says nothing about curvature."""


def wrap(angle: Array) -> Array:
    """The same angle in [-pi, pi).

    >>> float(wrap(jnp.float32(3.5))) < 0
    True
    """
    return (angle + jnp.pi) % (2 * jnp.pi) - jnp.pi


def clip_action(action: Array) -> Array:
    """The nearest action within +-6 m/s^2 and +-0.3 1/m."""
    limit = jnp.array([MAX_ACCEL, MAX_CURVATURE], action.dtype)
    limit = limit.reshape((1,) * (action.ndim - 1) + (2,))
    return jnp.clip(action, -limit, limit)


def step(state: Array, action: Array, step_s: float) -> Array:
    """The state after `step_s` seconds of one action, not clipped.

    Args:
      state: [..., 4].
      action: [..., 2].
      step_s: seconds.

    Raises:
      ValueError: a time that is not positive.
    """
    check.positive(step_s=step_s)
    x, y, heading, speed = (state[..., i] for i in range(4))
    accel, curvature = action[..., 0], action[..., 1]
    way = speed * step_s + 0.5 * accel * step_s**2
    after = wrap(heading + curvature * way)
    faster = speed + accel * step_s
    return jnp.stack(
        [x + way * jnp.cos(heading), y + way * jnp.sin(heading), after, faster], -1
    )  # fmt: skip


def inverse(state: Array, after: Array, step_s: float) -> Array:
    """The action that leads from `state` to `after` (its speed and heading), [..., 2].

    Curvature is zero where the vehicle hardly moves.

    >>> s, a = jnp.array([0.0, 0.0, 0.5, 9.0]), jnp.array([1.0, 0.02])
    >>> inverse(s, step(s, a, 0.1), 0.1).round(4).tolist()
    [1.0, 0.019999999552965164]
    """
    check.positive(step_s=step_s)
    accel = (after[..., 3] - state[..., 3]) / step_s
    way = state[..., 3] * step_s + 0.5 * accel * step_s**2
    moves = jnp.abs(way) > SLOW_M_S * step_s
    turn = wrap(after[..., 2] - state[..., 2])
    return jnp.stack([accel, jnp.where(moves, turn / jnp.where(moves, way, 1.0), 0.0)], -1)


def rollout(state: Array, actions: Array, step_s: float) -> Array:
    """States after each action [..., n, 2] -> [..., n, 4]; actions are clipped."""
    moved = jnp.moveaxis(clip_action(actions), -2, 0)

    def body(state: Array, action: Array) -> tuple[Array, Array]:
        state = step(state, action, step_s)
        return state, state

    _, states = jax.lax.scan(body, state, moved)
    return jnp.moveaxis(states, 0, -2)

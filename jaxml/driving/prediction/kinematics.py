"""The path that a vehicle's own motion suggests: a linear layer in front of the bicycle model.

Speeds, accelerations and curvatures of the past, a few products of them, and nothing of the scene;
eight numbers come out: corrections of speed and heading now, and acceleration and curvature as
polynomials of second degree in time. A layer of zeros drives straight on at constant speed. It is
fitted before the network, by the mean and the last error of its path, and then stays.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxml.core import param, rng
from jaxml.core.types import Array, Key, PyTree
from jaxml.driving.planning import bicycle
from jaxml.driving.prediction.config import MotionConfig
from jaxml.driving.prediction.scene import Scene, mirror
from jaxml.nn import initializer, linear

NUM_FEATURES = 18
SIZES = (1.0, 0.1, 1.0, 1.0, 1.0, 0.03, 0.03, 0.03)
"""Of the outputs: m/s, radians, m/s^2 and 1/m."""
GAIN = 20.0
"""Outputs of the layer are multiplied by this, so that it learns faster than the network."""
MAX_CURVATURE = bicycle.MAX_CURVATURE


class Start(NamedTuple):
    """Bicycle states now [n, 4] and actions [n, s, 2], not clipped."""

    state: Array
    actions: Array


def params() -> PyTree:
    """Declares the layer, zeros."""
    return linear.params(NUM_FEATURES, len(SIZES), bias=False, init=initializer.zeros)


def features(scene: Scene, step_s: float) -> Array:
    """What is known of an agent's own motion, numbers of about one [n, NUM_FEATURES]."""
    velocity = jnp.diff(scene.history[..., :2], axis=1) / step_s
    along, across = velocity[..., 0], velocity[..., 1]
    t = along.shape[1]
    speed = jnp.mean(jnp.linalg.norm(velocity, axis=-1), 1)
    moves, slow = jnp.tanh(speed), jnp.exp(-speed / 5)
    angle = jnp.arctan2(scene.history[..., 3], scene.history[..., 2])
    curved = _curvature(-angle[:, 0], speed * t * step_s, 1.0)
    lately = _curvature(-angle[:, t // 2], speed * (t - t // 2) * step_s, 0.6)
    gain = (along[:, -1] - along[:, 0]) / ((t - 1) * step_s)
    begun, ended = (along[:, i + 1] - along[:, i] for i in (0, -2))
    drift, skew = across[:, -1], jnp.mean(across, 1)
    far = jnp.maximum(speed, 1.0)
    return jnp.stack([
        along[:, -1] / 10, along[:, -2] / 10, along[:, 0] / 10, jnp.mean(along, 1) / 10,
        (1 - moves) * along[:, -1], moves, moves * gain / 2, moves * begun / step_s / 5,
        moves * ended / step_s / 5, gain * speed / 20, 20 * moves * curved, 20 * moves * lately,
        20 * slow * curved, drift, skew, drift / far, skew / far, curved * gain * 5,
    ], -1)  # fmt: skip


def _curvature(turned: Array, way_m: Array, least_m: float) -> Array:
    """Of a turn over a way, within what vehicles do; small where the way is short."""
    found = turned / jnp.maximum(way_m, least_m)
    return jnp.clip(found, -MAX_CURVATURE, MAX_CURVATURE)


def start(p: PyTree, scene: Scene, step_s: float, num_future: int) -> Start:
    """Where each agent starts from, and the actions its own motion suggests.

    Args:
      p: the layer.
      scene: n agents.
      step_s: seconds of a step.
      num_future: s.
    """
    out = GAIN * linear.apply(p, features(scene, step_s)) * jnp.array([SIZES])
    span = min(2, scene.history.shape[1] - 1)
    along = scene.history[:, -1, 0] - scene.history[:, -1 - span, 0]
    speed, zero = along / (span * step_s) + out[:, 0], jnp.zeros_like(along)
    when = jnp.arange(num_future, dtype=out.dtype) / num_future
    powers = jnp.stack([jnp.ones_like(when), when, when**2])
    actions = jnp.stack([out[:, 2:5] @ powers, out[:, 5:8] @ powers], -1)
    return Start(jnp.stack([zero, zero, out[:, 1], speed], -1), actions)


def bounded(actions: Array) -> Array:
    """Actions [..., 2] bent softly into what the bicycle takes."""
    limits = jnp.array([bicycle.MAX_ACCEL, bicycle.MAX_CURVATURE], actions.dtype)
    limits = limits.reshape((1,) * (actions.ndim - 1) + (2,))
    return limits * jnp.tanh(actions / limits)


def path(p: PyTree, scene: Scene, step_s: float, num_future: int) -> Array:
    """The path of the layer alone, in each agent's frame [n, s, 2]."""
    begun = start(p, scene, step_s, num_future)
    return bicycle.rollout(begun.state, bounded(begun.actions), step_s)[..., :2]


def fit(
    key: Key, cfg: MotionConfig, scene: Scene, future: Array, step_s: float,
    rows: Array, count: Array,
) -> PyTree:  # fmt: skip
    """Fits the layer to some agents; a function of arrays, so folds are one `jax.vmap`.

    Args:
      key: draws agents and which of them are mirrored.
      cfg: how.
      scene: n agents.
      future: in their frames [n, s, 2].
      step_s: seconds of a step.
      rows: the agents to fit to come first, int32 [n].
      count: how many they are [].
    """
    optimizer = optax.adam(optax.cosine_decay_schedule(cfg.lr, cfg.steps))

    def lost(p: PyTree, seen: Scene, ahead: Array) -> Array:
        found = path(p, seen, step_s, ahead.shape[1])
        gap = jnp.sqrt(jnp.sum((found - ahead) ** 2, -1) + 1e-4)
        return jnp.mean(gap) + cfg.end * jnp.mean(gap[:, -1])

    def step(carry: tuple[PyTree, PyTree], number: Array) -> tuple[tuple[PyTree, PyTree], None]:
        p, state = carry
        own = rng.fold(key, number)
        share = jax.random.uniform(rng.fold(own, "rows"), (cfg.batch_size,))
        drawn = rows[(share * count).astype(jnp.int32)]
        seen, ahead = jax.tree.map(lambda x: x[drawn], (scene, future))
        left = jax.random.bernoulli(rng.fold(own, "mirror"), 0.5, (cfg.batch_size,))
        grads = jax.grad(lost)(p, *mirror(seen, ahead, jnp.where(left, 1.0, -1.0)))
        updates, state = optimizer.update(grads, state, p)
        return (optax.apply_updates(p, updates), state), None

    p = param.init(rng.fold(key, "init"), params())
    (p, _), _ = jax.lax.scan(step, (p, optimizer.init(p)), jnp.arange(cfg.steps))
    return p

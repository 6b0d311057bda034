"""A Kalman filter over boxes with constant velocity, for all tracks at once."""

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from jaxml.core.types import Array
from jaxml.driving.geometry.se3 import wrap
from jaxml.driving.tracking.config import TrackerConfig

_SEEN, _STATE = 7, 10
_MOVE = np.eye(_STATE, dtype=np.float32)
_MOVE[0, 7] = _MOVE[1, 8] = _MOVE[2, 9] = 1.0


@flax.struct.dataclass
class Belief:
    """What is known of each track.

    Attributes:
      mean: box (7) and velocity per frame (3) [n, 10].
      cov: [n, 10, 10].
    """

    mean: Array
    cov: Array


def begin(boxes: Array, cfg: TrackerConfig) -> Belief:
    """Tracks that begin at boxes [n, 7], their velocities unknown."""
    mean = jnp.concatenate([boxes, jnp.zeros((len(boxes), 3), boxes.dtype)], -1)
    var = np.array([10 * cfg.measurement_var] * _SEEN + [cfg.initial_velocity_var] * 3, np.float32)
    return Belief(mean, jnp.broadcast_to(jnp.diag(jnp.asarray(var)), (len(boxes), _STATE, _STATE)))


def predict(belief: Belief, cfg: TrackerConfig) -> Belief:
    """One frame on."""
    move = jnp.asarray(_MOVE)
    noise = np.array([0.01 * cfg.process_var] * _SEEN + [cfg.process_var] * 3, np.float32)
    mean = belief.mean @ move.T
    cov = move @ belief.cov @ move.T + jnp.diag(jnp.asarray(noise))[None]
    return Belief(mean.at[:, 6].set(wrap(mean[:, 6])), cov)


def update(belief: Belief, boxes: Array, seen: Array, cfg: TrackerConfig) -> Belief:
    """Takes boxes [n, 7] in where `seen` [n].

    A heading that points the other way is taken as the same one turned by half a turn: detectors
    confuse the ends of a car.
    """
    turn = wrap(boxes[:, 6] - belief.mean[:, 6])
    turn = jnp.where(jnp.abs(turn) > jnp.pi / 2, wrap(turn + jnp.pi), turn)
    gap = (boxes - belief.mean[:, :_SEEN]).at[:, 6].set(turn)
    s = belief.cov[:, :_SEEN, :_SEEN] + cfg.measurement_var * jnp.eye(_SEEN)[None]
    gain = jnp.swapaxes(jnp.linalg.solve(s, belief.cov[:, :_SEEN]), -1, -2)
    mean = belief.mean + (gain @ gap[..., None])[..., 0]
    cov = belief.cov - gain @ belief.cov[:, :_SEEN]
    after = Belief(mean.at[:, 6].set(wrap(mean[:, 6])), cov)
    return jax.tree.map(
        lambda new, old: jnp.where(seen.reshape(-1, *(1,) * (new.ndim - 1)), new, old),
        after,
        belief,
    )

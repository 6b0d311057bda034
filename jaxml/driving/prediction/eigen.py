"""EigenTrajectory space (Bae et al. 2023): forecasts as a few coefficients of singular vectors.

Each path is moved to the agent's frame - origin at the last observed position, x along the last
two steps, scaled by the speed if the agent moves - and projected onto the first k left singular
vectors of training paths; agents that stand and agents that move have spaces of their own.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxml.core import check, linalg, rng
from jaxml.core.types import Array, Key


class Frame(NamedTuple):
    """An agent's own frame.

    Attributes:
      origin: [n, 2].
      turn: rotation into the frame, [n, 2, 2]; vectors multiply it from the left.
      scale: per metre, [n].
      moves: bool [n].
    """

    origin: Array
    turn: Array
    scale: Array
    moves: Array


def frame(past: Array, threshold: Array | float) -> Frame:
    """The frame by the last three observed positions of `past` [n, t, 2].

    Args:
      past: observed positions in metres.
      threshold: metres per step above which an agent counts as moving.
    """
    step = past[:, -1] - past[:, -3]
    length = jnp.linalg.norm(step, axis=-1)
    stands = length < 1e-6
    ahead = jnp.where(stands[:, None], jnp.array([[1.0, 0.0]], past.dtype), step)
    ahead = ahead / jnp.linalg.norm(ahead, axis=-1, keepdims=True)
    cos, sin = ahead[:, 0], ahead[:, 1]
    turn = jnp.stack([jnp.stack([cos, -sin], -1), jnp.stack([sin, cos], -1)], -2)
    moves = length / 2 > threshold
    scale = jnp.where(moves, 2.0 / jnp.where(moves, length, 1.0), 1.0)
    return Frame(past[:, -1], turn, scale, moves)


def _times(paths: Array, matrix: Array) -> Array:
    """Row vectors [n, ..., 2] times matrices [n, 2, 2], by elements: faster than 2x2 dots."""
    shape = (matrix.shape[0],) + (1,) * (paths.ndim - 2)
    x, y = paths[..., 0], paths[..., 1]
    (xx, xy), (yx, yy) = ([matrix[:, i, j].reshape(shape) for j in (0, 1)] for i in (0, 1))
    return jnp.stack([x * xx + y * yx, x * xy + y * yy], -1)


def _spread(per_agent: Array, paths: Array) -> Array:
    """Values [n] or [n, 2] with as many axes as `paths` [n, ..., 2] has."""
    ones = (1,) * (paths.ndim - 2)
    return per_agent.reshape(per_agent.shape[0], *ones, -1)


def normalise(frame_: Frame, paths: Array) -> Array:
    """Paths [n, ..., s, 2] in metres to the agent's frame."""
    moved = paths - _spread(frame_.origin, paths)
    return _times(moved, frame_.turn * frame_.scale[:, None, None])


def denormalise(frame_: Frame, paths: Array) -> Array:
    """Back: `denormalise(f, normalise(f, x)) == x`."""
    back = jnp.swapaxes(frame_.turn, 1, 2) / frame_.scale[:, None, None]
    return _times(paths, back) + _spread(frame_.origin, paths)


class EigenSpace(NamedTuple):
    """Two spaces, index 0 for agents that stand and 1 for those that move.

    Attributes:
      past_basis: orthonormal columns, [2, 2t, k].
      future_basis: [2, 2s, k].
      anchors: centres of training coefficients, [2, m, k]; the nearest to going on (standing still,
        for those that stand) is the first.
      threshold: metres per step above which an agent moves, [].
    """

    past_basis: Array
    future_basis: Array
    anchors: Array
    threshold: Array

    @staticmethod
    def fit(
        key: Key, past: np.ndarray, future: np.ndarray, *, num_vectors: int = 6,
        num_anchors: int = 20, threshold: float = 0.3, num_points: int = 8192,
    ) -> "EigenSpace":  # fmt: skip
        """Fits both spaces to training paths and their mirror images.

        Args:
          key: draws the points that anchors are the centres of, and their first choice.
          past: [n, t, 2] in metres.
          future: [n, s, 2].
          num_vectors: k, at most 2t and 2s.
          num_anchors: m.
          threshold: metres per step.
          num_points: paths drawn for the anchors of each space.

        Raises:
          ValueError: k out of range, or fewer than m paths in a space.
        """
        check.between(1, 2 * min(past.shape[1], future.shape[1]), num_vectors=num_vectors)
        past64 = np.concatenate([past, past * [1, -1]])
        future64 = np.concatenate([future, future * [1, -1]])
        place = jax.tree.map(np.asarray, frame(jnp.asarray(past64), threshold))
        parts = [[], [], []]
        for index in (0, 1):
            rows = place.moves == bool(index)
            check.at_least(num_anchors, **{f"paths that {['stand', 'move'][index]}": rows.sum()})
            own = jax.tree.map(lambda x, rows=rows: x[rows], place)
            seen, ahead = (
                np.asarray(normalise(own, jnp.asarray(x[rows]))).reshape(rows.sum(), -1)
                for x in (past64, future64)
            )
            before, after = (
                np.linalg.svd(x.T.astype(np.float64) @ x)[0][:, :num_vectors] for x in (seen, ahead)
            )
            named = rng.fold(key, "anchors", index)
            drawn = jax.random.randint(rng.fold(named, "draw"), (num_points,), 0, len(ahead))
            points = jnp.asarray(ahead[np.asarray(drawn)] @ after, jnp.float32)
            centres = np.asarray(linalg.kmeans(named, points, num_anchors).centres)
            straight = index * _straight(future.shape[1]) @ after
            centres = centres[np.argsort(np.linalg.norm(centres - straight, axis=-1))]
            for part, value in zip(parts, (before, after, centres), strict=True):
                part.append(np.asarray(value, np.float32))
        before, after, anchors = (jnp.stack(x) for x in parts)
        return EigenSpace(before, after, anchors, jnp.float32(threshold))


def _straight(num_steps: int) -> np.ndarray:
    """Constant velocity in the frame of an agent that moves, [2 s]."""
    return np.stack([np.arange(1, num_steps + 1), np.zeros(num_steps)], -1).reshape(-1)


def choose(frame_: Frame, pair: Array) -> Array:
    """Of `pair` [2, ...] the entry of each agent, [n, ...]."""
    return pair[frame_.moves.astype(jnp.int32)]


def encode(basis: Array, frame_: Frame, paths: Array) -> Array:
    """Coefficients [n, k] of paths [n, s, 2]."""
    flat = normalise(frame_, paths).reshape(paths.shape[0], -1)
    both = jnp.einsum("nf,mfk->nmk", flat, basis)
    return jnp.where(frame_.moves[:, None], both[:, 1], both[:, 0])


def decode(basis: Array, frame_: Frame, coefficients: Array) -> Array:
    """Paths [n, m, s, 2] in metres of coefficients [n, m, k]."""
    n, m = coefficients.shape[:2]
    apart = jnp.where(frame_.moves[:, None, None], 0.0, coefficients)
    both = jnp.concatenate([apart, coefficients - apart], -1)
    flat = both @ jnp.concatenate([basis[0], basis[1]], -1).T
    return denormalise(frame_, flat.reshape(n, m, -1, 2))


def anchor_paths(space: EigenSpace, past: Array) -> Array:
    """The forecast that learns nothing further: every anchor in the agent's frame, [n, m, s, 2]."""
    own = frame(past, space.threshold)
    return decode(space.future_basis, own, choose(own, space.anchors))

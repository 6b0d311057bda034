"""Forecasts that learn nothing, or a line: the rows that stand beside every learned one."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxml.core import check
from jaxml.core.types import Array, Key


def constant_velocity(past: np.ndarray, num_future: int, span: int = 1) -> np.ndarray:
    """The last observed velocity goes on.

    Args:
      past: [n, t, 2].
      num_future: s.
      span: observed steps that the velocity is the mean of; 1 is the last step.

    Returns:
      Paths [n, s, 2].

    Raises:
      ValueError: `span` outside [1, t - 1].

    >>> past = np.array([[[0.0, 0.0], [1.0, 0.0]]])
    >>> constant_velocity(past, 2)[0].tolist()
    [[2.0, 0.0], [3.0, 0.0]]
    """
    check.between(1, past.shape[1] - 1, span=span)
    velocity = (past[:, -1] - past[:, -1 - span]) / span
    steps = np.arange(1, num_future + 1)[None, :, None]
    return past[:, -1:] + velocity[:, None] * steps


def least_squares(past: np.ndarray, num_future: int) -> np.ndarray:
    """The straight line at constant speed that fits all observed positions best, [n, s, 2]."""
    check.positive(num_future=num_future)
    t = past.shape[1]
    design = np.stack([np.ones(t), np.arange(t)], -1)
    fit = np.linalg.pinv(design)  # [2, t]
    ahead = np.stack([np.ones(num_future), np.arange(t, t + num_future)], -1)
    return np.einsum("sc,ct,ntx->nsx", ahead, fit, past)


def rotated(key: Key, past: Array, num_future: int, num_samples: int, degrees: float) -> Array:
    """Constant velocity with random turns, paths [n, k, s, 2] (Schoeller et al. 2020: 25 degrees).

    Raises:
      ValueError: a number of samples below 1.
    """
    check.positive(num_samples=num_samples)
    velocity = past[:, -1] - past[:, -2]
    angle = jnp.deg2rad(degrees) * jax.random.normal(key, (past.shape[0], num_samples))
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    x, y = velocity[:, :1], velocity[:, 1:]
    turned = jnp.stack([cos * x - sin * y, sin * x + cos * y], -1)
    steps = jnp.arange(1, num_future + 1, dtype=past.dtype)
    return past[:, None, -1:] + turned[:, :, None] * steps[None, None, :, None]


class Spread(NamedTuple):
    """Standard deviation of a forecast by step, metres [s]: what makes a path a density."""

    scale: np.ndarray


def spread(paths: np.ndarray, truth: np.ndarray) -> Spread:
    """The round Gaussian around each step that fits *training* errors best."""
    square = np.sum((paths - truth) ** 2, -1)
    return Spread(np.sqrt(np.mean(square, 0) / 2))

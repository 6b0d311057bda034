"""Order and proportions of training: competence, task mixtures."""

from collections.abc import Sequence

import numpy as np

from jaxml.core import check


def competence(step: float | np.ndarray, num_steps: int, first: float = 0.1) -> np.ndarray:
    """`min(1, sqrt(t (1 - c0^2) / T + c0^2))` (Platanios et al. 2019; recalled).

    At step t only examples whose difficulty percentile is at most this are drawn.

    Args:
      step: t.
      num_steps: T, steps until everything is drawn.
      first: c0 at step 0.

    Raises:
      ValueError: num_steps < 1, or first outside [0, 1].

    >>> competence(np.array([0, 100]), 100, first=0.5).tolist()
    [0.5, 1.0]
    """
    check.at_least(1, num_steps=num_steps)
    check.between(0, 1, first=first)
    return np.minimum(1.0, np.sqrt(np.asarray(step) * (1 - first**2) / num_steps + first**2))


def percentile(difficulty: np.ndarray) -> np.ndarray:
    """Share of examples at most as difficult, ties by place: float64 [n] in (0, 1]."""
    order = np.argsort(difficulty, kind="stable")
    out = np.empty(len(order))
    out[order] = np.arange(1, len(order) + 1) / len(order)
    return out


def task_mixture(sizes: Sequence[int], cap: int) -> np.ndarray:
    """Examples-proportional with a cap: `min(n, cap)` normalised, float64 [tasks].

    Raises:
      ValueError: a size or cap that is not positive.
    """
    check.positive(cap=cap, smallest_size=min(sizes))
    limited = np.minimum(np.asarray(sizes, np.float64), cap)
    return limited / limited.sum()

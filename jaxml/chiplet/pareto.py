"""Exact Pareto fronts."""

from collections.abc import Sequence
from typing import Any

import numpy as np


def pareto(points: Any) -> np.ndarray:
    """Which points no other point dominates, all objectives being costs.

    A point is dominated where another is no worse in every objective and better in one; equal
    points do not dominate each other. Two objectives take n log n, more take n times the front.

    Args:
      points: [n, k], finite.

    Returns:
      bool [n].

    Raises:
      ValueError: points of another rank, or not finite.

    >>> pareto([[1.0, 3.0], [2.0, 2.0], [2.0, 3.0], [3.0, 1.0], [1.0, 3.0]]).tolist()
    [True, True, False, True, True]
    """
    values = np.asarray(points, np.float64)
    if values.ndim != 2 or values.shape[1] < 1:
        raise ValueError(f"points must have shape [n, k]; got points.shape={values.shape}.")
    if not np.isfinite(values).all():
        raise ValueError("points must be finite; leave infeasible designs out.")
    order = np.lexsort(values.T[::-1])
    ranked = values[order]
    keep = _staircase(ranked) if values.shape[1] <= 2 else _against_front(ranked)
    found = np.zeros(len(values), bool)
    found[order] = keep
    return found


def _staircase(ranked: np.ndarray) -> np.ndarray:
    """Of points sorted by all objectives: better in the last one than all points before."""
    if not len(ranked):
        return np.zeros(0, bool)
    last = ranked[:, -1]
    before = np.concatenate([[np.inf], np.minimum.accumulate(last)[:-1]])
    better = last < before
    equal = np.concatenate([[False], (ranked[1:] == ranked[:-1]).all(1)])
    first = np.maximum.accumulate(np.where(equal, 0, np.arange(len(ranked))))
    return better[first]


def _against_front(ranked: np.ndarray) -> np.ndarray:
    keep = np.zeros(len(ranked), bool)
    front = np.empty((0, ranked.shape[1]))
    for i, point in enumerate(ranked):
        no_worse = (front <= point).all(1)
        if not (no_worse & (front < point).any(1)).any():
            keep[i] = True
            front = np.concatenate([front, point[None]])
    return keep


def front_of(report: Any, objectives: Sequence[str] = ("time_s", "energy_j")) -> np.ndarray:
    """Indices of the feasible designs of a swept report that no feasible one dominates, by time.

    Raises:
      ValueError: an objective that a report does not have.
    """
    for name in objectives:
        if not hasattr(report, name):
            raise ValueError(f"objectives must be numbers of a report; got {name!r}.")
    possible = np.flatnonzero(np.asarray(report.feasible))
    columns = [np.asarray(getattr(report, name), np.float64)[possible] for name in objectives]
    points = np.stack(columns, 1)
    found = possible[pareto(points)]
    return found[np.argsort(np.asarray(getattr(report, objectives[0]))[found], kind="stable")]

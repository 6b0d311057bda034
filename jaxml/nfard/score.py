"""How well verdicts and distances tell copies from others."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxml.core import check


class Score(NamedTuple):
    """Attributes: F1, precision and recall of the class "reuse", and the area under the ROC."""

    f1: float
    precision: float
    recall: float
    auc: float
    num_positive: int
    num_negative: int


def auc(reuse: Sequence[bool] | np.ndarray, distances: Sequence[float] | np.ndarray) -> float:
    """Probability that a copy is nearer than another model; ties count half.

    Raises:
      ValueError: no copy, or no other model.

    >>> auc([True, True, False], [0.1, 0.5, 0.5])
    0.75
    """
    from scipy.stats import rankdata

    truth, d = np.asarray(reuse, bool), np.asarray(distances, np.float64)
    check.shape("distances", d, [len(truth)])
    p, n = int(truth.sum()), int((~truth).sum())
    if not p or not n:
        raise ValueError(f"there must be both copies and others; got {p} and {n}.")
    ranks = rankdata(-d)
    return float((ranks[truth].sum() - p * (p + 1) / 2) / (p * n))


def f1(
    reuse: Sequence[bool] | np.ndarray, said: Sequence[bool] | np.ndarray
) -> tuple[float, float, float]:
    """F1, precision, recall of the class "reuse"; a share of nothing is 0.

    >>> f1([True, True, False], [True, False, False])
    (0.6666666666666666, 1.0, 0.5)
    """
    truth, out = np.asarray(reuse, bool), np.asarray(said, bool)
    check.shape("said", out, [len(truth)])
    hit = int((truth & out).sum())
    precision = hit / out.sum() if out.any() else 0.0
    recall = hit / truth.sum() if truth.any() else 0.0
    return (2 * hit / max(int(out.sum() + truth.sum()), 1), float(precision), float(recall))


def score(
    reuse: Sequence[bool] | np.ndarray,
    said: Sequence[bool] | np.ndarray,
    distances: Sequence[float] | np.ndarray,
) -> Score:
    """All of it.

    Args:
      reuse: the truth.
      said: the verdicts, from thresholds that were fixed before.
      distances: lower is closer.
    """
    truth = np.asarray(reuse, bool)
    positive = int(truth.sum())
    return Score(*f1(reuse, said), auc(reuse, distances), positive, len(truth) - positive)


def best_f1(reuse: Sequence[bool] | np.ndarray, distances: Sequence[float] | np.ndarray) -> float:
    """F1 at the best threshold: a bound that no calibration exceeds, never a result."""
    d = np.asarray(distances, np.float64)
    return max(f1(reuse, d <= t)[0] for t in np.unique(d))

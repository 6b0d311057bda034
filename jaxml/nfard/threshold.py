"""Thresholds from models that are known not to be copies, and how unusual a distance is."""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from jaxml.core import check

Rule = Literal["mean", "prediction"]
RULES = ("mean", "prediction")


class Threshold(NamedTuple):
    """Attributes: tau; mean, standard deviation and number of the references' distances."""

    value: float
    mean: float
    sd: float
    n: int


def threshold(
    distances: Sequence[float] | np.ndarray,
    confidence: float = 0.99,
    alpha: float = 1.0,
    rule: Rule = "mean",
) -> Threshold:
    """The distance at or below which a suspect counts as reuse.

    `mean`: alpha (mean - t sd / sqrt n), t the quantile `confidence` of Student's t with n - 1
    degrees, the one-sided lower bound of the references' mean. `prediction`: alpha mean
    exp(-t sd / mean sqrt(1 + 1/n)), the bound that one more independent model stays above;
    distances are taken as log-normal, so that it is positive however few references there are.

    Args:
      distances: of at least 3 references from the victim.
      confidence: in (0.5, 1).
      alpha: > 0, in how far the bound must be undercut.
      rule: one of the two.

    Raises:
      ValueError: fewer than 3 references, distances that are not finite, numbers out of range.

    >>> round(threshold([0.41, 0.39, 0.44, 0.40, 0.42]).value, 6)
    0.379768
    """
    from scipy import stats

    check.one_of(RULES, rule=rule)
    check.positive(alpha=alpha)
    if not 0.5 < confidence < 1:
        raise ValueError(f"confidence must lie in (0.5, 1); got confidence={confidence}.")
    d = np.asarray(distances, np.float64)
    if d.ndim != 1 or len(d) < 3:
        raise ValueError(f"there must be at least 3 reference models; got {d.size}.")
    if not np.isfinite(d).all():
        raise ValueError("distances of references must be finite; one is not.")
    mean, sd, n = float(d.mean()), float(d.std(ddof=1)), len(d)
    quantile = float(stats.t.ppf(confidence, n - 1))
    if rule == "mean":
        bound = mean - quantile * sd / math.sqrt(n)
    else:
        bound = mean * math.exp(-quantile * sd / mean * math.sqrt(1 + 1 / n)) if mean > 0 else 0.0
    return Threshold(alpha * bound, mean, sd, n)


def p_value(distance: float, found: Threshold) -> float:
    """Probability that one more independent model comes this near, or nearer.

    Of Student's t with n - 1 degrees at log(distance / mean) / (sd / mean sqrt(1 + 1/n)): the
    logarithms of distances are taken for a normal sample.

    >>> p_value(0.41, Threshold(0.3, 0.41, 0.02, 6))
    0.5
    """
    from scipy import stats

    if distance <= 0 or found.sd == 0:
        return float(distance >= found.mean)
    scale = found.sd / found.mean * math.sqrt(1 + 1 / found.n)
    return float(stats.t.cdf(math.log(distance / found.mean) / scale, found.n - 1))

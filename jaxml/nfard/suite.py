"""The test suite: normal samples, chosen with the victim alone."""

from typing import Literal, NamedTuple

import jax
import numpy as np

from jaxml.core import check
from jaxml.core.types import Array, Key

Strategy = Literal["low_confidence", "random", "high_confidence", "gini"]
STRATEGIES = ("low_confidence", "random", "high_confidence", "gini")


class Suite(NamedTuple):
    """Rows of the pool: half of them to fit projections on, half to measure on; int64."""

    fit: np.ndarray
    measure: np.ndarray

    @property
    def rows(self) -> np.ndarray:
        """All rows, the fit half first."""
        return np.concatenate([self.fit, self.measure])


def select_suite(
    victim_probs: Array | np.ndarray,
    n: int = 2000,
    strategy: Strategy = "low_confidence",
    key: Key | None = None,
) -> Suite:
    """The n samples that tell most, from the victim's probabilities on a pool of test samples.

    `low_confidence`: smallest largest probability. `high_confidence`: the opposite. `gini`:
    largest Gini impurity 1 - sum p^2. `random`: drawn with `key`. Ranks alternate between the
    two halves, so that both are alike. No label is looked at.

    Args:
      victim_probs: [pool, C].
      n: even, at most the pool.
      strategy: one of the four.
      key: of the random choice, needed by no other.

    Raises:
      ValueError: n odd, below 4 or above the pool; `random` without a key.

    >>> s = select_suite(np.array([[.9, .1], [.6, .4], [.5, .5], [.7, .3], [1, 0]]), 4)
    >>> s.fit.tolist(), s.measure.tolist()
    ([2, 3], [1, 0])
    """
    check.one_of(STRATEGIES, strategy=strategy)
    p = np.asarray(victim_probs)
    pool = check.shape("victim_probs", p, ["pool", "C"])["pool"]
    check.between(4, pool, n=n)
    check.divides(two=2, n=n)
    if strategy == "random":
        if key is None:
            raise ValueError("key must be given for strategy='random'; got key=None.")
        ranked = np.asarray(jax.random.permutation(key, pool))
    else:
        score = np.sum(p**2, 1) if strategy == "gini" else p.max(1)
        score = -score if strategy == "high_confidence" else score
        # Ties go to the smaller row; only the chosen part is sorted.
        chosen = np.argpartition(score, n - 1)[:n]
        border = score[chosen].max()
        inside = np.flatnonzero(score < border)
        ties = np.flatnonzero(score == border)[: n - len(inside)]
        chosen = np.concatenate([inside, ties])
        ranked = chosen[np.lexsort((chosen, score[chosen]))]
    ranked = ranked[:n].astype(np.int64)
    return Suite(ranked[0::2], ranked[1::2])

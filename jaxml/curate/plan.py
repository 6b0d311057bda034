"""What to train within a budget when only so many different tokens exist."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from jaxml.core import check
from jaxml.curate.law import C4_LAW, PUBLISHED, Law, Repetition, constrained_loss


class Plan(NamedTuple):
    """A way to spend a budget.

    Attributes:
      num_params: N.
      num_tokens: D = C / 6 / N.
      num_epochs: D over the unique tokens that are used.
      loss: predicted.
    """

    num_params: float
    num_tokens: float
    num_epochs: float
    loss: float


def plan(
    flops: float,
    unique_tokens: float,
    repetition: Repetition = PUBLISHED,
    law: Law = C4_LAW,
    num_points: int = 4001,
) -> list[Plan]:
    """Every local minimum of the predicted loss over `N D = flops / 6`, best first.

    A grid over ln N finds the valleys, golden-section search goes down each.

    Args:
      flops: C.
      unique_tokens: U that there are; a run that reads fewer has one epoch.
      repetition: R_D*, R_N*.
      law: coefficients.
      num_points: of the grid, over six decades on either side of the optimum without repetition.

    Raises:
      ValueError: a budget that is not positive.
    """
    check.positive(flops=flops, unique_tokens=unique_tokens)
    middle = np.log(law.optimum(flops)[0])
    grid = middle + np.linspace(-6, 6, num_points) * np.log(10)

    def losses(log_n: np.ndarray) -> np.ndarray:
        tokens = flops / 6 / np.exp(log_n)
        return constrained_loss(
            np.exp(log_n), tokens, np.minimum(tokens, unique_tokens), repetition, law
        )

    values = losses(grid)
    valley = (values[1:-1] < values[:-2]) & (values[1:-1] <= values[2:])
    found = [_deepest(losses, grid[i], grid[i + 2]) for i in np.flatnonzero(valley)]
    plans = []
    for log_n, loss in sorted(found, key=lambda pair: pair[1]):
        n = float(np.exp(log_n))
        tokens = flops / 6 / n
        plans.append(Plan(n, tokens, tokens / min(tokens, unique_tokens), loss))
    return plans


def _deepest(
    losses: Callable[[np.ndarray], np.ndarray], low: float, high: float
) -> tuple[float, float]:
    """The least loss between two points: the grid is refined around its best point."""
    for _ in range(8):
        grid = np.linspace(low, high, 41)
        values = losses(grid)
        i = int(np.clip(np.argmin(values), 1, 39))
        low, high = grid[i - 1], grid[i + 1]
    return float(grid[i]), float(values[i])

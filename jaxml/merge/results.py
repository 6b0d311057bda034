"""What a study of merging found, and its means over sets."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Row(NamedTuple):
    """One score, in percent; `gamma` and `per_task` are None where there are none."""

    method: str
    count: int
    set: int
    accuracy: float
    gamma: float | None = None
    per_task: float | None = None
    loss: float | None = None


class Curve(NamedTuple):
    """Test loss and accuracy on the straight way between two networks."""

    method: str
    ts: list[float]
    losses: list[float]
    accuracies: list[float]
    barrier: float


class Results(NamedTuple):
    """What a study found.

    Attributes:
      rows: all scores on test images.
      curves: between the first two networks.
      held_out: by n and gamma, the score of every set that chose.
      diagnostics: of the first merge of two by `cca`.
      seconds: of each phase.
    """

    rows: list[Row]
    curves: list[Curve]
    held_out: dict[int, dict[float, list[float]]]
    diagnostics: dict[str, dict[str, float]]
    seconds: dict[str, float]


def table(rows: Sequence[Row], key: str = "accuracy") -> dict[str, dict[int, tuple[float, float]]]:
    """Mean and standard deviation over sets, by method and count."""
    found: dict[str, dict[int, tuple[float, float]]] = {}
    for method in dict.fromkeys(row.method for row in rows):
        for count in dict.fromkeys(row.count for row in rows):
            values = [getattr(r, key) for r in rows if (r.method, r.count) == (method, count)]
            values = [v for v in values if v is not None]
            if values:
                spread = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
                found.setdefault(method, {})[count] = (float(np.mean(values)), spread)
    return found


def summary(rows: Sequence[Row], count: int) -> str:
    """One line of mean accuracies."""
    means = table([row for row in rows if row.count == count])
    return ", ".join(f"{method} {by[count][0]:.2f}" for method, by in means.items())

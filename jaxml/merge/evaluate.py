"""Scores of single, merged and joined networks, and losses on the way between two."""

from collections.abc import Callable, Sequence

import numpy as np

from jaxml.core import check
from jaxml.core.types import PyTree
from jaxml.merge.basis import average


def accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Share of rows of [n, classes] whose largest entry is the label's, in percent."""
    check.shape("labels", labels, [len(logits)])
    return 100 * float(np.mean(logits.argmax(-1) == labels))


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean negative log-likelihood in nats."""
    check.shape("labels", labels, [len(logits)])
    wide = np.asarray(logits, np.float64)
    shifted = wide - wide.max(-1, keepdims=True)
    normal = np.log(np.exp(shifted).sum(-1))
    return float(np.mean(normal - shifted[np.arange(len(labels)), labels]))


def ensemble_logits(logits: np.ndarray) -> np.ndarray:
    """Mean of the networks' logits [k, n, classes] -> [n, classes]."""
    check.shape("logits", logits, ["k", "n", "classes"])
    return logits.mean(0)


def _softmax(logits: np.ndarray) -> np.ndarray:
    wide = np.exp(np.asarray(logits, np.float64) - logits.max(-1, keepdims=True))
    return wide / wide.sum(-1, keepdims=True)


def _check_classes(classes: Sequence[Sequence[int]], num_classes: int) -> None:
    every = sorted(c for part in classes for c in part)
    if every != list(range(num_classes)):
        raise ValueError(
            f"classes must name each of {num_classes} classes once; got {[*map(list, classes)]}."
        )


def joint_probabilities(logits: np.ndarray, classes: Sequence[Sequence[int]]) -> np.ndarray:
    """Softmax within each network's classes: [n, classes] -> [n, classes].

    Used for one network merged from networks of disjoint classes: logits of different origin are
    not comparable, probabilities within their own classes are.

    Raises:
      ValueError: classes missing or named twice.

    >>> joint_probabilities(np.zeros((1, 3)), [[0, 2], [1]]).tolist()
    [[0.5, 1.0, 0.5]]
    """
    _check_classes(classes, logits.shape[-1])
    found = np.zeros(logits.shape)
    for part in classes:
        found[:, list(part)] = _softmax(logits[:, list(part)])
    return found


def per_task_accuracy(
    logits: np.ndarray, labels: np.ndarray, classes: Sequence[Sequence[int]]
) -> float:
    """Percent right when the set of classes of each row is known."""
    _check_classes(classes, logits.shape[-1])
    right = 0
    for part in classes:
        rows = np.isin(labels, list(part))
        chosen = np.asarray(part)[logits[rows][:, list(part)].argmax(-1)]
        right += int(np.sum(chosen == labels[rows]))
    return 100 * right / len(labels)


def ensemble_of_classes(logits: np.ndarray, classes: Sequence[Sequence[int]]) -> np.ndarray:
    """Networks of disjoint classes together: each one's softmax over its own, [n, classes].

    Args:
      logits: [k, n, classes].
      classes: of each network.
    """
    _check_classes(classes, logits.shape[-1])
    found = np.zeros(logits.shape[1:])
    for one, part in zip(logits, classes, strict=True):
        found[:, list(part)] = _softmax(one[:, list(part)])
    return found


def interpolate(a: PyTree, b: PyTree, t: float) -> PyTree:
    """`(1 - t) a + t b` of two networks in one basis."""
    check.between(0, 1, t=t)
    return average([a, b], [1 - t, t])


def curve(
    a: PyTree, b: PyTree, measure: Callable[[PyTree], float], num: int = 11
) -> tuple[list[float], list[float]]:
    """Positions on the straight way from `a` to `b`, and `measure` there."""
    check.at_least(2, num=num)
    ts = [i / (num - 1) for i in range(num)]
    return ts, [measure(interpolate(a, b, t)) for t in ts]


def barrier(losses: Sequence[float]) -> float:
    """How far losses at equal steps rise above the straight line between their ends.

    >>> barrier([1.0, 4.0, 2.0])
    2.5
    """
    check.at_least(2, num_losses=len(losses))
    values = np.asarray(losses, np.float64)
    line = np.linspace(values[0], values[-1], len(values))
    return float(np.max(values - line))

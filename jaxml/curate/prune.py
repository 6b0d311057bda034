"""Scores of labelled examples early in training: EL2N, GraNd, forgetting."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxml.core import check
from jaxml.core.types import Array, PyTree
from jaxml.curate import perexample
from jaxml.curate.perexample import LossFn


def el2n(
    logits_fn: Callable[[PyTree, PyTree], Array],
    params_runs: Sequence[PyTree],
    examples: PyTree,
    labels: np.ndarray,
    batch_size: int = 256,
) -> np.ndarray:
    """`||softmax(f(x)) - y||_2`, the mean over runs (Paul et al. 2021): float64 [n].

    Keep the highest. The paper averages about ten runs, a few epochs old.

    Args:
      logits_fn: `(params, example) -> logits [classes]`.
      params_runs: of networks trained from different seeds.
      examples: tree of arrays [n, ...].
      labels: int [n].
      batch_size: examples at a time.

    Raises:
      ValueError: no run, sizes that differ, a score that is not finite.
    """
    check.at_least(1, num_runs=len(params_runs))
    check.shape("labels", labels, [perexample.size(examples)])

    def score(params: PyTree, example: tuple[PyTree, Array]) -> Array:
        p = jax.nn.softmax(logits_fn(params, example[0]))
        return jnp.linalg.norm(p - jax.nn.one_hot(example[1], p.shape[-1]))

    pairs = (examples, np.asarray(labels))
    runs = [perexample.map_batched(score, p, pairs, batch_size) for p in params_runs]
    return perexample.finite("el2n", np.mean(np.asarray(runs, np.float64), 0))


def grand(
    loss_fn: LossFn, params_runs: Sequence[PyTree], examples: PyTree, batch_size: int = 64
) -> np.ndarray:
    """`||d loss / d params||_2`, the mean over runs (Paul et al. 2021): float64 [n].

    Args:
      loss_fn: `(params, example) -> scalar`.
      params_runs: of networks from different seeds.
      examples: tree of arrays [n, ...].
      batch_size: examples at a time.

    Raises:
      ValueError: no run, or a gradient that is not finite.
    """
    check.at_least(1, num_runs=len(params_runs))

    gradient = perexample.flat_gradient(loss_fn)

    def score(params: PyTree, example: PyTree) -> Array:
        return jnp.linalg.norm(gradient(params, example))

    runs = [perexample.map_batched(score, p, examples, batch_size) for p in params_runs]
    return perexample.finite("grand", np.mean(np.asarray(runs, np.float64), 0))


def forgetting(correct_ten: np.ndarray, never: float = np.inf) -> np.ndarray:
    """How often an example goes from right to wrong (Toneva et al. 2019): float64 [n].

    Args:
      correct_ten: bool [presentations, n] of one run, or [runs, presentations, n].
      never: the score, per run, of an example that a run never has right.

    Raises:
      ValueError: another rank.

    >>> forgetting(np.array([[1, 0], [0, 0], [1, 0]], bool)).tolist()
    [1.0, inf]
    """
    correct = np.asarray(correct_ten, bool)
    correct = correct[None] if correct.ndim == 2 else correct
    check.shape("correct_ten", correct, ["runs", "presentations", "n"])
    events = np.sum(correct[:, :-1] & ~correct[:, 1:], axis=1).astype(np.float64)
    return np.where(correct.any(axis=1), events, never).sum(axis=0)


def keep_highest(scores: np.ndarray, fraction: float) -> np.ndarray:
    """The `fraction` with the highest scores, ties by place: bool [n].

    Raises:
      ValueError: fraction outside [0, 1].
    """
    check.between(0, 1, fraction=fraction)
    keep = np.zeros(len(scores), bool)
    keep[np.argsort(-scores, kind="stable")[: round(fraction * len(scores))]] = True
    return keep


def keep_middle(scores: np.ndarray, fraction: float) -> np.ndarray:
    """The middle `fraction` by score, as Marion et al. (2023) keep perplexities: bool [n].

    Raises:
      ValueError: fraction outside [0, 1].
    """
    check.between(0, 1, fraction=fraction)
    num = round(fraction * len(scores))
    begin = (len(scores) - num) // 2
    keep = np.zeros(len(scores), bool)
    keep[np.argsort(scores, kind="stable")[begin : begin + num]] = True
    return keep

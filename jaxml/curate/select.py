"""Choosing fine-tuning examples: k-center, IFD, DEITA, InsTag, LESS."""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from jaxml.core import check
from jaxml.core.types import Array, Key, PyTree
from jaxml.curate import perexample
from jaxml.curate.perexample import LossFn


def k_center(emb_nd: np.ndarray, k: int, first: Sequence[int] = (0,)) -> np.ndarray:
    """Farthest-point selection: int64 [k], in the order chosen.

    Args:
      emb_nd: embeddings [n, d], Euclidean.
      k: how many, with the first ones.
      first: indices to begin from.

    Raises:
      ValueError: no first, or k outside [number of first, n].
    """
    emb = np.asarray(emb_nd, np.float64)
    check.shape("emb_nd", emb, ["n", "d"])
    check.at_least(1, num_first=len(first))
    check.between(len(first), len(emb), k=k)
    chosen = list(first)
    far = np.min([np.sum((emb - emb[i]) ** 2, 1) for i in chosen], axis=0)
    far[chosen] = -1.0
    while len(chosen) < k:
        chosen.append(int(np.argmax(far)))
        far = np.minimum(far, np.sum((emb - emb[chosen[-1]]) ** 2, 1))
        far[chosen] = -1.0
    return np.array(chosen)


class Ifd(NamedTuple):
    """Instruction-following difficulty.

    Attributes:
      score: float64 [n], mean loss of the answer given the prompt over that without it.
      keep: bool [n], False where the score is >= 1 or the example was truncated.
    """

    score: np.ndarray
    keep: np.ndarray


def ifd(
    loss_given_prompt: np.ndarray, loss_alone: np.ndarray, truncated: np.ndarray | None = None
) -> Ifd:
    """Li et al. (2023): the ratio of mean losses (not of perplexities) of the answer's tokens.

    Take the largest scores among `keep`. A small model gives nearly the same order
    (Superfiltering).

    Args:
      loss_given_prompt: mean loss of the answer's tokens behind the prompt [n].
      loss_alone: the same with the answer's header alone [n].
      truncated: bool [n].

    Raises:
      ValueError: sizes that differ, or a loss that is not finite or not positive.

    >>> ifd(np.array([1.0, 3.0]), np.array([2.0, 2.0])).score.tolist()
    [0.5, 1.5]
    """
    given, alone = (np.asarray(x, np.float64) for x in (loss_given_prompt, loss_alone))
    check.shape("loss_alone", alone, list(given.shape))
    for name, values in (("loss_given_prompt", given), ("loss_alone", alone)):
        perexample.finite(name, values)
        check.positive(**{f"least_{name}": float(values.min())})
    score = given / alone
    return Ifd(score, (score < 1) & (True if truncated is None else ~np.asarray(truncated)))


def expected_rating(logits_nk: np.ndarray) -> np.ndarray:
    """DEITA's score: `sum_k k softmax(logits)_k` over the logits of "1" to "K": float64 [n]."""
    logits = np.asarray(logits_nk, np.float64)
    weight = np.exp(logits - logits.max(-1, keepdims=True))
    return (weight / weight.sum(-1, keepdims=True)) @ np.arange(1, logits.shape[-1] + 1)


def deita(score: np.ndarray, emb_nd: np.ndarray, num: int, threshold: float = 0.9) -> np.ndarray:
    """Liu et al. (2023): by descending score, whatever is not too close to those taken.

    Args:
      score: [n], complexity times quality, summed over turns.
      emb_nd: embeddings; scaled to unit length here.
      num: stops at so many.
      threshold: largest cosine to those taken.

    Returns:
      int64 [at most num], in the order taken.

    Raises:
      ValueError: sizes that differ, num < 1, threshold outside [-1, 1].
    """
    check.between(-1, 1, threshold=threshold)
    check.at_least(1, num=num)
    emb = np.asarray(emb_nd, np.float64)
    check.shape("emb_nd", emb, [len(score), "d"])
    emb = emb / np.linalg.norm(emb, axis=1, keepdims=True)
    taken: list[int] = []
    for i in np.argsort(-np.asarray(score), kind="stable"):
        if not taken or np.max(emb[taken] @ emb[i]) <= threshold:
            taken.append(int(i))
        if len(taken) == num:
            break
    return np.array(taken)


def instag(tags: Sequence[Sequence[str]], num: int) -> np.ndarray:
    """Complexity-first diverse sampling (Lu et al. 2023; recalled): int64 [num], in order.

    Examples with the most tags first; one is taken if it brings a tag not seen in this pass; at
    the end of a pass the seen tags are forgotten.

    Args:
      tags: of each example.
      num: how many.

    Raises:
      ValueError: more than there are examples with tags.
    """
    order = sorted((i for i in range(len(tags)) if tags[i]), key=lambda i: -len(set(tags[i])))
    check.between(0, len(order), num=num)
    taken: list[int] = []
    while len(taken) < num:
        seen, left = set[str](), []
        for i in order:
            if len(taken) < num and not set(tags[i]) <= seen:
                taken.append(i)
                seen |= set(tags[i])
            else:
                left.append(i)
        order = left
    return np.array(taken, np.int64)


class Checkpoint(NamedTuple):
    """A moment of the warm-up training of LESS.

    Attributes:
      params: of the model, or of its adapters.
      mean: Adam's first moment, a tree like params.
      variance: Adam's second moment.
      lr: mean learning rate of that epoch.
    """

    params: PyTree
    mean: PyTree
    variance: PyTree
    lr: float


def adam_direction(
    gradient: Array, mean: Array, variance: Array, b1: float = 0.9, b2: float = 0.999
) -> Array:
    """`(b1 m + (1 - b1) g) / sqrt(b2 v + (1 - b2) g^2 + 1e-8)`: no bias correction."""
    top = b1 * mean + (1 - b1) * gradient
    return top / jnp.sqrt(b2 * variance + (1 - b2) * gradient**2 + 1e-8)


def less(
    key: Key,
    loss_fn: LossFn,
    checkpoints: Sequence[Checkpoint],
    train: PyTree,
    validation: Sequence[PyTree],
    *,
    width: int = 8192,
    batch_size: int = 16,
) -> np.ndarray:
    """Xia et al. (2024): cosine of Adam's direction with validation gradients, float64 [n].

    The mean over a subtask's examples, the maximum over subtasks, a mean over checkpoints weighted
    by learning rates. Keep the top 5 %.

    Args:
      key: of the random projection.
      loss_fn: `(params, example) -> scalar`.
      checkpoints: four in the paper.
      train: tree of arrays [n, ...].
      validation: one tree of examples for each subtask.
      width: of the projection; 0 for none.
      batch_size: examples at a time.

    Raises:
      ValueError: no checkpoint, no subtask, a gradient that is not finite.
    """
    check.at_least(1, num_checkpoints=len(checkpoints), num_subtasks=len(validation))
    total = sum(c.lr for c in checkpoints)
    check.positive(sum_of_lr=total)
    num_params = len(ravel_pytree(checkpoints[0].params)[0])
    project = perexample.rademacher(key, num_params, width) if width else lambda g: g
    gradient = perexample.flat_gradient(loss_fn)

    def plain(params: PyTree, example: PyTree) -> Array:
        projected = project(gradient(params, example))
        return projected / jnp.linalg.norm(projected)

    def adam(at: tuple[PyTree, Array, Array], example: PyTree) -> Array:
        projected = project(adam_direction(gradient(at[0], example), at[1], at[2]))
        return projected / jnp.linalg.norm(projected)

    scores = np.zeros((len(validation), perexample.size(train)))
    for c in checkpoints:
        moments = (ravel_pytree(tree)[0].astype(jnp.float32) for tree in (c.mean, c.variance))
        rows = perexample.map_batched(adam, (c.params, *moments), train, batch_size)
        perexample.finite("gradient of train", rows)
        for task, examples in enumerate(validation):
            wanted = perexample.map_batched(plain, c.params, examples, batch_size)
            perexample.finite("gradient of validation", wanted)
            scores[task] += c.lr / total * (rows.astype(np.float64) @ wanted.mean(0))
    return scores.max(axis=0)

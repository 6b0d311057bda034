"""What a model says of many examples: representations, answers, accuracy, probing.

Examples are run in blocks of one size, each at the next of four lengths that it fits.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxml.cap import encoder as encoders
from jaxml.cap.data import Examples, Task
from jaxml.cap.encoder import Align
from jaxml.core import rng
from jaxml.core.types import Array, Key, PyTree
from jaxml.inputs import ragged
from jaxml.models import logistic
from jaxml.models.bert import BertConfig


class Answers(NamedTuple):
    """Representations [n, d] and logits [n, c], float32, on the host."""

    reps: np.ndarray
    logits: np.ndarray


@functools.partial(jax.jit, static_argnames=("cfg", "align", "dtype"))
def _block(
    params: PyTree, ids: Array, types: Array, *, cfg: BertConfig, align: Align, dtype: str
) -> tuple[Array, Array]:
    reps = encoders.represent(params["encoder"], cfg, ids, types, align=align, dtype=dtype)
    return reps, encoders.classify(params, reps)


def answers(
    params: PyTree,
    cfg: BertConfig,
    examples: Examples,
    *,
    align: Align = "mean",
    dtype: str = "float32",
    block: int | None = None,
) -> Answers:
    """A model without dropout over examples, in their order.

    Args:
      params: `encoder` and `head`; masks already folded in.
      cfg: of the encoder.
      examples: n of them.
      align: what represents a sentence.
      dtype: of the computation.
      block: examples at a time; None: 64, or 256 of many.
    """
    block = block or (64 if len(examples.label) < 5000 else 256)
    length, full = examples.lengths, examples.ids.shape[1]
    widths = [-(-full * quarter // 4) for quarter in (1, 2, 3, 4)]

    def run(ids: np.ndarray, types: np.ndarray) -> tuple[Array, Array]:
        return _block(params, ids, types, cfg=cfg, align=align, dtype=dtype)

    columns = (examples.ids, examples.types)
    made = ragged.in_widths(run, columns, length, widths, block)
    return Answers(*(x.astype(np.float32) for x in made))


def accuracy(logits_nc: np.ndarray, label_n: np.ndarray) -> float:
    """Share of right answers in per cent."""
    return 100 * float(np.mean(np.argmax(logits_nc, -1) == label_n))


def f1(logits_nc: np.ndarray, label_n: np.ndarray) -> float:
    """F1 of class 1 in per cent, as QQP and MRPC report it.

    >>> f1(np.array([[0, 1], [0, 1], [1, 0]]), np.array([1, 0, 0]))
    66.66666666666667
    """
    said, true = np.argmax(logits_nc, -1) == 1, label_n == 1
    return 200 * float((said & true).sum()) / max(int(said.sum() + true.sum()), 1)


def probe(
    key: Key,
    params: PyTree,
    cfg: BertConfig,
    task: Task,
    *,
    align: Align = "mean",
    steps: int = 400,
) -> float:
    """Test accuracy in per cent of a linear classifier on the frozen encoder.

    Features are standardised by the training set; logistic regression by L-BFGS whose weight decay
    is chosen on the validation set out of 1e-1 ... 1e-4.
    """
    head = {"kernel": jnp.zeros((cfg.width, task.num_classes)), "bias": jnp.zeros(task.num_classes)}
    model = {"encoder": params["encoder"], "head": head}
    x = [answers(model, cfg, part, align=align).reps for part in task[1:4]]
    mean, spread = x[0].mean(0), x[0].std(0) + 1e-6
    train, valid, test = (jnp.asarray((part - mean) / spread) for part in x)
    start = jax.tree.map(
        lambda leaf: 1e-2 * jax.random.normal(rng.fold(key, "probe", leaf.ndim), leaf.shape), head
    )
    best = (-1.0, 0.0)
    for decay in (1e-1, 1e-2, 1e-3, 1e-4):
        fitted = logistic.fit(start, train, jnp.asarray(task.train.label), decay, steps)
        scores = [
            accuracy(np.asarray(logistic.logits(fitted, x)), part.label)
            for x, part in ((valid, task.valid), (test, task.test))
        ]
        best = max(best, (scores[0], scores[1]), key=lambda pair: pair[0])
    return best[1]

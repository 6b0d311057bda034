"""How likely given texts are: what questions with given answers are decided by."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxml.core import check
from jaxml.core.types import Array, PyTree
from jaxml.tnl.language_model import LanguageModel

CHUNK = 256
"""Time steps whose logits are in memory at once."""


class Score(NamedTuple):
    """Of a continuation: its log-likelihood in nats, and whether greedy decoding gives it."""

    nats: float
    greedy: bool


@functools.partial(jax.jit, static_argnames="model")
def of_tokens(
    params: PyTree, inputs_bt: Array, targets_bt: Array, *, model: LanguageModel
) -> tuple[Array, Array]:
    """Log-likelihood of every target, float32 [b, t], and whether it is the likeliest, bool [b, t].

    The length must be a multiple of `CHUNK`, or at most `CHUNK`.
    """
    hidden = model.hidden(params, inputs_bt)
    batch, length, width = hidden.shape
    chunk = min(CHUNK, length)

    def one(piece: tuple[Array, Array]) -> tuple[Array, Array]:
        logits = model.logits(params, piece[0])
        told = jnp.take_along_axis(logits, piece[1][..., None], -1)[..., 0]
        return told - jax.nn.logsumexp(logits, -1), jnp.argmax(logits, -1) == piece[1]

    pieces = hidden.reshape(batch, -1, chunk, width), targets_bt.reshape(batch, -1, chunk)
    found = jax.lax.map(one, jax.tree.map(lambda x: jnp.moveaxis(x, 1, 0), pieces))
    nats, greedy = (jnp.moveaxis(x, 0, 1).reshape(batch, length) for x in found)
    return nats, greedy


def score(
    model: LanguageModel,
    params: PyTree,
    pairs: Sequence[tuple[Sequence[int], Sequence[int]]],
    rows: int = 8,
) -> list[Score]:
    """Scores of continuations, each after its own context.

    Rows of like length share a batch; lengths are rounded up to powers of two, so that few programs
    are compiled.

    Args:
      model: the language model.
      params: its parameters.
      pairs: (context, continuation) as token ids; no context may be empty.
      rows: of a batch.

    Raises:
      ValueError: an empty context, ids outside the vocabulary.
    """
    check.positive(rows=rows)
    if not all(len(context) for context, _ in pairs):
        raise ValueError("a context must hold one token or more; got an empty one.")
    whole = [[*context, *continuation] for context, continuation in pairs]
    order = sorted(range(len(pairs)), key=lambda i: len(whole[i]))
    found = [Score(0.0, True)] * len(pairs)
    for first in range(0, len(order), rows):
        batch = order[first : first + rows]
        length = 1 << max(len(whole[i]) - 2 for i in batch).bit_length()
        ids = np.zeros((rows, length + 1), np.int32)
        for row, i in enumerate(batch):
            ids[row, : len(whole[i])] = whole[i]
        if ids.min() < 0 or ids.max() >= model.vocab_size:
            raise ValueError(f"ids must lie in [0, vocab_size={model.vocab_size}).")
        told = of_tokens(params, jnp.asarray(ids[:, :-1]), jnp.asarray(ids[:, 1:]), model=model)
        nats, greedy = map(np.asarray, told)
        for row, i in enumerate(batch):
            part = slice(len(pairs[i][0]) - 1, len(whole[i]) - 1)
            found[i] = Score(
                float(nats[row, part].sum(dtype=np.float64)), bool(greedy[row, part].all())
            )
    return found

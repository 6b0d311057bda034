"""What a language model is to the trainer, the generator and the benchmark: a few pure functions.

TransNormerLLM and the softmax Transformer both come in this form; so may a user's own model.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxml.core import check, param, tree
from jaxml.core.types import Array, Key, PyTree
from jaxml.nn import loss


class Placement(NamedTuple):
    """What keeps a model's arrays in their places on a mesh; by default nothing does.

    Attributes:
      rows: of activations [b, t, d].
      weights: `(parameters, declared, dtype) ->` the parameters as they are used, see
        `shard.gather`.
    """

    rows: Callable[[Array], Array] = lambda x: x
    weights: Callable[[PyTree, PyTree, Any], PyTree] = lambda p, declared, dtype: p


NOWHERE = Placement()
"""One device, or what the compiler thinks best."""


@dataclasses.dataclass(frozen=True, eq=False)
class LanguageModel:
    """A causal language model; compared by identity, so that compiled functions can key on it.

    Attributes:
      name: for tables and plots.
      vocab_size: v.
      declared: tree of `Param`.
      hidden: `(params, ids [b, t], *, segment_ids=None, positions=None) -> [b, t, d]`.
      table: `params -> [v, d]`, the output embedding; logits are `hidden @ table.T`.
      start: `(batch, max_len) -> state` before any token.
      prefill: `(params, state, ids [b, t], mask [b, t] | None) -> (hidden [b, t, d], state)`;
        tokens where the mask is False (padding on the left) leave no trace.
      step: `(params, state, ids [b]) -> (hidden [b, d], state)`, one token.
      flops_per_token: `seq_len ->` operations of a training step per token; None: unknown.
      cross_entropy: `(hidden, table, targets, mask, chunk) -> (mean, count)`, never holding all
        logits.
      room: `state ->` tokens that can still be read into it; None: any number.
      num_words: ids that stand for something; the others, which round a table up, are never drawn.
    """

    name: str
    vocab_size: int
    declared: PyTree
    hidden: Callable[..., Array]
    table: Callable[[PyTree], Array]
    start: Callable[[int, int], Any]
    prefill: Callable[..., tuple[Array, Any]]
    step: Callable[[PyTree, Any, Array], tuple[Array, Any]]
    flops_per_token: Callable[[int], float] | None = None
    cross_entropy: Callable[..., tuple[Array, Array]] = loss.chunked_cross_entropy
    room: Callable[[Any], int] | None = None
    num_words: int | None = None

    def init(self, key: Key) -> PyTree:
        """Fresh parameters."""
        return param.init(key, self.declared)

    def num_params(self) -> int:
        """Number of parameters."""
        return tree.num_elements(param.abstract(self.declared))

    def check_room(self, state: Any, num_tokens: int) -> None:
        """Raises ValueError unless `num_tokens` more fit into a state that is no tracer."""
        if self.room is not None and num_tokens > (left := self.room(state)):
            raise ValueError(
                f"the context must have room for {num_tokens} more tokens; got room for {left}: "
                f"read it with a larger max_len."
            )

    def logits(self, params: PyTree, hidden: Array) -> Array:
        """Float32 logits [..., v] of hidden states [..., d]."""
        table = self.table(params).astype(hidden.dtype)
        found = jnp.einsum("...d,vd->...v", hidden, table, preferred_element_type=jnp.float32)
        if self.num_words is None:
            return found
        ids = jax.lax.broadcasted_iota(jnp.int32, found.shape, found.ndim - 1)
        return jnp.where(ids < self.num_words, found, -jnp.inf)


@functools.cache
def with_words(model: LanguageModel, num_words: int) -> LanguageModel:
    """The model as one that draws the first `num_words` ids only.

    Raises:
      ValueError: more words than the model has ids.
    """
    if num_words > model.vocab_size:
        raise ValueError(
            f"model.vocab_size must be >= the tokenizer's; got {model.vocab_size}, "
            f"tokenizer {num_words}."
        )
    whole = num_words == model.vocab_size
    return model if whole else dataclasses.replace(model, num_words=num_words)


def check_ids(ids_bt: Array, vocab_size: int) -> None:
    """Raises ValueError unless ids are integers [b, t], inside the vocabulary where concrete."""
    check.shape("ids", ids_bt, ["b", "t"])
    if not jnp.issubdtype(ids_bt.dtype, jnp.integer):
        raise ValueError(f"ids must be integers; got ids.dtype={ids_bt.dtype}.")
    if not isinstance(ids_bt, Tracer) and ids_bt.size:
        known = np.asarray(ids_bt)
        low, high = int(known.min()), int(known.max())
        if low < 0 or high >= vocab_size:
            worst = low if low < 0 else high
            raise ValueError(f"ids must lie in [0, vocab_size={vocab_size}); got id {worst}.")

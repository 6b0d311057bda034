"""What a language model is to the trainer, the generator and the benchmark: a few pure functions.

TransNormerLLM and the softmax Transformer both come in this form; so may a user's own model.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxml.core import check, param, tree
from jaxml.core.types import Array, Key, PyTree


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

    def init(self, key: Key) -> PyTree:
        """Fresh parameters."""
        return param.init(key, self.declared)

    def num_params(self) -> int:
        """Number of parameters."""
        return tree.num_elements(param.abstract(self.declared))

    def logits(self, params: PyTree, hidden: Array) -> Array:
        """Float32 logits [..., v] of hidden states [..., d]."""
        table = self.table(params).astype(hidden.dtype)
        return jnp.einsum("...d,vd->...v", hidden, table, preferred_element_type=jnp.float32)


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

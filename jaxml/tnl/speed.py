"""Time against length: forward passes and decoding, TNL beside the softmax Transformer."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxml.core.types import PyTree
from jaxml.nn import attention
from jaxml.report import timing
from jaxml.tnl import model, softmax
from jaxml.tnl.config import TNLConfig, same_size
from jaxml.tnl.language_model import LanguageModel

type Pair = dict[str, tuple[LanguageModel, PyTree]]


def models(width: int = 64, num_heads: int = 2, num_layers: int = 2, vocab_size: int = 64) -> Pair:
    """A TNL and a Transformer of the same size, with random parameters."""
    cfg = TNLConfig(
        vocab_size=vocab_size,
        width=width,
        num_heads=num_heads,
        num_layers=num_layers,
        glu_width=3 * width,
    )
    pair = (model.language_model(cfg), softmax.language_model(same_size(cfg)))
    return {lm.name: (lm, lm.init(jax.random.key(0))) for lm in pair}


def _ids(lm: LanguageModel, rows: int, seq_len: int) -> jax.Array:
    return jax.random.randint(jax.random.key(1), (rows, seq_len), 0, lm.vocab_size, jnp.int32)


def forward_calls(pair: Pair, seq_len: int, rows: int = 1) -> dict[str, Callable[[], Any]]:
    """One compiled forward pass of each model, as calls without arguments."""

    def call(lm: LanguageModel, params: PyTree) -> Callable[[], Any]:
        ids = _ids(lm, rows, seq_len)
        run = jax.jit(lambda p, ids: lm.hidden(p, ids)).lower(params, ids).compile()
        return lambda: run(params, ids)

    return {name: call(lm, params) for name, (lm, params) in pair.items()}


def forward_rows(pair: Pair, seq_len: int, repeats: int) -> list[timing.Row]:
    """TNL against the Transformer at one length, one row of tokens."""
    found = timing.alternate(forward_calls(pair, seq_len), repeats=repeats)
    case = f"forward B1 N{seq_len}"
    return [timing.faster(case, "fwd_ms", found["TNL"], "Transformer", found["Transformer"])]


def decode_calls(
    lm: LanguageModel, params: PyTree, contexts: Sequence[int], num_tokens: int = 64
) -> dict[str, Callable[[], Any]]:
    """For every context, a call that decodes `num_tokens` greedily after it.

    TNL reads the context. A Transformer's cache of that length is filled with random keys and
    values, since reading 64K tokens with plain attention would need gigabytes; decoding costs the
    same whatever they hold.
    """

    @jax.jit
    def decode(params: PyTree, state: Any, ids: jax.Array) -> jax.Array:
        def one(carry: tuple[Any, jax.Array], _: None) -> tuple[tuple[Any, jax.Array], None]:
            hidden, state = lm.step(params, *carry)
            return (state, jnp.argmax(lm.logits(params, hidden), -1).astype(jnp.int32)), None

        return jax.lax.scan(one, (state, ids), length=num_tokens)[0][1]

    read = jax.jit(lm.prefill)

    def call(context: int) -> Callable[[], Any]:
        state = lm.start(1, context + num_tokens)
        if isinstance(state, softmax.State):
            state = filled(state, context)
        else:
            _, state = read(params, state, _ids(lm, 1, context))
        ids = jnp.zeros((1,), jnp.int32)
        return lambda: decode(params, state, ids)

    return {str(context): call(context) for context in contexts}


def filled(state: softmax.State, context: int) -> softmax.State:
    """A cache that holds `context` random tokens."""

    def random(cache: attention.Cache) -> attention.Cache:
        k, v = (
            jax.random.normal(jax.random.key(i), x.shape, x.dtype) for i, x in enumerate(cache[:2])
        )
        return attention.Cache(k, v, jnp.int32(context))

    real = jnp.broadcast_to(jnp.arange(state.real.shape[1]) < context, state.real.shape)
    return softmax.State(tuple(map(random, state.cache)), real)


def quadratic(q: jax.Array, k: jax.Array, v: jax.Array, log_decay: jax.Array) -> jax.Array:
    """Lightning attention as `((Q K^T) * M) V`: the form whose cost grows with the square."""
    t = jnp.arange(q.shape[1])
    gap = (t[:, None] - t[None, :])[None]
    decay = jnp.exp(jnp.maximum(gap, 0) * log_decay[:, None, None]) * (gap >= 0)
    return jnp.einsum("bhts,bshe->bthe", jnp.einsum("bthc,bshc->bhts", q, k) * decay[None], v)

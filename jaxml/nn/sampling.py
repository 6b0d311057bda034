"""Choosing the next token."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxml.core import check
from jaxml.core.types import Array, Key


def greedy(logits: Array) -> Array:
    """The likeliest token of each row [..., v] -> int32 [...]; of equals, the smallest."""
    return jnp.argmax(logits, -1).astype(jnp.int32)


def check_choice(
    vocab_size: int, temperature: Any = 1.0, top_k: int | None = None, top_p: Any = None
) -> None:
    """Raises ValueError for a number outside its range; traced values are taken as they are."""
    check.between(1, vocab_size, top_k=vocab_size if top_k is None else top_k)
    if isinstance(temperature, (int, float)):
        check.at_least(0, temperature=temperature)
    if isinstance(top_p, (int, float)) and not 0 < top_p <= 1:
        raise ValueError(f"top_p must lie in (0, 1]; got top_p={top_p}.")


def sample(
    key: Key,
    logits: Array,
    temperature: float | Array = 1.0,
    top_k: int | None = None,
    top_p: float | Array | None = None,
) -> Array:
    """Draws a token of each row [..., v] -> int32 [...].

    The logits are divided by `temperature`, cut to the `top_k` likeliest, then to the smallest
    set of the likeliest whose probability (after the first cut) reaches `top_p`.

    Args:
      key: of this draw.
      logits: [..., v].
      temperature: 0 is greedy; may be traced.
      top_k: k, static, in [1, v].
      top_p: in (0, 1]; may be traced.

    Raises:
      ValueError: a number outside its range.

    >>> int(sample(jax.random.key(0), jnp.array([0.0, 9.0, 8.0]), top_k=1))
    1
    """
    num_tokens = logits.shape[-1]
    check_choice(num_tokens, temperature, top_k, top_p)
    wide = logits.astype(jnp.float32)
    scaled = wide / jnp.where(jnp.equal(temperature, 0), 1.0, temperature)
    if top_k is None and top_p is None:
        drawn = jax.random.categorical(key, scaled)
    else:
        values, tokens = jax.lax.top_k(scaled, num_tokens if top_k is None else top_k)
        rank = jax.random.categorical(key, _nucleus(values, top_p))
        drawn = jnp.take_along_axis(tokens, rank[..., None], -1)[..., 0]
    return jnp.where(jnp.equal(temperature, 0), greedy(logits), drawn).astype(jnp.int32)


def _nucleus(sorted_logits: Array, top_p: float | Array | None) -> Array:
    """Drops what comes after the cumulative probability has reached `top_p`; keeps the first."""
    if top_p is None:
        return sorted_logits
    probability = jax.nn.softmax(sorted_logits, -1)
    before = jnp.cumsum(probability, -1) - probability
    keep = (before < top_p).at[..., 0].set(True)
    return jnp.where(keep, sorted_logits, -jnp.inf)

"""Powers of the decay, and which tokens share a state.

Nothing here divides by a power of the decay: every exponent is a distance, so all factors are <= 1
and steep heads underflow to zero instead of overflowing.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Tables(NamedTuple):
    """Decay factors of one block of n chunks of c tokens; h heads, b rows (1 where unpacked).

    Attributes:
      intra: between tokens of a chunk, `lam^(i-j)` for i >= j [b|1, n|1, h, c, c].
      enter: from the chunk's incoming state to token i, `lam^(i+1)` [b|1, n|1, c, h].
      leave: from token i to the chunk's outgoing state, `lam^(m-1-i)` [b|1, n, c, h].
      across: from chunk j's own contribution to the state entering chunk i [b|1, h, n+1, n].
      carried: from the block's incoming state to the state entering chunk i [b|1, h, n+1].
    """

    intra: jax.Array
    enter: jax.Array
    leave: jax.Array
    across: jax.Array
    carried: jax.Array


def _last(x_h: jax.Array, ndim: int) -> jax.Array:
    """Heads as the last of `ndim + 1` axes."""
    return x_h.reshape((1,) * ndim + x_h.shape)


def _power(log_decay_h: jax.Array, distance: jax.Array, where: jax.Array) -> jax.Array:
    """`exp(log_decay * distance)` where allowed and 0 elsewhere; heads become the last axis."""
    exponent = jnp.expand_dims(jnp.where(where, distance, 0), -1) * _last(log_decay_h, where.ndim)
    return jnp.where(where[..., None], jnp.exp(exponent), 0)


def tables(
    log_decay_h: jax.Array,
    valid_n: jax.Array,
    chunk: int,
    runs_bnc: jax.Array | None = None,
    carried_run_b: jax.Array | None = None,
) -> Tables:
    """All factors of one block.

    Args:
      log_decay_h: [h], in the accumulator's dtype.
      valid_n: int [n], how many tokens of each chunk are real (the rest is padding at the end).
      chunk: tokens per chunk, c.
      runs_bnc: int [b, n, c], which stretch of one segment a token lies in, never decreasing along
        a row; padding repeats the last one. None where rows are one segment.
      carried_run_b: int [b], the stretch that the block's incoming state belongs to.
    """
    num = valid_n.shape[0]
    i = jnp.arange(chunk)
    ends = jnp.cumsum(valid_n)
    starts = jnp.concatenate([jnp.zeros(1, ends.dtype), ends])  # tokens before chunk i, and in all
    causal = (i[:, None] >= i[None, :])[None, None]
    real = (i[None, :] < valid_n[:, None])[None]
    earlier = (jnp.arange(num + 1)[:, None] > jnp.arange(num)[None, :])[None]
    into, all_heads = jnp.ones((1, 1, chunk), bool), jnp.ones((1, num + 1), bool)
    if runs_bnc is not None and carried_run_b is not None:
        last = runs_bnc[:, :, -1]
        entering = jnp.concatenate([carried_run_b[:, None], last], 1)  # [b, n + 1]
        causal = causal & (runs_bnc[..., :, None] == runs_bnc[..., None, :])
        into = runs_bnc == entering[:, :-1, None]
        real = real & (runs_bnc == last[..., None])
        earlier = earlier & (entering[:, :, None] == last[:, None, :])
        all_heads = entering == carried_run_b[:, None]
    between = starts[:, None] - ends[None, :]
    return Tables(
        intra=jnp.moveaxis(
            _power(log_decay_h, (i[:, None] - i[None, :])[None, None], causal), -1, 2
        ),
        enter=_power(log_decay_h, (i + 1)[None, None], into),
        leave=_power(log_decay_h, (valid_n[:, None] - 1 - i[None, :])[None], real),
        across=jnp.moveaxis(_power(log_decay_h, between[None], earlier), -1, 1),
        carried=jnp.moveaxis(_power(log_decay_h, starts[None], all_heads), -1, 1),
    )


def runs(segment_ids: jax.Array) -> jax.Array:
    """Numbers the stretches of equal segment id along each row, from 0: int32 [b, t]."""
    change = jnp.diff(segment_ids, axis=1, prepend=segment_ids[:, :1]) != 0
    return jnp.cumsum(change.astype(jnp.int32), axis=1)

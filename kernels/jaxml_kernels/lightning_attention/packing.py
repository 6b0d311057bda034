"""Packed sequences given by offsets: `cu_seqlens` [n + 1], one row, a state for each sequence.

The attention itself runs on the row with segments masked and no state. What the states add is
computed here, on a layout in which every sequence starts at a chunk of its own: the initial state
of sequence s adds `lam^(p+1) q S_s` to its token p, and the final state is a weighted sum of k v^T.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

CHUNK = 64


class Layout(NamedTuple):
    """Chunks that belong to one sequence each; m = t // CHUNK + n of them.

    Attributes:
      token: row of each slot, t where the slot is empty [m, CHUNK].
      segment: sequence of each chunk [m].
      position: distance of each slot from its sequence's start [m, CHUNK].
      length: tokens of each sequence [n].
    """

    token: jax.Array
    segment: jax.Array
    position: jax.Array
    length: jax.Array


def segment_ids(cu_seqlens: jax.Array, seq_len: int) -> jax.Array:
    """The sequence of each token, int32 [1, t]; empty sequences have none."""
    ids = jnp.searchsorted(cu_seqlens, jnp.arange(seq_len), side="right") - 1
    return ids.astype(jnp.int32)[None]


def align(cu_seqlens: jax.Array, seq_len: int) -> Layout:
    """Lays the tokens out so that no chunk holds two sequences."""
    length = jnp.diff(cu_seqlens)
    chunks = -(-length // CHUNK)
    num = seq_len // CHUNK + length.shape[0]
    first = jnp.cumsum(chunks) - chunks
    index = jnp.arange(num)
    segment = jnp.clip(jnp.searchsorted(first + chunks, index, side="right"), 0, len(length) - 1)
    position = (index - first[segment])[:, None] * CHUNK + jnp.arange(CHUNK)[None]
    used = (position < length[segment][:, None]) & (index < jnp.sum(chunks))[:, None]
    token = jnp.where(used, cu_seqlens[segment][:, None] + position, seq_len)
    return Layout(token, segment, position, length)


def _gather(x_thc: jax.Array, layout: Layout) -> jax.Array:
    padded = jnp.pad(x_thc, ((0, 1), (0, 0), (0, 0))).astype(jnp.promote_types(x_thc, jnp.float32))
    return padded[layout.token]


def _power(log_decay_h: jax.Array, distance: jax.Array) -> jax.Array:
    rate = log_decay_h.reshape((1,) * distance.ndim + log_decay_h.shape)
    return jnp.exp(jnp.maximum(distance, 0)[..., None] * rate)[..., None]


def initial_part(
    q_thc: jax.Array, log_decay_h: jax.Array, states: jax.Array, layout: Layout
) -> jax.Array:
    """What the initial states [n, h, c, e] add to the outputs: [t, h, e]."""
    q = _gather(q_thc, layout) * _power(log_decay_h, layout.position + 1)
    part = jnp.einsum("mihc,mhce->mihe", q, states[layout.segment], precision="highest")
    return (
        jnp.zeros((q_thc.shape[0] + 1, *part.shape[2:]), part.dtype).at[layout.token].set(part)[:-1]
    )


def final_states(
    k_thc: jax.Array,
    v_the: jax.Array,
    log_decay_h: jax.Array,
    states: jax.Array,
    layout: Layout,
) -> jax.Array:
    """The state after each sequence [n, h, c, e]; of an empty one, its initial state."""
    remaining = layout.length[layout.segment][:, None] - 1 - layout.position
    k = _gather(k_thc, layout) * _power(log_decay_h, remaining)
    own = jnp.einsum("mihc,mihe->mhce", k, _gather(v_the, layout), precision="highest")
    total = jax.ops.segment_sum(own, layout.segment, num_segments=states.shape[0])
    return _power(log_decay_h, layout.length)[..., None] * states + total

"""The definition: the recurrence itself, one token at a time, in the dtype given.

Slow and differentiable by plain autodiff; the oracle of every other implementation.
"""

import jax
import jax.numpy as jnp


def accumulator(dtype: jnp.dtype) -> jnp.dtype:
    """float64 for float64 inputs, else float32."""
    return jnp.promote_types(dtype, jnp.float32)


def state_or_zero(state: jax.Array | None, k_bthc: jax.Array, v_bthe: jax.Array) -> jax.Array:
    """The state [b, h, c, e] in the accumulator's dtype; None is zero."""
    acc = accumulator(k_bthc.dtype)
    shape = (k_bthc.shape[0], *k_bthc.shape[2:], v_bthe.shape[-1])
    return jnp.zeros(shape, acc) if state is None else state.astype(acc)


def lightning_attention_reference(
    q_bthc: jax.Array,
    k_bthc: jax.Array,
    v_bthe: jax.Array,
    log_decay_h: jax.Array,
    initial_state: jax.Array,
    segment_ids: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Runs the recurrence; where the segment changes the state restarts at zero.

    Args:
      q_bthc: queries [b, t, h, c].
      k_bthc: keys [b, t, h, c].
      v_bthe: values [b, t, h, e].
      log_decay_h: log of the decay per head [h], <= 0.
      initial_state: [b, h, c, e]; belongs to the first segment of each row.
      segment_ids: int [b, t], or None for one segment per row.

    Returns:
      Outputs [b, t, h, e] in v's dtype, and the state after the last token [b, h, c, e].
    """
    dtype = accumulator(q_bthc.dtype)
    q, k, v = (jnp.moveaxis(x.astype(dtype), 1, 0) for x in (q_bthc, k_bthc, v_bthe))
    # lam - 1 keeps the digits that lam loses near 1, an error every step would repeat
    loss = jnp.expm1(log_decay_h.astype(dtype))[None, :, None, None]
    if segment_ids is None:
        segment_ids = jnp.zeros(q_bthc.shape[:2], jnp.int32)
    continues = jnp.diff(segment_ids, axis=1, prepend=segment_ids[:, :1]) == 0
    keep = continues.T.astype(dtype)[:, :, None, None, None]

    def step(state, token):
        q_t, k_t, v_t, keep_t = token
        state = keep_t * state
        state = state + (loss * state + k_t[..., :, None] * v_t[..., None, :])
        return state, jnp.einsum("bhc,bhce->bhe", q_t, state, precision="highest")

    final, o = jax.lax.scan(step, initial_state.astype(dtype), (q, k, v, keep))
    return jnp.moveaxis(o, 0, 1).astype(v_bthe.dtype), final

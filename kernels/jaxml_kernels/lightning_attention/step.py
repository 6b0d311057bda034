"""Decoding: one token against the state, constant in cost and memory at any context."""

import jax
import jax.numpy as jnp


def lightning_attention_step(
    q_bhc: jax.Array,
    k_bhc: jax.Array,
    v_bhe: jax.Array,
    log_decay_h: jax.Array,
    state: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """One step of the recurrence, in float32.

    Args:
      q_bhc: query of the new token [b, h, c].
      k_bhc: its key [b, h, c].
      v_bhe: its value [b, h, e].
      log_decay_h: [h], <= 0.
      state: [b, h, c, e], as `lightning_attention(..., return_final_state=True)` returns it.

    Returns:
      The output [b, h, e] in v's dtype, and the next state.

    Raises:
      ValueError: shapes that do not fit.
    """
    want = (*k_bhc.shape, v_bhe.shape[-1])
    if q_bhc.shape != k_bhc.shape or state.shape != want:
        raise ValueError(
            f"state must have shape {list(want)} for k {k_bhc.shape} and v {v_bhe.shape}; "
            f"got state.shape={state.shape}, q.shape={q_bhc.shape}."
        )
    dtype = state.dtype
    # lam - 1 keeps the digits that lam loses near 1, an error every step would repeat
    loss = jnp.expm1(log_decay_h.astype(dtype))[None, :, None, None]
    outer = k_bhc.astype(dtype)[..., :, None] * v_bhe.astype(dtype)[..., None, :]
    state = state + (loss * state + outer)
    o = jnp.einsum("bhc,bhce->bhe", q_bhc.astype(dtype), state, precision="highest")
    return o.astype(v_bhe.dtype), state

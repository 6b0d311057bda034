"""Decoding: one token against the state, constant in cost and memory at any context."""

import jax
import jax.numpy as jnp

from jaxml_kernels import dispatch
from jaxml_kernels.lightning_attention import triton
from jaxml_kernels.lightning_attention.problem import Problem, describe


def _triton_supports(problem: Problem) -> str | None:
    if problem.state_dtype != "float32":
        return f"takes states of float32; got {problem.state_dtype}"
    return triton.supports(problem)


def _anywhere(_: Problem) -> None:
    return None


def _xla(q, k, v, log_decay, state):
    dtype = state.dtype
    # lam - 1 keeps the digits that lam loses near 1, an error every step would repeat
    loss = jnp.expm1(log_decay.astype(dtype))[None, :, None, None]
    outer = k.astype(dtype)[..., :, None] * v.astype(dtype)[..., None, :]
    state = state + (loss * state + outer)
    o = jnp.einsum("bhc,bhce->bhe", q.astype(dtype), state, precision="highest")
    return o.astype(v.dtype), state


IMPLEMENTATIONS: tuple[dispatch.Implementation, ...] = (
    # 0.73 to 1.1 times as fast as XLA on an H100: results/lightning-decode
    dispatch.Implementation("triton", _triton_supports, triton.step, dispatch.by_name_only),
    dispatch.Implementation("xla", _anywhere, _xla),
)
"""In order of preference; `auto` takes the first that can run."""


def lightning_attention_step(
    q_bhc: jax.Array,
    k_bhc: jax.Array,
    v_bhe: jax.Array,
    log_decay_h: jax.Array,
    state: jax.Array,
    *,
    implementation: str = "auto",
) -> tuple[jax.Array, jax.Array]:
    """One step of the recurrence, in float32.

    Args:
      q_bhc: query of the new token [b, h, c].
      k_bhc: its key [b, h, c].
      v_bhe: its value [b, h, e].
      log_decay_h: [h], <= 0.
      state: [b, h, c, e], as `lightning_attention(..., return_final_state=True)` returns it.
        Donate it (`jax.jit(..., donate_argnums=...)`) and it is updated in place.
      implementation: "auto", or one by name, which then runs or raises.

    Returns:
      The output [b, h, e] in v's dtype, and the next state.

    Raises:
      ValueError: shapes that do not fit.
      jaxml_kernels.dispatch.UnsupportedError: the named implementation cannot run this.
    """
    want = (*k_bhc.shape, v_bhe.shape[-1])
    if q_bhc.shape != k_bhc.shape or state.shape != want:
        raise ValueError(
            f"state must have shape {list(want)} for k {k_bhc.shape} and v {v_bhe.shape}; "
            f"got state.shape={state.shape}, q.shape={q_bhc.shape}."
        )
    spec = describe(q_bhc[:, None], v_bhe[:, None], packed=False, state=state)
    run = dispatch.choose(IMPLEMENTATIONS, spec, implementation).run
    return run(q_bhc, k_bhc, v_bhe, log_decay_h, state)

"""One custom gradient for every implementation: a (forward, backward) pair in, an op out.

Saved for the backward pass: q, k, v, the decay, the initial state, and what `forward` gives as its
third result (states at a few places at most); other states are recomputed.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxml_kernels.lightning_attention.reference import accumulator


def differentiable(forward: Callable[..., Any], backward: Callable[..., Any]) -> Callable[..., Any]:
    """`(q, k, v, log_decay, initial_state, run_ids, want_final) -> (o, final_state)`.

    An initial state of None is zero and costs no memory traffic, nor does a final state that is
    not wanted, which is None. All cotangents, and the one of the decay, are exact; none is dropped.
    """

    @functools.partial(jax.custom_vjp, nondiff_argnums=(6,))
    def op(q, k, v, log_decay, initial_state, run_ids, want_final=True):
        return forward(q, k, v, log_decay, initial_state, run_ids, want_final=want_final)[:2]

    def save(q, k, v, log_decay, initial_state, run_ids, want_final):
        arguments = (q, k, v, log_decay, initial_state, run_ids)
        o, final, *states = forward(*arguments, want_final=want_final)
        return (o, final), (*arguments, final, tuple(states))

    def pull(want_final, saved, cotangents):
        *arguments, final, states = saved
        q, k, _, log_decay, _, _ = arguments
        do, d_final = cotangents
        dq, dk, dv, d_initial = backward(*arguments, do, d_final, *states)
        d_decay = _decay_gradient(q, k, dq, dk)
        if want_final:
            acc = d_decay.dtype
            d_decay += q.shape[1] * jnp.einsum(
                "bhce,bhce->h", final.astype(acc), d_final.astype(acc)
            )
        return dq, dk, dv, d_decay.astype(log_decay.dtype), d_initial, None

    op.defvjp(save, pull)
    return op


def _decay_gradient(q, k, dq, dk):
    """Cotangent of log_decay [h] through the outputs: `sum_t t (q_t . dq_t - k_t . dk_t)`.

    A pair (t, j) enters with factor lam^(t-j), and both q.dq and k.dk count it once. Positions
    count from 1 (the initial state sits at 0) and start anew with every run, whose offset cancels.
    """
    acc = accumulator(q.dtype)
    position = jnp.arange(1, q.shape[1] + 1, dtype=acc)
    q_part = jnp.einsum("bthc,bthc->bth", q.astype(acc), dq.astype(acc))
    k_part = jnp.einsum("bthc,bthc->bth", k.astype(acc), dk.astype(acc))
    return jnp.einsum("t,bth->h", position, q_part - k_part)

"""Hopper's implementation: sweeps of the kernel put together to the op and its gradient.

Forward in time one sweep is the op. `dq` is the forward sweep of (do, v, k). `dk` and `dv` come
from one sweep backward in time, or from two where value columns must be shared out to fill the
device. Where even that is not enough the sequence is cut into pieces. All of it is exact.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxml_kernels.lightning_attention import pieces as parts
from jaxml_kernels.lightning_attention.mosaic_gpu_pieces import (
    NUM_PROCESSORS,
    entering_states,
    num_pieces,
)
from jaxml_kernels.lightning_attention.mosaic_gpu_sweep import attend, key_value_gradients
from jaxml_kernels.lightning_attention.problem import Problem

WIDTHS = ((64, 64), (128, 128), (256, 128))
"""Key and value widths that recorded runs cover."""

DEVICES = ("H100", "H200")
DTYPES = ("bfloat16", "float16")


def supports(problem: Problem) -> str | None:
    """None where recorded runs cover the problem, else why it cannot run."""
    if problem.platform != "gpu" or not any(name in problem.device_kind for name in DEVICES):
        return f"needs one of {', '.join(DEVICES)}; this is {problem.device_kind}"
    if not jax.__version__.startswith("0.11."):
        return f"recorded with jax 0.11; this is {jax.__version__}"
    if problem.dtype not in DTYPES:
        return f"takes {' or '.join(DTYPES)}; got {problem.dtype}"
    if (problem.key_width, problem.value_width) not in WIDTHS:
        sizes = ", ".join(f"{c} x {e}" for c, e in WIDTHS)
        return f"key x value widths: {sizes}; got {problem.key_width} x {problem.value_width}"
    return None


def _block(programs: int, key_width: int, value_width: int) -> int:
    """Value columns of one program: 128 where the state fits registers and the device is full."""
    wide = value_width % 128 == 0 and key_width <= 128
    return 128 if wide and programs >= parts.FULL * NUM_PROCESSORS else 64


def _pieces(k: jax.Array, value_width: int) -> int:
    blocks = max(1, min(k.shape[-1], value_width) // 64)
    return num_pieces(k.shape[0] * k.shape[2] * blocks, k.shape[1])


def _attend(q, k, v, rate, entering, runs, pieces, **how) -> tuple[jax.Array, jax.Array | None]:
    q, k, v = (parts.split(x, pieces) for x in (q, k, v))
    runs = None if runs is None else parts.split(runs, pieces)
    block = _block(k.shape[0] * k.shape[2], k.shape[-1], v.shape[-1])
    o, final = attend(q, k, v, rate, entering, runs, block=block, **how)
    return parts.join(o, pieces), final


def forward(
    q_bthc: jax.Array,
    k_bthc: jax.Array,
    v_bthe: jax.Array,
    log_decay_h: jax.Array,
    initial_state: jax.Array | None,
    run_ids: jax.Array | None,
    *,
    want_final: bool = True,
    interpret: Any = None,
    pieces: int | None = None,
) -> tuple[jax.Array, jax.Array | None, jax.Array | None]:
    """Outputs [b, t, h, e], the final state, and the state entering each piece if it is cut.

    Arguments as in the reference.
    """
    rate = log_decay_h.astype(jnp.float32)
    pieces = pieces or _pieces(k_bthc, v_bthe.shape[-1])
    start = None if initial_state is None else initial_state.astype(jnp.float32)
    if pieces > 1:
        start = entering_states(k_bthc, v_bthe, rate, start, run_ids, pieces, interpret=interpret)
    o, final = _attend(
        q_bthc, k_bthc, v_bthe, rate, start, run_ids, pieces, final=want_final, interpret=interpret
    )
    return o, parts.one_of(final, pieces, -1), start if pieces > 1 else None


def backward(
    q_bthc: jax.Array,
    k_bthc: jax.Array,
    v_bthe: jax.Array,
    log_decay_h: jax.Array,
    initial_state: jax.Array | None,
    run_ids: jax.Array | None,
    do_bthe: jax.Array,
    d_final: jax.Array | None,
    entering: jax.Array | None = None,
    *,
    interpret: Any = None,
    pieces: int | None = None,
    together: bool | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array | None]:
    """Cotangents of q, k, v and the initial state (None where there is none).

    `entering` are the states of pieces that the forward pass found. `together` computes dk and dv
    in one sweep, by default where the states fit the registers of one program.
    """
    rate = log_decay_h.astype(jnp.float32)
    pieces = pieces or _pieces(k_bthc, v_bthe.shape[-1])
    do = do_bthe.astype(v_bthe.dtype)
    start = None if initial_state is None else initial_state.astype(jnp.float32)
    end = None if d_final is None else d_final.astype(jnp.float32)
    how: dict[str, Any] = {"interpret": interpret}
    if pieces > 1:
        found = entering
        if found is None:
            found = entering_states(k_bthc, v_bthe, rate, start, run_ids, pieces, **how)
        start = found
    dq, _ = _attend(
        do, v_bthe, k_bthc, rate, parts.transposed(start), run_ids, pieces, final=False, **how
    )
    if together is None:
        together = k_bthc.shape[-1] <= 128
    if together:  # a program computes all columns, so that more pieces fill the device
        pieces = max(pieces, num_pieces(k_bthc.shape[0] * k_bthc.shape[2], k_bthc.shape[1]))
    if pieces > 1:
        end = entering_states(q_bthc, do, rate, end, run_ids, pieces, reverse=True, **how)
    how["final"] = initial_state is not None
    if together:
        cut = [parts.split(x, pieces) for x in (q_bthc, k_bthc, v_bthe, do)]
        runs = None if run_ids is None else parts.split(run_ids, pieces)
        dk, dv, states = key_value_gradients(*cut, rate, end, runs, **how)
        dk, dv = parts.join(dk, pieces), parts.join(dv, pieces)
    else:
        how["reverse"] = True
        dv, states = _attend(k_bthc, q_bthc, do, rate, end, run_ids, pieces, **how)
        how["final"] = False
        dk, _ = _attend(v_bthe, do, q_bthc, rate, parts.transposed(end), run_ids, pieces, **how)
    return dq, dk, dv, parts.one_of(states, pieces, 0)

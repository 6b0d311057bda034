"""Lightning attention on TPUs: a Pallas kernel that walks the chunks with the state in VMEM.

The grid's last axis is time and runs in order; a program computes one chunk of one head of one row
and leaves the state for the next. As on Hopper the gradients are sweeps of the same kernel: `dq` is
the sweep of (do, v, k), and backward in time `dv` is that of (k, q, do) and `dk` of (v, do, q).
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from jaxml_kernels.lightning_attention.problem import Problem
from jaxml_kernels.lightning_attention.reference import state_or_zero

CHUNK = 128


def supports(problem: Problem) -> str | None:
    """None on TPUs, for float32 and bfloat16 of any width that fills rows of eight."""
    if problem.platform != "tpu":
        return f"needs a TPU; this is {problem.device_kind}"
    if problem.dtype not in ("float32", "bfloat16"):
        return f"takes float32 or bfloat16; got {problem.dtype}"
    if problem.key_width % 8 or problem.value_width % 8:
        widths = f"{problem.key_width} x {problem.value_width}"
        return f"key and value widths must be multiples of 8; got {widths}"
    return None


def _dot(a: jax.Array, b: jax.Array, contract: tuple[int, int]) -> jax.Array:
    exact = a.dtype == jnp.float32
    return jax.lax.dot_general(
        a,
        b,
        (((contract[0],), (contract[1],)), ((), ())),
        precision=jax.lax.Precision.HIGHEST if exact else None,
        preferred_element_type=jnp.float32,
    )


def _power(rate: jax.Array, distance: jax.Array, where: jax.Array) -> jax.Array:
    return jnp.where(where, jnp.exp(jnp.maximum(distance, 0).astype(jnp.float32) * rate), 0.0)


def _kernel(*refs: Any, seq_len: int, num_chunks: int, reverse: bool, packed: bool) -> None:
    rate_ref, q_ref, k_ref, v_ref, start_ref, *ids, o_ref, final_ref, state_ref = refs
    b, h, step = (pl.program_id(axis) for axis in range(3))
    chunk = num_chunks - 1 - step if reverse else step
    rate = rate_ref[h]
    length = jnp.minimum(seq_len - chunk * CHUNK, CHUNK)

    @pl.when(step == 0)
    def _begin():
        state_ref[...] = start_ref[0, 0]

    i = jax.lax.broadcasted_iota(jnp.int32, (CHUNK, 1), 0)
    j = jax.lax.broadcasted_iota(jnp.int32, (1, CHUNK), 1)
    into, out = (length - 1 - i, i + 1) if reverse else (i + 1, length - 1 - i)
    entering = leaving = jnp.full((CHUNK, 1), True)
    seen = (j >= i) if reverse else (i >= j)
    keep = jnp.exp(length.astype(jnp.float32) * rate)
    if packed:
        rows_ref, columns_ref, edges_ref = ids
        runs = rows_ref[0]
        seen &= runs == columns_ref[0]
        before, after = edges_ref[b, chunk], edges_ref[b, chunk + 1]
        if reverse:
            before, after = after, before
        entering, leaving = runs == before, runs == after
        keep = jnp.where(before == after, keep, 0.0)
    q, k, v, state = q_ref[0, 0], k_ref[0, 0], v_ref[0, 0], state_ref[...]
    scores = _dot(q, k, (1, 1)) * _power(rate, jnp.abs(i - j), seen)
    o = _dot(scores.astype(v.dtype), v, (1, 0))
    o += _power(rate, into, entering) * _dot(q, state.astype(q.dtype), (1, 0))
    o_ref[0, 0] = o.astype(o_ref.dtype)
    keys = (k.astype(jnp.float32) * _power(rate, out, leaving)).astype(k.dtype)
    state_ref[...] = keep * state + _dot(keys, v, (0, 0))

    @pl.when(step == num_chunks - 1)
    def _end():
        final_ref[0, 0] = state_ref[...]


def _edges(runs: jax.Array, num_chunks: int) -> jax.Array:
    last = jnp.minimum((jnp.arange(num_chunks) + 1) * CHUNK, runs.shape[1]) - 1
    return jnp.concatenate([runs[:, :1], runs[:, last]], 1)


@functools.partial(jax.jit, static_argnames=("reverse", "interpret"))
def sweep(
    q_bthc: jax.Array,
    k_bthc: jax.Array,
    v_bthe: jax.Array,
    log_decay_h: jax.Array,
    start: jax.Array,
    runs_bt: jax.Array | None = None,
    *,
    reverse: bool = False,
    interpret: Any = False,
) -> tuple[jax.Array, jax.Array]:
    """One pass over time: outputs [b, t, h, e] and the state at its end [b, h, c, e].

    Arguments as in the reference. Backward in time the state sits on the last token, not after
    it: the cotangent of a state.
    """
    batch, seq_len, heads, width = q_bthc.shape
    columns = v_bthe.shape[-1]
    num_chunks = -(-seq_len // CHUNK)
    pad = num_chunks * CHUNK - seq_len

    def ready(x: jax.Array) -> jax.Array:  # [b, h, chunks * CHUNK, width]
        return jnp.pad(jnp.moveaxis(x, 2, 1), ((0, 0), (0, 0), (0, pad), (0, 0)))

    def at(n: Any) -> Any:
        return num_chunks - 1 - n if reverse else n

    def tokens(size: int) -> pl.BlockSpec:
        return pl.BlockSpec((1, 1, CHUNK, size), lambda b, h, n: (b, h, at(n), 0))

    states = pl.BlockSpec((1, 1, width, columns), lambda b, h, n: (b, h, 0, 0))
    scalars = pl.BlockSpec(memory_space=pltpu.SMEM)
    operands = [log_decay_h.astype(jnp.float32), *map(ready, (q_bthc, k_bthc, v_bthe))]
    operands += [start.astype(jnp.float32)]
    in_specs = [scalars, tokens(width), tokens(width), tokens(columns), states]
    if runs_bt is not None:
        runs = runs_bt.astype(jnp.int32)
        edges = _edges(runs, num_chunks)
        runs = jnp.pad(runs, ((0, 0), (0, pad)), mode="edge")
        operands += [runs[:, :, None], runs[:, None, :], edges]
        in_specs += [
            pl.BlockSpec((1, CHUNK, 1), lambda b, h, n: (b, at(n), 0)),
            pl.BlockSpec((1, 1, CHUNK), lambda b, h, n: (b, 0, at(n))),
            scalars,
        ]
    body = functools.partial(
        _kernel,
        seq_len=seq_len,
        num_chunks=num_chunks,
        reverse=reverse,
        packed=runs_bt is not None,
    )
    o, final = pl.pallas_call(
        body,
        grid=(batch, heads, num_chunks),
        in_specs=in_specs,
        out_specs=[tokens(columns), states],
        out_shape=[
            jax.ShapeDtypeStruct((batch, heads, num_chunks * CHUNK, columns), v_bthe.dtype),
            jax.ShapeDtypeStruct((batch, heads, width, columns), jnp.float32),
        ],
        scratch_shapes=[pltpu.VMEM((width, columns), jnp.float32)],
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel", "parallel", "arbitrary")
        ),
        interpret=interpret,
    )(*operands)
    return jnp.moveaxis(o[:, :, :seq_len], 1, 2), final


def forward(
    q_bthc: jax.Array,
    k_bthc: jax.Array,
    v_bthe: jax.Array,
    log_decay_h: jax.Array,
    initial_state: jax.Array | None,
    run_ids: jax.Array | None,
    *,
    want_final: bool = True,
    interpret: Any = False,
) -> tuple[jax.Array, jax.Array | None]:
    """Outputs and the final state; arguments as in the reference."""
    start = state_or_zero(initial_state, k_bthc, v_bthe)
    o, final = sweep(q_bthc, k_bthc, v_bthe, log_decay_h, start, run_ids, interpret=interpret)
    return o, final if want_final else None


def backward(
    q_bthc: jax.Array,
    k_bthc: jax.Array,
    v_bthe: jax.Array,
    log_decay_h: jax.Array,
    initial_state: jax.Array | None,
    run_ids: jax.Array | None,
    do_bthe: jax.Array,
    d_final: jax.Array | None,
    *,
    interpret: Any = False,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array | None]:
    """Cotangents of q, k, v and the initial state (None where there is none)."""
    how: dict[str, Any] = {"interpret": interpret}
    do = do_bthe.astype(v_bthe.dtype)
    start = jnp.swapaxes(state_or_zero(initial_state, k_bthc, v_bthe), -1, -2)
    end = state_or_zero(d_final, k_bthc, v_bthe)
    dq, _ = sweep(do, v_bthe, k_bthc, log_decay_h, start, run_ids, **how)
    how["reverse"] = True
    dv, d_initial = sweep(k_bthc, q_bthc, do, log_decay_h, end, run_ids, **how)
    end = jnp.swapaxes(end, -1, -2)
    dk, _ = sweep(v_bthe, do, q_bthc, log_decay_h, end, run_ids, **how)
    return dq, dk, dv, None if initial_state is None else d_initial

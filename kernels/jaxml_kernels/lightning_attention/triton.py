"""Other NVIDIA GPUs: sweeps of a Triton kernel, called through jax-triton.

Forward in time one sweep is the op. `dq` is the forward sweep of (do, v, k); `dv` and `dk` are the
sweeps of (k, q, do) and (v, do, q) backward in time. Where rows and heads are too few to fill the
device the sequence is cut into pieces. All of it is exact.
"""

import functools
import importlib.util
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxml_kernels.lightning_attention import pieces as parts
from jaxml_kernels.lightning_attention.problem import Problem
from jaxml_kernels.lightning_attention.tuning import Tiles, table, tiles

CHUNK = 64
DTYPES = ("bfloat16", "float16")
WIDTHS = (16, 32, 64, 128, 256)

STEP_BLOCK = 64
"""Value columns of a program of `decode`."""

Launch = Callable[..., Any]
"""`launch(arrays, out_shape, grid, seq_len, tiles, **constants)`, a call of the kernel `sweep`."""


def supports(problem: Problem) -> str | None:
    """None where the kernel can run the problem, else why not."""
    if problem.platform != "gpu" or "NVIDIA" not in problem.device_kind.upper():
        return f"needs an NVIDIA GPU; this is {problem.device_kind}"
    if problem.dtype not in DTYPES:
        return f"takes {' or '.join(DTYPES)}; got {problem.dtype}"
    if problem.key_width not in WIDTHS or problem.value_width not in WIDTHS:
        sizes = ", ".join(map(str, WIDTHS))
        return f"key and value widths: {sizes}; got {problem.key_width} x {problem.value_width}"
    if importlib.util.find_spec("jax_triton") is None:
        return "needs jax-triton: pip install 'jaxml-lab[gpu]'"
    return None


def recorded(problem: Problem) -> bool:
    """Whether tests and measurements of the device are on record: its tiles are in the table."""
    return problem.device_kind in table()


def _processors() -> int:
    return getattr(jax.devices()[0], "core_count", None) or 108


def _call(arrays, out_shape, grid, seq_len, how: Tiles, **constants: Any) -> Any:
    import jax_triton  # pyright: ignore[reportMissingImports]

    from jaxml_kernels.lightning_attention.triton_kernel import sweep

    return jax_triton.triton_call(
        *arrays,
        seq_len,
        kernel=sweep,
        out_shape=out_shape,
        grid=grid,
        num_warps=how.warps,
        num_stages=how.stages,
        BLOCK=how.block,
        CHUNK=CHUNK,
        **constants,
    )


def attend(
    q_bthc: jax.Array | None,
    k_bthc: jax.Array,
    v_bthe: jax.Array,
    rate_h: jax.Array,
    start: jax.Array | None,
    runs_bt: jax.Array | None,
    *,
    reverse: bool = False,
    final: bool = True,
    launch: Launch = _call,
) -> tuple[jax.Array, jax.Array]:
    """One sweep over time: outputs [b, t, h, e] and the state at its end [b, h, c, e].

    Without q only the state is computed; what was not asked for is an array of one number.
    """
    batch, seq_len, heads, key_width = k_bthc.shape
    value_width = v_bthe.shape[-1]
    how = tiles(jax.devices()[0].device_kind, key_width, value_width)
    nothing = jax.ShapeDtypeStruct((1,), jnp.float32)
    state = jax.ShapeDtypeStruct((batch, heads, key_width, value_width), jnp.float32)
    outputs = nothing if q_bthc is None else jax.ShapeDtypeStruct(v_bthe.shape, v_bthe.dtype)
    arrays = (
        k_bthc if q_bthc is None else q_bthc,
        k_bthc,
        v_bthe,
        rate_h,
        rate_h if start is None else start,
        jnp.zeros(1, jnp.int32) if runs_bt is None else runs_bt.astype(jnp.int32),
    )
    return launch(
        arrays,
        (outputs, state if final else nothing),
        (batch * heads * (value_width // how.block),),
        seq_len,
        how,
        HEADS=heads,
        KEY=key_width,
        VALUE=value_width,
        REVERSE=reverse,
        START=start is not None,
        FINAL=final,
        PACKED=runs_bt is not None,
        OUTPUT=q_bthc is not None,
    )


def _cut(x: jax.Array | None, pieces: int) -> jax.Array | None:
    return None if x is None else parts.split(x, pieces)


def _entering(k, v, rate, start, runs, pieces, *, reverse=False, launch: Launch) -> jax.Array:
    """The state that enters each piece, float32 [b * pieces, h, c, e]."""
    k_cut, v_cut = parts.split(k, pieces), parts.split(v, pieces)
    how = {"reverse": reverse, "launch": launch}
    _, sums = attend(None, k_cut, v_cut, rate, None, _cut(runs, pieces), **how)
    sums = sums.reshape(-1, pieces, *sums.shape[1:])
    sums = sums[:, 1:] if reverse else sums[:, :-1]
    return parts.carried(sums, rate, start, runs, k.shape[1], reverse=reverse)


def _sweep(q, k, v, rate, entering, runs, pieces, **how: Any) -> tuple[jax.Array, jax.Array]:
    q, k, v = (parts.split(x, pieces) for x in (q, k, v))
    o, final = attend(q, k, v, rate, entering, _cut(runs, pieces), **how)
    return parts.join(o, pieces), final


def _pieces(k: jax.Array, value_width: int) -> int:
    how = tiles(jax.devices()[0].device_kind, k.shape[-1], value_width)
    programs = k.shape[0] * k.shape[2] * (value_width // how.block)
    return parts.num_pieces(programs, k.shape[1], CHUNK, _processors())


@functools.partial(jax.jit, static_argnames=("want_final", "pieces", "launch"))
def forward(
    q_bthc: jax.Array,
    k_bthc: jax.Array,
    v_bthe: jax.Array,
    log_decay_h: jax.Array,
    initial_state: jax.Array | None,
    run_ids: jax.Array | None,
    *,
    want_final: bool = True,
    pieces: int | None = None,
    launch: Launch = _call,
) -> tuple[jax.Array, jax.Array | None, jax.Array | None]:
    """Outputs, the final state, and the states entering each piece if it is cut.

    Arguments as in the reference.
    """
    rate = log_decay_h.astype(jnp.float32)
    pieces = pieces or _pieces(k_bthc, v_bthe.shape[-1])
    start = None if initial_state is None else initial_state.astype(jnp.float32)
    if pieces > 1:
        start = _entering(k_bthc, v_bthe, rate, start, run_ids, pieces, launch=launch)
    how = {"final": want_final, "launch": launch}
    o, final = _sweep(q_bthc, k_bthc, v_bthe, rate, start, run_ids, pieces, **how)
    return o, parts.one_of(final, pieces, -1) if want_final else None, start if pieces > 1 else None


@functools.partial(jax.jit, static_argnames=("pieces", "launch"))
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
    pieces: int | None = None,
    launch: Launch = _call,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array | None]:
    """Cotangents of q, k, v and the initial state (None where there is none).

    `entering` are the states of pieces that the forward pass found.
    """
    rate = log_decay_h.astype(jnp.float32)
    pieces = pieces or _pieces(k_bthc, v_bthe.shape[-1])
    do = do_bthe.astype(v_bthe.dtype)
    start = None if initial_state is None else initial_state.astype(jnp.float32)
    end = None if d_final is None else d_final.astype(jnp.float32)
    if pieces > 1:
        if entering is None:
            entering = _entering(k_bthc, v_bthe, rate, start, run_ids, pieces, launch=launch)
        start = entering
        end = _entering(q_bthc, do, rate, end, run_ids, pieces, reverse=True, launch=launch)
    how = {"final": False, "launch": launch}
    dq, _ = _sweep(do, v_bthe, k_bthc, rate, parts.transposed(start), run_ids, pieces, **how)
    how["reverse"] = True
    dk, _ = _sweep(v_bthe, do, q_bthc, rate, parts.transposed(end), run_ids, pieces, **how)
    how["final"] = initial_state is not None
    dv, states = _sweep(k_bthc, q_bthc, do, rate, end, run_ids, pieces, **how)
    return dq, dk, dv, None if initial_state is None else parts.one_of(states, pieces, 0)


def step(
    q_bhc: jax.Array,
    k_bhc: jax.Array,
    v_bhe: jax.Array,
    log_decay_h: jax.Array,
    state: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """One token against the state, which is read once and written once, in place where donated."""
    import jax_triton  # pyright: ignore[reportMissingImports]

    from jaxml_kernels.lightning_attention.triton_kernel import decode

    batch, heads, key_width, value_width = state.shape
    block = min(STEP_BLOCK, value_width)
    loss = jnp.expm1(log_decay_h.astype(jnp.float32))
    return jax_triton.triton_call(
        *(q_bhc, k_bhc, v_bhe, loss, state),
        kernel=decode,
        out_shape=(
            jax.ShapeDtypeStruct(v_bhe.shape, v_bhe.dtype),
            jax.ShapeDtypeStruct(state.shape, state.dtype),
        ),
        grid=(batch * heads * (value_width // block),),
        input_output_aliases={4: 1},
        num_warps=4,
        HEADS=heads,
        KEY=key_width,
        VALUE=value_width,
        BLOCK=block,
    )

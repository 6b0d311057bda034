"""The sweeps that the op and its gradient consist of, as calls of the Hopper kernel."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxml_kernels.lightning_attention.mosaic_gpu_kernel import launch
from jaxml_kernels.lightning_attention.mosaic_gpu_plan import CHUNK, Output, Plan


class Runs(NamedTuple):
    """Packed rows: the run of each token [rows, t] and of the state at each chunk's edge."""

    tokens: jax.Array
    edges: jax.Array


def edges(runs: jax.Array) -> jax.Array:
    """Runs at the edges of chunks [rows, chunks + 1]: the first token's, then each last token's."""
    seq_len = runs.shape[1]
    last = jnp.minimum(jnp.arange(-(-seq_len // CHUNK)) * CHUNK + CHUNK - 1, seq_len - 1)
    return jnp.concatenate([runs[:, :1], runs[:, last]], 1)


def _padded(x: jax.Array, **how: Any) -> jax.Array:
    pad = -x.shape[1] % CHUNK
    return jnp.pad(x, [(0, 0), (0, pad)] + [(0, 0)] * (x.ndim - 2), **how) if pad else x


def _prepared(runs: jax.Array | None) -> Runs | None:
    if runs is None:
        return None
    return Runs(_padded(runs, mode="edge").astype(jnp.int32), edges(runs).astype(jnp.int32))


STATIC = ("reverse", "final", "block", "interpret")


@functools.partial(jax.jit, static_argnames=STATIC)
def attend(
    q_bthc: jax.Array,
    k_bthc: jax.Array,
    v_bthe: jax.Array,
    rate_h: jax.Array,
    start: jax.Array | None = None,
    runs_bt: jax.Array | None = None,
    *,
    reverse: bool = False,
    final: bool = True,
    block: int = 64,
    interpret: Any = None,
) -> tuple[jax.Array, jax.Array | None]:
    """Outputs of one sweep over time.

    Args:
      q_bthc: queries [b, t, h, c], c a multiple of 64.
      k_bthc: keys [b, t, h, c].
      v_bthe: values [b, t, h, e].
      rate_h: log decay, float32 [h].
      start: state before the first token, float32 [b, h, c, e]; None is zero. Backward in time it
        sits on the last token, not after it: the cotangent of a state.
      runs_bt: int [b, t], which stretch of one sequence a token lies in; the start belongs to the
        first (last, backward in time) one.
      reverse: from the last token to the first.
      final: also return the state at the end.
      block: value columns of a program, dividing e.
      interpret: `InterpretGPUParams` to run on a CPU.

    Returns:
      Outputs [b, t, h, e], and the state at the end [b, h, c, e] or None.
    """
    tiles = [_padded(x) for x in (q_bthc, k_bthc, v_bthe)]
    plan = Plan(
        seq_len=q_bthc.shape[1],
        widths=(q_bthc.shape[-1], q_bthc.shape[-1], block),
        state=(1, 2),
        outputs=(Output(0, 1, 2),),
        dtype=q_bthc.dtype,
        reverse=reverse,
        start=start is not None,
        final=final,
        packed=runs_bt is not None,
        interpret=interpret is not None,
    )
    num_blocks = v_bthe.shape[-1] // block
    (o,), end = launch(plan, tiles, rate_h, start, _prepared(runs_bt), num_blocks, interpret)
    return o[:, : q_bthc.shape[1]], end


@functools.partial(jax.jit, static_argnames=("pieces", "reverse", "block", "interpret"))
def piece_sums(
    k_bthc: jax.Array,
    v_bthe: jax.Array,
    rate_h: jax.Array,
    runs_bt: jax.Array | None = None,
    *,
    pieces: int,
    reverse: bool = False,
    block: int = 64,
    interpret: Any = None,
) -> jax.Array:
    """What each piece of a sequence adds to the state, except the last one of the sweep.

    Rows are pieces: [b * pieces, t / pieces, ...], of whole chunks. Returns float32
    [b, pieces - 1, h, c, e] in order of time.
    """
    used = pieces - 1
    plan = Plan(
        seq_len=k_bthc.shape[1],
        widths=(k_bthc.shape[-1], block),
        state=(0, 1),
        outputs=(),
        dtype=k_bthc.dtype,
        reverse=reverse,
        start=False,
        packed=runs_bt is not None,
        pieces=pieces,
        used=used,
        interpret=interpret is not None,
    )
    num_blocks = v_bthe.shape[-1] // block
    runs = _prepared(runs_bt)
    _, sums = launch(plan, [k_bthc, v_bthe], rate_h, None, runs, num_blocks, interpret)
    assert sums is not None  # the plan keeps it
    return sums.reshape(-1, used, *sums.shape[1:])


@functools.partial(jax.jit, static_argnames=("final", "interpret"))
def key_value_gradients(
    q_bthc: jax.Array,
    k_bthc: jax.Array,
    v_bthe: jax.Array,
    do_bthe: jax.Array,
    rate_h: jax.Array,
    d_state: jax.Array | None = None,
    runs_bt: jax.Array | None = None,
    *,
    final: bool = True,
    interpret: Any = None,
) -> tuple[jax.Array, jax.Array, jax.Array | None]:
    """Computes dk and dv in one sweep backward in time, which reads q, k, v and do once.

    `dv = attend(k, q, do)` and `dk = attend(v, do, q)` backward in time; the state of the second
    is the transposed state of the first. Returns dk, dv and the cotangent of the initial state.
    """
    tiles = [_padded(x) for x in (q_bthc, do_bthe, k_bthc, v_bthe)]
    plan = Plan(
        seq_len=q_bthc.shape[1],
        widths=tuple(x.shape[-1] for x in tiles),
        state=(0, 1),
        outputs=(Output(2, 0, 1), Output(3, 1, 0, transposed=True)),
        dtype=q_bthc.dtype,
        reverse=True,
        start=d_state is not None,
        final=final,
        packed=runs_bt is not None,
        interpret=interpret is not None,
    )
    (dv, dk), d_initial = launch(plan, tiles, rate_h, d_state, _prepared(runs_bt), 1, interpret)
    seq_len = q_bthc.shape[1]
    return dk[:, :seq_len], dv[:, :seq_len], d_initial

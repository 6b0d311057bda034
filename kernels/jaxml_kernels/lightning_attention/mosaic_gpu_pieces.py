"""The states that enter the pieces of a sequence, summed up by the Hopper kernel."""

from typing import Any

import jax

from jaxml_kernels.lightning_attention import pieces as parts
from jaxml_kernels.lightning_attention.mosaic_gpu_plan import CHUNK
from jaxml_kernels.lightning_attention.mosaic_gpu_sweep import piece_sums

NUM_PROCESSORS = 132


def num_pieces(programs: int, seq_len: int) -> int:
    """Into how many pieces to cut a sequence so that the device is full."""
    return parts.num_pieces(programs, seq_len, CHUNK, NUM_PROCESSORS)


def entering_states(
    k_bthc: jax.Array,
    v_bthe: jax.Array,
    rate_h: jax.Array,
    start: jax.Array | None,
    runs_bt: jax.Array | None,
    pieces: int,
    *,
    reverse: bool = False,
    interpret: Any = None,
) -> jax.Array:
    """The state that enters each piece of a sweep, float32 [b * pieces, h, c, e]: one pass."""
    wide = v_bthe.shape[-1] % 128 == 0 and k_bthc.shape[-1] <= 128
    sums = piece_sums(
        parts.split(k_bthc, pieces),
        parts.split(v_bthe, pieces),
        rate_h,
        None if runs_bt is None else parts.split(runs_bt, pieces),
        pieces=pieces,
        reverse=reverse,
        block=128 if wide else 64,
        interpret=interpret,
    )
    return parts.carried(sums, rate_h, start, runs_bt, k_bthc.shape[1], reverse=reverse)

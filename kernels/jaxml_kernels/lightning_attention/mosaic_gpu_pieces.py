"""Cutting a sequence into pieces that run in parallel, each from the state that enters it."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxml_kernels.lightning_attention.mosaic_gpu_plan import CHUNK
from jaxml_kernels.lightning_attention.mosaic_gpu_sweep import piece_sums

NUM_PROCESSORS = 132
FULL = 0.9 * NUM_PROCESSORS
"""With so many programs the device counts as full."""


def num_pieces(programs: int, seq_len: int) -> int:
    """Into how many equal pieces of whole chunks to cut a sequence: a power of two."""
    pieces = 1
    while programs * pieces < FULL and seq_len % (2 * pieces * CHUNK) == 0:
        pieces *= 2
    return pieces


def split(x: jax.Array, pieces: int) -> jax.Array:
    """[b, t, ...] as [b * pieces, t / pieces, ...]."""
    return x.reshape(x.shape[0] * pieces, x.shape[1] // pieces, *x.shape[2:])


def join(x: jax.Array, pieces: int) -> jax.Array:
    """The reverse of `split`."""
    return x.reshape(x.shape[0] // pieces, x.shape[1] * pieces, *x.shape[2:])


def _links(
    runs: jax.Array | None, batch: int, pieces: int, reverse: bool
) -> tuple[jax.Array, jax.Array]:
    """Which piece's sum, and whether the start, reaches piece i without leaving its run.

    Returns booleans [b, i, j] and [b, i].
    """
    index = jnp.arange(pieces)
    before = index[:, None] < index[None, :] if reverse else index[:, None] > index[None, :]
    if runs is None:
        shape = (batch, pieces, pieces)
        return jnp.broadcast_to(before, shape), jnp.ones(shape[:2], bool)
    cut = runs.reshape(batch, pieces, -1)
    first, last = cut[:, :, 0], cut[:, :, -1]
    ours, theirs = (last, first) if reverse else (first, last)
    begin = last[:, -1:] if reverse else first[:, :1]
    return before[None] & (ours[:, :, None] == theirs[:, None, :]), ours == begin


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
    """The state that enters each piece of a sweep, float32 [b * pieces, h, c, e].

    One pass over k and v finds what each piece adds; a product with powers of the decay carries
    that, and the start, over the pieces.
    """
    batch, seq_len = k_bthc.shape[:2]
    length = seq_len // pieces
    wide = v_bthe.shape[-1] % 128 == 0 and k_bthc.shape[-1] <= 128
    sums = piece_sums(
        split(k_bthc, pieces),
        split(v_bthe, pieces),
        rate_h,
        None if runs_bt is None else split(runs_bt, pieces),
        pieces=pieces,
        reverse=reverse,
        block=128 if wide else 64,
        interpret=interpret,
    )
    index = jnp.arange(pieces)
    reached, started = _links(runs_bt, batch, pieces, reverse)
    gap = jnp.abs(index[:, None] - index[None, :]) - 1
    power = jnp.exp(length * jnp.maximum(gap, 0)[..., None] * rate_h[None, None])
    power = reached[..., None] * power[None]
    power = power[:, :, 1:] if reverse else power[:, :, :-1]
    states = jnp.einsum("bijh,bjhce->bihce", power, sums, precision="highest")
    if start is not None:
        passed = index[::-1] if reverse else index
        factor = started[..., None] * jnp.exp(length * passed[:, None] * rate_h[None])[None]
        states += factor[..., None, None] * start[:, None]
    return states.reshape(batch * pieces, *states.shape[2:])

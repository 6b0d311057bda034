"""Cutting a sequence into pieces that run in parallel, each from the state that enters it."""

import jax
import jax.numpy as jnp

FULL = 0.9
"""With so many programs per processor the device counts as full."""


def num_pieces(programs: int, seq_len: int, chunk: int, processors: int) -> int:
    """Into how many equal pieces of whole chunks to cut a sequence: a power of two."""
    pieces = 1
    while programs * pieces < FULL * processors and seq_len % (2 * pieces * chunk) == 0:
        pieces *= 2
    return pieces


def split(x: jax.Array, pieces: int) -> jax.Array:
    """[b, t, ...] as [b * pieces, t / pieces, ...]."""
    return x.reshape(x.shape[0] * pieces, x.shape[1] // pieces, *x.shape[2:])


def join(x: jax.Array, pieces: int) -> jax.Array:
    """The reverse of `split`."""
    return x.reshape(x.shape[0] // pieces, x.shape[1] * pieces, *x.shape[2:])


def one_of(states: jax.Array | None, pieces: int, index: int) -> jax.Array | None:
    """The state of one piece of every row, [b, ...], of those of all [b * pieces, ...]."""
    return None if states is None else states.reshape(-1, pieces, *states.shape[1:])[:, index]


def transposed(state: jax.Array | None) -> jax.Array | None:
    """The state as the sweep with keys and values exchanged carries it."""
    return None if state is None else jnp.swapaxes(state, -1, -2)


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


def carried(
    sums: jax.Array,
    rate_h: jax.Array,
    start: jax.Array | None,
    runs_bt: jax.Array | None,
    seq_len: int,
    *,
    reverse: bool = False,
) -> jax.Array:
    """The state that enters each piece, from what each piece adds: float32 [b * pieces, h, c, e].

    A product with powers of the decay carries the sums, and the start, over the pieces.

    Args:
      sums: float32 [b, pieces - 1, h, c, e] in order of time; nothing follows the piece that is
        swept last, which is left out.
      rate_h: log decay, float32 [h].
      start: state before the first piece of the sweep [b, h, c, e]; None is zero.
      runs_bt: int [b, t], which stretch of one sequence a token lies in.
      seq_len: tokens of the whole sequence.
      reverse: the sweep goes from the last piece to the first.
    """
    batch, pieces = sums.shape[0], sums.shape[1] + 1
    length = seq_len // pieces
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

"""Long short-term memory (Hochreiter and Schmidhuber 1997, with forget gates), one or two ways.

Gates stand in the order input, forget, cell, output, as in torch.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxml.core import check
from jaxml.core.param import Param
from jaxml.core.types import Array, PyTree
from jaxml.nn import precision
from jaxml.nn.initializer import uniform


class State(NamedTuple):
    """Output h and cell c, both [b, w]."""

    h: Array
    c: Array


def lstm_params(in_width: int, width: int) -> PyTree:
    """Declares `input` [i, 4w], `recurrent` [w, 4w] and `bias` [4w].

    Raises:
      ValueError: a width below 1.
    """
    check.positive(in_width=in_width, width=width)
    init = uniform(width**-0.5)
    return {
        "input": Param((in_width, 4 * width), ("embed", "mlp"), init),
        "recurrent": Param((width, 4 * width), (None, "mlp"), init),
        "bias": Param((4 * width,), ("mlp",), init),
    }


def lstm(
    p: PyTree,
    x_bti: Array,
    lengths: Array | None = None,
    state: State | None = None,
    *,
    reverse: bool = False,
    dtype: Any = None,
) -> tuple[Array, State]:
    """Runs along the sequence.

    Args:
      p: from `lstm_params`.
      x_bti: [b, t, i].
      lengths: integers [b]; from there on the output is zero and the state stands still.
      state: to start from (default: zeros).
      reverse: from the last token (of each length) to the first.
      dtype: compute dtype (default: of `x_bti`).

    Returns:
      Outputs [b, t, w], in the order of the input, and the final state.

    Raises:
      ValueError: a shape that does not fit.
    """
    sizes = check.shape("x_bti", x_bti, ["b", "t", p["input"].shape[0]])
    batch, length = sizes["b"], sizes["t"]
    width, x_bti = p["recurrent"].shape[0], x_bti.astype(dtype or x_bti.dtype)
    keep_tb = jnp.ones((length, batch), bool)
    if lengths is not None:
        check.shape("lengths", lengths, [batch])
        keep_tb = jnp.arange(length)[:, None] < lengths[None, :]
    if state is None:
        zeros = precision.varying_like(jnp.zeros((batch, width), x_bti.dtype), x_bti)
        state = State(zeros, zeros)
    drive = precision.dot(x_bti, p["input"])
    drive = jnp.moveaxis(drive + precision.along_last(p["bias"], drive), 1, 0)

    def step(state: State, now: tuple[Array, Array]) -> tuple[State, Array]:
        drive_bw, keep_b = now
        new = _cell(state, drive_bw + precision.dot(state.h, p["recurrent"]))
        keep = jnp.broadcast_to(keep_b[:, None], new.h.shape)
        held = State(jnp.where(keep, new.h, state.h), jnp.where(keep, new.c, state.c))
        return held, jnp.where(keep, new.h, 0)

    final, h_tbw = jax.lax.scan(step, state, (drive, keep_tb), reverse=reverse)
    return jnp.moveaxis(h_tbw, 0, 1), final


def _cell(state: State, gates: Array) -> State:
    enter, forget, cell, out = jnp.split(gates, 4, -1)
    c = jax.nn.sigmoid(forget) * precision.widen(state.c) + jax.nn.sigmoid(enter) * jnp.tanh(cell)
    h = jax.nn.sigmoid(out) * jnp.tanh(c)
    return State(h.astype(state.h.dtype), c.astype(state.c.dtype))


def bidirectional_params(in_width: int, width: int) -> PyTree:
    """Declares two of them, `forward` and `backward`."""
    return {"forward": lstm_params(in_width, width), "backward": lstm_params(in_width, width)}


def bidirectional(
    p: PyTree, x_bti: Array, lengths: Array | None = None, *, dtype: Any = None
) -> tuple[Array, tuple[State, State]]:
    """Outputs of both directions side by side [b, t, 2w], and both final states.

    Padding after `lengths` changes nothing.
    """
    ahead, last = lstm(p["forward"], x_bti, lengths, dtype=dtype)
    back, first = lstm(p["backward"], x_bti, lengths, reverse=True, dtype=dtype)
    return jnp.concatenate([ahead, back], -1), (last, first)

"""Hopper's implementation: sweeps of the kernel put together to the op and its gradient.

Where rows and heads are too few to fill the device, the sequence is cut into pieces that run in
parallel, each from its own state: a first sweep over k and v finds what each piece adds to the
state, a small product carries that over the pieces. The result is exact.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxml_kernels.lightning_attention.mosaic_gpu_sweep import CHUNK, sweep
from jaxml_kernels.lightning_attention.problem import Problem

WIDTHS = ((64, 64), (128, 128), (256, 128))
"""Key and value widths that recorded runs cover."""

DEVICES = ("H100", "H200")
DTYPES = ("bfloat16", "float16")
NUM_PROCESSORS = 132


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
    if problem.packed:
        return "packed rows are not built yet"
    return None


def value_block(programs: int, key_width: int, value_width: int) -> int:
    """Value columns of one program: 128 where the state fits registers and the device is full."""
    wide = value_width % 128 == 0 and key_width <= 128
    return 128 if wide and programs >= 0.9 * NUM_PROCESSORS else 64


def num_pieces(programs: int, seq_len: int) -> int:
    """Into how many equal pieces of whole chunks to cut a sequence: a power of two."""
    pieces = 1
    while programs * pieces < 0.9 * NUM_PROCESSORS and seq_len % (2 * pieces * CHUNK) == 0:
        pieces *= 2
    return pieces


def _split(x: jax.Array, pieces: int) -> jax.Array:
    return x.reshape(x.shape[0] * pieces, x.shape[1] // pieces, *x.shape[2:])


def _transposed(state: jax.Array) -> jax.Array:
    return jnp.swapaxes(state, -1, -2)


def _piece_states(
    k: jax.Array, v: jax.Array, rate: jax.Array, start: jax.Array, pieces: int, **how: Any
) -> jax.Array:
    """States entering each piece of a sweep, [b * pieces, h, c, e]."""
    batch, seq_len = k.shape[:2]
    nothing = jnp.zeros((batch * pieces, *start.shape[1:]), jnp.float32)
    halves = _split(k, pieces), _split(v, pieces)
    _, own = sweep(halves[0], *halves, rate, nothing, output=False, block=64, **how)
    order = jnp.arange(pieces)[::-1] if how.get("reverse") else jnp.arange(pieces)
    earlier = order[:, None] > order[None, :]
    distance = jnp.where(earlier, order[:, None] - 1 - order[None, :], 0)
    length = seq_len // pieces
    power = jnp.exp(length * distance[..., None] * rate) * earlier[..., None]
    own = own.reshape(batch, pieces, *start.shape[1:])
    entering = jnp.einsum("ijh,bjhce->bihce", power, own, precision="highest")
    entering += jnp.einsum(
        "ih,bhce->bihce", jnp.exp(length * order[:, None] * rate), start, precision="highest"
    )
    return entering.reshape(nothing.shape)


def _pieces_of(k: jax.Array, other_width: int) -> int:
    narrow = min(k.shape[-1], other_width)
    return num_pieces(k.shape[0] * k.shape[2] * max(1, narrow // 64), k.shape[1])


def _run(q, k, v, rate, entering, pieces, **how) -> tuple[jax.Array, jax.Array]:
    """A sweep in pieces whose entering states are known; the final state of each piece."""
    q, k, v = (_split(x, pieces) for x in (q, k, v))
    block = value_block(k.shape[0] * k.shape[2], k.shape[-1], v.shape[-1])
    o, final = sweep(q, k, v, rate, entering, block=block, **how)
    assert o is not None  # asked for
    return o.reshape(-1, o.shape[1] * pieces, *o.shape[2:]), final


def forward(
    q_bthc: jax.Array,
    k_bthc: jax.Array,
    v_bthe: jax.Array,
    log_decay_h: jax.Array,
    initial_state: jax.Array,
    run_ids: None = None,
    *,
    interpret: Any = None,
    pieces: int | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Outputs [b, t, h, e] and the final state; arguments as in the reference, rows not packed."""
    del run_ids  # refused by `supports`
    rate = log_decay_h.astype(jnp.float32)
    pieces = pieces or _pieces_of(k_bthc, v_bthe.shape[-1])
    how = {"interpret": interpret}
    start = initial_state.astype(jnp.float32)
    if pieces > 1:
        start = _piece_states(k_bthc, v_bthe, rate, start, pieces, **how)
    o, final = _run(q_bthc, k_bthc, v_bthe, rate, start, pieces, **how)
    return o, final.reshape(-1, pieces, *final.shape[1:])[:, -1]


def backward(
    q_bthc: jax.Array,
    k_bthc: jax.Array,
    v_bthe: jax.Array,
    log_decay_h: jax.Array,
    initial_state: jax.Array,
    run_ids: None,
    do_bthe: jax.Array,
    d_final: jax.Array,
    *,
    interpret: Any = None,
    pieces: int | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Cotangents of q, k, v and the initial state: one sweep forward in time, two backward."""
    del run_ids
    rate = log_decay_h.astype(jnp.float32)
    pieces = pieces or _pieces_of(k_bthc, v_bthe.shape[-1])
    how = {"interpret": interpret}
    do = do_bthe.astype(v_bthe.dtype)
    start, end = initial_state.astype(jnp.float32), d_final.astype(jnp.float32)
    if pieces > 1:
        start = _piece_states(k_bthc, v_bthe, rate, start, pieces, **how)
        end = _piece_states(q_bthc, do, rate, end, pieces, reverse=True, **how)
    dq, _ = _run(do, v_bthe, k_bthc, rate, _transposed(start), pieces, **how)
    dv, states = _run(k_bthc, q_bthc, do, rate, end, pieces, reverse=True, **how)
    dk, _ = _run(v_bthe, do, q_bthc, rate, _transposed(end), pieces, reverse=True, **how)
    d_initial = states.reshape(-1, pieces, *states.shape[1:])[:, 0]
    return dq, dk, dv, d_initial

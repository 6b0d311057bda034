"""Chunked lightning attention in plain jax: every device, any width, O(T) memory.

The sequence is cut into blocks that a scan visits; a block holds n chunks that are computed
together. Inside a chunk attention is quadratic; between chunks it goes through states, which one
small triangular product propagates.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxml_kernels.lightning_attention import decay
from jaxml_kernels.lightning_attention.reference import accumulator, state_or_zero

CHUNKS = {"gpu": 256}
"""Tokens that attend quadratically, by platform, where not 128: `benchmarks/tune.py` times them."""


class Blocks(NamedTuple):
    """The work of the scan: arrays with the blocks as leading axis."""

    tokens: tuple[jax.Array, ...]  # each [blocks, b, n, c, h, width]
    valid: jax.Array  # int32 [blocks, n], real tokens of each chunk
    runs: jax.Array | None  # int32 [blocks, b, n, c]
    carried_run: jax.Array | None  # int32 [blocks, b]


def _sizes(seq_len: int, chunk: int, block: int) -> tuple[int, int, int]:
    chunk = min(chunk, seq_len)
    num = max(1, min(block, seq_len) // chunk)
    return chunk, num, -(-seq_len // (chunk * num))


def _cut(
    arrays: tuple[jax.Array, ...], run_ids: jax.Array | None, chunk: int | None, block: int
) -> tuple[Blocks, int]:
    batch, seq_len = arrays[0].shape[:2]
    chunk = CHUNKS.get(jax.default_backend(), 128) if chunk is None else chunk
    chunk, num, blocks = _sizes(seq_len, chunk, block)
    pad = blocks * num * chunk - seq_len

    def split(x: jax.Array, **how: Any) -> jax.Array:
        x = jnp.pad(x, [(0, 0), (0, pad)] + [(0, 0)] * (x.ndim - 2), **how)
        return jnp.moveaxis(x.reshape(batch, blocks, num, chunk, *x.shape[2:]), 1, 0)

    first = np.arange(blocks * num) * chunk
    valid = np.clip(seq_len - first, 0, chunk).reshape(blocks, num).astype(np.int32)
    runs = carried = None
    if run_ids is not None:
        runs = split(run_ids, mode="edge")
        carried = jnp.concatenate([runs[:1, :, 0, 0], runs[:-1, :, -1, -1]])
    return Blocks(tuple(map(split, arrays)), jnp.asarray(valid), runs, carried), chunk


def _join(x: jax.Array, seq_len: int, dtype: Any) -> jax.Array:
    x = jnp.moveaxis(x, 0, 1)
    return x.reshape(x.shape[0], -1, *x.shape[4:])[:, :seq_len].astype(dtype)


def _product(dtype: Any) -> Any:
    """Einsum that accumulates in float32 and, for float32 inputs, does not round them."""
    acc = accumulator(dtype)
    exact = dtype in (jnp.float32, jnp.float64)
    precision = jax.lax.Precision.HIGHEST if exact else jax.lax.Precision.DEFAULT
    return functools.partial(jnp.einsum, precision=precision, preferred_element_type=acc)


def _scaled(x: jax.Array, factor: jax.Array, acc: Any) -> jax.Array:
    return x.astype(acc) * factor[..., None]


def _entering(product: Any, t: decay.Tables, state: jax.Array, own: jax.Array) -> jax.Array:
    """States entering each chunk, and after the last one: [b, n + 1, h, c, e]."""
    carried = jnp.moveaxis(t.carried, 2, 1)[..., None, None] * state[:, None]
    if t.across.shape[0] == 1:
        return carried + product("hij,bjhce->bihce", t.across[0], own)
    return carried + product("bhij,bjhce->bihce", t.across, own)


@functools.partial(jax.jit, static_argnames=("want_final", "chunk", "block"))
def forward(
    q_bthc: jax.Array,
    k_bthc: jax.Array,
    v_bthe: jax.Array,
    log_decay_h: jax.Array,
    initial_state: jax.Array | None,
    run_ids: jax.Array | None,
    *,
    want_final: bool = True,
    chunk: int | None = None,
    block: int = 4096,
) -> tuple[jax.Array, jax.Array | None]:
    """Outputs [b, t, h, e] and the final state; arguments as in the reference.

    `run_ids` are the stretches of `decay.runs`; `chunk` tokens attend quadratically (default: by
    platform), `block` tokens are computed together (its intermediates are the memory used beyond
    inputs and outputs).
    """
    product, acc = _product(q_bthc.dtype), accumulator(q_bthc.dtype)
    work, chunk = _cut((q_bthc, k_bthc, v_bthe), run_ids, chunk, block)
    rate = log_decay_h.astype(acc)

    def visit(state: jax.Array, item: Blocks) -> tuple[jax.Array, jax.Array]:
        q, k, v = item.tokens
        t = decay.tables(rate, item.valid, chunk, item.runs, item.carried_run)
        own = product("bnihc,bnihe->bnhce", _scaled(k, t.leave, acc), v.astype(acc))
        states = _entering(product, t, state, own)
        scores = product("bnihc,bnjhc->bnhij", q, k) * t.intra
        o = product("bnhij,bnjhe->bnihe", scores.astype(v.dtype), v)
        o += product("bnihc,bnhce->bnihe", _scaled(q, t.enter, acc), states[:, :-1])
        return states[:, -1], o.astype(v.dtype)

    final, o = jax.lax.scan(visit, state_or_zero(initial_state, q_bthc, v_bthe), work)
    return _join(o, q_bthc.shape[1], v_bthe.dtype), final if want_final else None


@functools.partial(jax.jit, static_argnames=("chunk", "block"))
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
    chunk: int | None = None,
    block: int = 4096,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array | None]:
    """Cotangents of q, k, v and the initial state, from those of the outputs and final state.

    A forward sweep recomputes the state entering each block; a reverse sweep does the rest.
    """
    product, acc = _product(q_bthc.dtype), accumulator(q_bthc.dtype)
    arrays = (q_bthc, k_bthc, v_bthe, do_bthe.astype(v_bthe.dtype))
    work, chunk = _cut(arrays, run_ids, chunk, block)
    rate = log_decay_h.astype(acc)

    def prepare(state: jax.Array, item: Blocks) -> tuple[decay.Tables, jax.Array]:
        _, k, v, _ = item.tokens
        t = decay.tables(rate, item.valid, chunk, item.runs, item.carried_run)
        own = product("bnihc,bnihe->bnhce", _scaled(k, t.leave, acc), v.astype(acc))
        return t, _entering(product, t, state, own)

    def sweep(state: jax.Array, item: Blocks) -> tuple[jax.Array, jax.Array]:
        return prepare(state, item)[1][:, -1], state

    def visit(d_state: jax.Array, saved: tuple[Blocks, jax.Array]) -> tuple[jax.Array, Any]:
        item, state = saved
        q, k, v, do = item.tokens
        t, states = prepare(state, item)
        from_q = product("bnihc,bnihe->bnhce", _scaled(q, t.enter, acc), do.astype(acc))
        from_q = jnp.concatenate([from_q, d_state[:, None]], 1)  # [b, n + 1, h, c, e]
        across = jnp.broadcast_to(t.across, (q.shape[0], *t.across.shape[1:]))
        d_own = product("bhij,bihce->bjhce", across, from_q)
        carried = jnp.broadcast_to(t.carried, (q.shape[0], *t.carried.shape[1:]))
        d_in = product("bhi,bihce->bhce", carried, from_q)
        scores = (product("bnihc,bnjhc->bnhij", q, k) * t.intra).astype(v.dtype)
        d_scores = (product("bnihe,bnjhe->bnhij", do, v) * t.intra).astype(q.dtype)
        dq = product("bnhij,bnjhc->bnihc", d_scores, k)
        dq += product("bnihe,bnhce->bnihc", _scaled(do, t.enter, acc), states[:, :-1])
        dk = product("bnhij,bnihc->bnjhc", d_scores, q)
        dk += product("bnihe,bnhce->bnihc", _scaled(v, t.leave, acc), d_own)
        dv = product("bnhij,bnihe->bnjhe", scores, do)
        dv += product("bnihc,bnhce->bnihe", _scaled(k, t.leave, acc), d_own)
        return d_in, (dq.astype(q.dtype), dk.astype(k.dtype), dv.astype(v.dtype))

    _, entering = jax.lax.scan(sweep, state_or_zero(initial_state, q_bthc, v_bthe), work)
    end = state_or_zero(d_final, q_bthc, v_bthe)
    d_initial, grads = jax.lax.scan(visit, end, (work, entering), reverse=True)
    seq_len = q_bthc.shape[1]
    dq, dk, dv = (_join(g, seq_len, x.dtype) for g, x in zip(grads, arrays[:3], strict=True))
    return dq, dk, dv, None if initial_state is None else d_initial

"""The Triton kernels: a sweep of a state over a sequence, and one step of decoding.

Only `triton.py` imports this file, and only where Triton is installed. Pointers come first, then
the outputs, then what is fixed when a kernel is compiled, as jax-triton passes them.
"""

import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
def sweep(
    q_ptr,
    k_ptr,
    v_ptr,
    rate_ptr,
    start_ptr,
    runs_ptr,
    seq_len,
    o_ptr,
    final_ptr,
    HEADS: tl.constexpr,
    KEY: tl.constexpr,
    VALUE: tl.constexpr,
    BLOCK: tl.constexpr,
    CHUNK: tl.constexpr,
    REVERSE: tl.constexpr,
    START: tl.constexpr,
    FINAL: tl.constexpr,
    PACKED: tl.constexpr,
    OUTPUT: tl.constexpr,
):
    """One head of one row, BLOCK value columns: the state stays in registers from end to end.

    Per chunk `O = ((Q K^T) * M) V + enter * (Q S)` and `S = keep * S + (leave * K)^T V`. In
    reverse the state sits on the token that was swept last, not before it.
    """
    blocks: tl.constexpr = VALUE // BLOCK
    lane = tl.program_id(0) // blocks
    head = lane % HEADS
    row = (lane // HEADS).to(tl.int64)
    base = row * seq_len
    token = tl.arange(0, CHUNK)
    key = tl.arange(0, KEY)
    value = (tl.program_id(0) % blocks) * BLOCK + tl.arange(0, BLOCK)
    rate = tl.load(rate_ptr + head) * LOG2_E
    q_ptr += (base * HEADS + head) * KEY
    k_ptr += (base * HEADS + head) * KEY
    v_ptr += (base * HEADS + head) * VALUE
    o_ptr += (base * HEADS + head) * VALUE
    runs_ptr += base
    places = lane.to(tl.int64) * KEY * VALUE + key[:, None] * VALUE + value[None, :]

    state = tl.zeros((KEY, BLOCK), tl.float32)
    if START:
        state = tl.load(start_ptr + places)
    gap = token[:, None] - token[None, :]
    if REVERSE:
        gap = -gap
    decay = tl.exp2(tl.maximum(gap, 0).to(tl.float32) * rate)
    intra = tl.where(gap >= 0, decay, 0.0)
    chunks = tl.cdiv(seq_len, CHUNK)
    run = 0
    if PACKED:
        run = tl.load(runs_ptr + (seq_len - 1 if REVERSE else 0))

    for step in range(0, chunks):
        at = (chunks - 1 - step if REVERSE else step) * CHUNK
        real = tl.minimum(seq_len - at, CHUNK)
        live = token < real
        inside = at + token
        rows = inside[:, None] * HEADS
        k = tl.load(k_ptr + rows * KEY + key[None, :], mask=live[:, None], other=0.0)
        v = tl.load(v_ptr + rows * VALUE + value[None, :], mask=live[:, None], other=0.0)
        first = token + 1
        last = tl.maximum(real - 1 - token, 0)
        enter = tl.exp2((last if REVERSE else first).to(tl.float32) * rate)
        leave = tl.exp2((first if REVERSE else last).to(tl.float32) * rate)
        keep = tl.exp2(real.to(tl.float32) * rate)
        weight = intra
        if PACKED:
            runs = tl.load(runs_ptr + inside, mask=live, other=-1)
            edge = tl.load(runs_ptr + (at if REVERSE else at + real - 1))
            weight = tl.where(runs[:, None] == runs[None, :], intra, 0.0)
            enter = tl.where(runs == run, enter, 0.0)
            leave = tl.where(runs == edge, leave, 0.0)
            keep = tl.where(edge == run, keep, 0.0)
            run = edge
        if OUTPUT:
            q = tl.load(q_ptr + rows * KEY + key[None, :], mask=live[:, None], other=0.0)
            scores = tl.dot(q, tl.trans(k)) * weight
            o = tl.dot(q, state.to(q.dtype)) * enter[:, None]
            o = tl.dot(scores.to(v.dtype), v, o)
            tl.store(o_ptr + rows * VALUE + value[None, :], o.to(v.dtype), mask=live[:, None])
        left = (k.to(tl.float32) * leave[:, None]).to(k.dtype)
        state = tl.dot(tl.trans(left), v, state * keep)

    if FINAL:
        tl.store(final_ptr + places, state)


@triton.jit
def decode(
    q_ptr,
    k_ptr,
    v_ptr,
    loss_ptr,
    state_ptr,
    o_ptr,
    next_ptr,
    HEADS: tl.constexpr,
    KEY: tl.constexpr,
    VALUE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One token of one head: reads the state once and writes it once, in place.

    `loss` is `lam - 1`, which keeps the digits that lam loses near 1.
    """
    blocks: tl.constexpr = VALUE // BLOCK
    lane = tl.program_id(0) // blocks
    key = tl.arange(0, KEY)
    value = (tl.program_id(0) % blocks) * BLOCK + tl.arange(0, BLOCK)
    places = lane.to(tl.int64) * KEY * VALUE + key[:, None] * VALUE + value[None, :]
    loss = tl.load(loss_ptr + lane % HEADS)
    q = tl.load(q_ptr + lane * KEY + key).to(tl.float32)
    k = tl.load(k_ptr + lane * KEY + key).to(tl.float32)
    v = tl.load(v_ptr + lane * VALUE + value).to(tl.float32)
    state = tl.load(state_ptr + places)
    state = state + (loss * state + k[:, None] * v[None, :])
    tl.store(next_ptr + places, state)
    o = tl.sum(q[:, None] * state, 0)
    tl.store(o_ptr + lane * VALUE + value, o.to(o_ptr.dtype.element_ty))

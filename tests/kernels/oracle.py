"""Lightning attention in float64 NumPy from the quadratic form; no code shared with the package."""

import jax.numpy as jnp
import numpy as np


def quadratic(q, k, v, log_decay, initial=None, runs=None, wo=None, ws=None):
    """Outputs, final state and, given `wo` and `ws`, the gradients of sum(o wo) + sum(s ws)."""
    q, k, v, log_decay = (np.asarray(x, np.float64) for x in (q, k, v, log_decay))
    b, t, h, c = q.shape
    e = v.shape[-1]
    runs = np.zeros((b, t), int) if runs is None else np.asarray(runs)
    s0 = np.zeros((b, h, c, e)) if initial is None else np.asarray(initial, np.float64)
    i = np.arange(t)
    gap = i[:, None] - i[None, :]
    lam = np.exp(np.where(gap >= 0, gap, 0)[None] * log_decay[:, None, None]) * (gap >= 0)
    same = (runs[:, :, None] == runs[:, None, :])[:, None]
    m = lam[None] * same  # b h t s
    first = (runs == runs[:, :1])[..., None]
    enter = np.exp((i + 1)[:, None] * log_decay)[None] * first  # b t h
    leave = np.exp((t - 1 - i)[:, None] * log_decay)[None] * (runs == runs[:, -1:])[..., None]
    whole = np.exp(t * log_decay)[None] * (runs[:, -1:] == runs[:, :1])  # b h
    scores = np.einsum("bthc,bshc->bhts", q, k) * m
    o = np.einsum("bhts,bshe->bthe", scores, v) + np.einsum("bth,bthc,bhce->bthe", enter, q, s0)
    s = whole[..., None, None] * s0 + np.einsum("bth,bthc,bthe->bhce", leave, k, v)
    if wo is None:
        return o, s
    wo, ws = np.asarray(wo, np.float64), np.asarray(ws, np.float64)
    ds = np.einsum("bthe,bshe->bhts", wo, v) * m
    dq = np.einsum("bhts,bshc->bthc", ds, k) + np.einsum("bth,bthe,bhce->bthc", enter, wo, s0)
    dk = np.einsum("bhts,bthc->bshc", ds, q) + np.einsum("bth,bthe,bhce->bthc", leave, v, ws)
    dv = np.einsum("bhts,bthe->bshe", scores, wo) + np.einsum("bth,bthc,bhce->bthe", leave, k, ws)
    d0 = whole[..., None, None] * ws + np.einsum("bth,bthc,bthe->bhce", enter, q, wo)
    gaps = np.where(gap >= 0, gap, 0)
    dl = np.einsum("bhts,bhts,ts->h", scores, np.einsum("bthe,bshe->bhts", wo, v), gaps)
    dl += np.einsum("bth,t,bthc,bhce,bthe->h", enter, i + 1, q, s0, wo, optimize=True)
    dl += np.einsum("bth,t,bthc,bthe,bhce->h", leave, t - 1 - i, k, v, ws, optimize=True)
    dl += t * np.einsum("bh,bhce,bhce->h", whole, s0, ws)
    return o, s, {"q": dq, "k": dk, "v": dv, "log_decay": dl, "initial": d0}


def distance(got, want):
    """Relative Frobenius error; NaN anywhere counts as infinite."""
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    if not np.isfinite(got).all():
        return np.inf
    return np.linalg.norm(got - want) / max(np.linalg.norm(want), 1e-30)


def problem(case, packed=False, seed=0):
    """Inputs of a case, a state before and a cotangent after, runs, the outputs' cotangent."""
    draw = np.random.default_rng(seed).standard_normal
    wide = (case.batch, case.seq_len, case.num_heads, case.key_width)
    out, state = (*wide[:3], case.value_width), (wide[0], *wide[2:], case.value_width)
    q, k, v, do = draw(wide) * wide[3] ** -0.5, draw(wide), draw(out), draw(out)
    q, k, v, do = (jnp.asarray(x, case.dtype) for x in (q, k, v, do))
    start, end = (jnp.asarray(draw(state), jnp.float32) for _ in range(2))
    runs = None
    if packed:
        ids = np.sort(np.random.default_rng(seed).integers(0, 5, wide[:2]), 1)
        runs = np.cumsum(np.diff(ids, prepend=ids[:, :1]) != 0, 1).astype(np.int32)
    return (q, k, v, jnp.asarray(case.log_decay)), start, runs, do, end


def errors(case, packed, start_given, forward, backward):
    """Relative errors of outputs, final state and gradients of a (forward, backward) pair."""
    arrays, start, runs, do, end = problem(case, packed)
    if not start_given:
        start = None
    o, final, _ = forward(*arrays, start, runs)
    got = backward(*arrays, start, runs, do, end)
    zero = np.zeros(end.shape)
    want_o, want_final, want = quadratic(
        *arrays, zero if start is None else start, runs=runs, wo=do, ws=end
    )
    found = {"o": distance(o, want_o), "final": distance(final, want_final)}
    for name, array in zip(("q", "k", "v", "initial"), got, strict=True):
        if array is not None:
            found[name] = distance(array, want[name])
    assert (got[3] is None) == (start is None)
    return found

"""The public function: checks, choice of implementation, packing."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxml_kernels import dispatch
from jaxml_kernels.lightning_attention import (
    decay,
    mosaic_gpu,
    packing,
    pallas_tpu,
    problem,
    triton,
    xla,
)
from jaxml_kernels.lightning_attention.reference import (
    accumulator,
    lightning_attention_reference,
    state_or_zero,
)
from jaxml_kernels.lightning_attention.vjp import differentiable


def _reference(q, k, v, log_decay, initial_state, run_ids, want_final):
    start = state_or_zero(initial_state, k, v)
    o, final = lightning_attention_reference(q, k, v, log_decay, start, run_ids)
    return o, final if want_final else None


def _anywhere(_: problem.Problem) -> None:
    return None


IMPLEMENTATIONS: tuple[dispatch.Implementation, ...] = (
    dispatch.Implementation(
        "mosaic_gpu",
        mosaic_gpu.supports,
        differentiable(mosaic_gpu.forward, mosaic_gpu.backward),
    ),
    dispatch.Implementation(
        "triton",
        triton.supports,
        differentiable(triton.forward, triton.backward),
        triton.recorded,
    ),
    dispatch.Implementation(
        "pallas_tpu",
        pallas_tpu.supports,
        differentiable(pallas_tpu.forward, pallas_tpu.backward),
        dispatch.by_name_only,
    ),
    dispatch.Implementation("xla", _anywhere, differentiable(xla.forward, xla.backward)),
    dispatch.Implementation("reference", _anywhere, _reference),
)
"""In order of preference; `auto` takes the first that can run."""


def lightning_attention(
    q_bthc: jax.Array,
    k_bthc: jax.Array,
    v_bthe: jax.Array,
    log_decay_h: jax.Array,
    *,
    initial_state: jax.Array | None = None,
    segment_ids: jax.Array | None = None,
    cu_seqlens: jax.Array | None = None,
    return_final_state: bool = False,
    implementation: str = "auto",
) -> tuple[jax.Array, jax.Array | None]:
    """Causal linear attention with a constant decay per head: no softmax, no scale, O(T).

    `o_t = sum_{j <= t} lam^(t-j) (q_t . k_j) v_j` with `lam = exp(log_decay)`, plus `lam^t q_t S_0`
    (t from 1) for an initial state. Lightning Attention-2 (arXiv 2401.04658) computes it in blocks.

    Args:
      q_bthc: queries [b, t, h, c].
      k_bthc: keys [b, t, h, c].
      v_bthe: values [b, t, h, e]; e may differ from c.
      log_decay_h: [h], <= 0; 0 never forgets.
      initial_state: float32 [n, h, c, e]: n = b, or the number of sequences of `cu_seqlens`. With
        `segment_ids` it belongs to the first segment of each row.
      segment_ids: int [b, t]; the state restarts at zero where the id changes.
      cu_seqlens: int [n + 1], offsets of n sequences packed into one row (b = 1), from 0 to t.
      return_final_state: also return the state after the last token (of each sequence).
      implementation: "auto", or one by name, which then runs or raises.

    Returns:
      Outputs [b, t, h, e] in v's dtype, and the final state float32 [n, h, c, e] or None. With
      `segment_ids` the final state is that of each row's last segment.

    Raises:
      ValueError: shapes, dtypes or offsets that do not fit, a positive decay.
      jaxml_kernels.dispatch.UnsupportedError: the named implementation cannot run this.

    >>> import jax.numpy as jnp
    >>> one = jnp.ones((1, 3, 1, 1))
    >>> lightning_attention(one, one, one, jnp.log(jnp.array([0.5])))[0].ravel().tolist()
    [1.0, 1.5, 1.75]
    """
    check_arguments(q_bthc, k_bthc, v_bthe, log_decay_h, initial_state, segment_ids, cu_seqlens)
    packed = segment_ids is not None or cu_seqlens is not None
    spec = problem.describe(q_bthc, v_bthe, packed)
    run = dispatch.choose(IMPLEMENTATIONS, spec, implementation).run
    seq_len, acc = q_bthc.shape[1], accumulator(q_bthc.dtype)
    if cu_seqlens is None:
        start = None if initial_state is None else initial_state.astype(acc)
        run_ids = None if segment_ids is None else decay.runs(segment_ids)
        return run(q_bthc, k_bthc, v_bthe, log_decay_h, start, run_ids, return_final_state)

    run_ids = decay.runs(packing.segment_ids(cu_seqlens, seq_len))
    o, _ = run(q_bthc, k_bthc, v_bthe, log_decay_h, None, run_ids, False)
    layout = packing.align(cu_seqlens, seq_len)
    rate = log_decay_h.astype(acc)
    if initial_state is not None:
        o = o + packing.initial_part(q_bthc[0], rate, initial_state, layout)[None].astype(o.dtype)
    if not return_final_state:
        return o, None
    shape = (cu_seqlens.shape[0] - 1, *q_bthc.shape[2:], v_bthe.shape[-1])
    start = jnp.zeros(shape, acc) if initial_state is None else initial_state.astype(acc)
    return o, packing.final_states(k_bthc[0], v_bthe[0], rate, start, layout)


def explain(spec: problem.Problem) -> Sequence[dispatch.Verdict]:
    """Which implementations could run a problem, and why the others could not."""
    return dispatch.explain(IMPLEMENTATIONS, spec)


def _concrete(x: jax.Array | None) -> np.ndarray | None:
    return None if x is None or isinstance(x, Tracer) else np.asarray(x)


def _shape(name: str, array: jax.Array, want: tuple[int, ...]) -> None:
    if array.shape != want:
        raise ValueError(f"{name} must have shape {list(want)}; got {name}.shape={array.shape}.")


def check_arguments(q, k, v, log_decay, initial_state, segment_ids, cu_seqlens) -> None:
    """Raises ValueError for arguments that do not fit together; values are checked if concrete."""
    if q.ndim != 4:
        raise ValueError(f"q must have shape [b, t, h, c]; got q.shape={q.shape}.")
    batch, seq_len, heads, key_width = q.shape
    if seq_len == 0:
        raise ValueError(f"q must hold at least one token; got q.shape={q.shape}.")
    _shape("k", k, q.shape)
    if v.ndim != 4:
        raise ValueError(f"v must have shape [b, t, h, e]; got v.shape={v.shape}.")
    _shape("v", v, (batch, seq_len, heads, v.shape[-1]))
    _shape("log_decay", log_decay, (heads,))
    for name, array in (("q", q), ("k", k), ("v", v)):
        if not jnp.issubdtype(array.dtype, jnp.floating) or array.dtype != q.dtype:
            kinds = f"q={q.dtype}, k={k.dtype}, v={v.dtype}"
            raise ValueError(f"q, k and v must share one floating dtype; got {kinds} ({name}).")
    rates = _concrete(log_decay)
    if rates is not None and not np.all(rates <= 0):
        raise ValueError(f"log_decay must be <= 0; got log_decay={rates.tolist()}.")
    if segment_ids is not None and cu_seqlens is not None:
        raise ValueError("segment_ids and cu_seqlens are two ways to say the same; give one.")
    if segment_ids is not None:
        _shape("segment_ids", segment_ids, (batch, seq_len))
    num_states = batch
    if cu_seqlens is not None:
        _check_offsets(cu_seqlens, batch, seq_len)
        num_states = cu_seqlens.shape[0] - 1
    if initial_state is not None:
        _shape("initial_state", initial_state, (num_states, heads, key_width, v.shape[-1]))


def _check_offsets(cu_seqlens: jax.Array, batch: int, seq_len: int) -> None:
    if batch != 1:
        raise ValueError(f"cu_seqlens needs one packed row (b = 1); got b={batch}.")
    if cu_seqlens.ndim != 1 or cu_seqlens.shape[0] < 2:
        raise ValueError(f"cu_seqlens must have shape [n + 1]; got {cu_seqlens.shape}.")
    offsets = _concrete(cu_seqlens)
    if offsets is None:
        return
    if offsets[0] != 0 or offsets[-1] != seq_len or np.any(np.diff(offsets) < 0):
        raise ValueError(
            f"cu_seqlens must rise from 0 to t={seq_len}; got cu_seqlens={offsets.tolist()}."
        )

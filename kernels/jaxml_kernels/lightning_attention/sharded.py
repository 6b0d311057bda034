"""Sequence parallelism: each device holds a contiguous stretch of time.

Every device runs its stretch from a zero state; the stretches' states (whose size does not depend
on the length) are gathered once, and each device adds what the past contributes (LASP-2).
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from jaxml_kernels.lightning_attention.api import lightning_attention
from jaxml_kernels.lightning_attention.reference import accumulator


def lightning_attention_local(
    q_bthc: jax.Array,
    k_bthc: jax.Array,
    v_bthe: jax.Array,
    log_decay_h: jax.Array,
    *,
    axis_name: str,
    initial_state: jax.Array | None = None,
    implementation: str = "auto",
) -> tuple[jax.Array, jax.Array]:
    """The body of a `shard_map` over time: local tokens in, local outputs and the global state out.

    Args:
      q_bthc: this device's queries [b, t / p, h, c]; k, v likewise, in order of the axis.
      k_bthc: keys.
      v_bthe: values [b, t / p, h, e].
      log_decay_h: [h], the same on each device.
      axis_name: mesh axis over which time is split (size p, which may be 1).
      initial_state: state before the whole sequence [b, h, c, e], the same on each device.
      implementation: as in `lightning_attention`.

    Returns:
      Local outputs, and the state after the whole sequence, the same on each device.
    """
    o, own = lightning_attention(
        q_bthc,
        k_bthc,
        v_bthe,
        log_decay_h,
        return_final_state=True,
        implementation=implementation,
    )
    assert own is not None  # asked for above
    acc, length = own.dtype, q_bthc.shape[1]
    states = jax.lax.all_gather(own, axis_name)  # [p, b, h, c, e]
    num, rank = states.shape[0], jax.lax.axis_index(axis_name)
    rate = log_decay_h.astype(acc)[None, :]
    before = jnp.arange(num)[:, None] > jnp.arange(num)[None, :]
    gap = jnp.arange(num)[:, None] - 1 - jnp.arange(num)[None, :]
    factor = jnp.exp(jnp.where(before, gap, 0)[..., None] * length * rate[None]) * before[..., None]
    entering = jnp.einsum("jh,jbhce->bhce", factor[rank], states, precision="highest")
    final = jnp.einsum(
        "jh,jbhce->bhce",
        jnp.exp(jnp.arange(num - 1, -1, -1)[:, None] * length * rate),
        states,
        precision="highest",
    )
    if initial_state is not None:
        start = initial_state.astype(acc)
        passed = (rank * length).astype(acc)
        entering += jnp.exp(passed * rate)[:, :, None, None] * start
        final += jnp.exp(num * length * rate)[:, :, None, None] * start
    weight = jnp.exp((jnp.arange(length) + 1)[:, None] * rate)
    q = q_bthc.astype(acc) * weight[None, :, :, None]
    precision = "highest" if accumulator(q_bthc.dtype) == q_bthc.dtype else "default"
    past = jnp.einsum("bthc,bhce->bthe", q, entering, precision=precision)
    return (o.astype(acc) + past).astype(o.dtype), final


def lightning_attention_sharded(
    q_bthc: jax.Array,
    k_bthc: jax.Array,
    v_bthe: jax.Array,
    log_decay_h: jax.Array,
    *,
    mesh: Mesh,
    seq_axis: str = "seq",
    batch_axes: Any = None,
    head_axis: str | None = None,
    initial_state: jax.Array | None = None,
    implementation: str = "auto",
) -> tuple[jax.Array, jax.Array]:
    """`lightning_attention` with time split over a mesh axis, rows and heads over others if named.

    Args:
      q_bthc: queries [b, t, h, c]; t divisible by the axis.
      k_bthc: keys [b, t, h, c].
      v_bthe: values [b, t, h, e].
      log_decay_h: [h].
      mesh: the mesh.
      seq_axis: its axis for time.
      batch_axes: axis or axes for rows.
      head_axis: axis for heads.
      initial_state: [b, h, c, e].
      implementation: as in `lightning_attention`.

    Returns:
      Outputs [b, t, h, e], split as the inputs are, and the final state [b, h, c, e].

    Raises:
      ValueError: the mesh has no such axis, or does not divide t.
    """
    for name in (seq_axis, head_axis):
        if name is not None and name not in mesh.shape:
            raise ValueError(f"mesh has axes {', '.join(mesh.shape)}; got axis {name!r}.")
    if q_bthc.shape[1] % mesh.shape[seq_axis]:
        raise ValueError(
            f"{seq_axis}={mesh.shape[seq_axis]} must divide the length; got t={q_bthc.shape[1]}."
        )
    tokens = PartitionSpec(batch_axes, seq_axis, head_axis, None)
    state = PartitionSpec(batch_axes, head_axis, None, None)
    if initial_state is None:
        batch, _, heads, key_width = q_bthc.shape
        shape = (batch, heads, key_width, v_bthe.shape[-1])
        initial_state = jnp.zeros(shape, accumulator(q_bthc.dtype))

    def body(q, k, v, rate, start):
        return lightning_attention_local(
            q,
            k,
            v,
            rate,
            axis_name=seq_axis,
            initial_state=start,
            implementation=implementation,
        )

    return jax.shard_map(
        body,
        mesh=mesh,
        in_specs=(tokens, tokens, tokens, PartitionSpec(head_axis), state),
        out_specs=(tokens, state),
        check_vma=False,
    )(q_bthc, k_bthc, v_bthe, log_decay_h, initial_state)

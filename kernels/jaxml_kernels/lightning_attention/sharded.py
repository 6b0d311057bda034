"""Sequence parallelism: each device holds a contiguous stretch of time.

Every device runs its stretch from a zero state; the stretches' states (whose size does not depend
on the length) are gathered once, and each device adds what the past contributes (LASP-2).
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from jaxml_kernels.lightning_attention.api import lightning_attention


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
    # Float16 ends at 65,504, which a state of many tokens passes.
    narrow = q_bthc.dtype if q_bthc.dtype == jnp.bfloat16 else acc
    past = jnp.einsum(
        "bthc,bhce->bthe",
        (q_bthc.astype(acc) * weight[None, :, :, None]).astype(narrow),
        entering.astype(narrow),
        precision="highest" if acc == q_bthc.dtype else "default",
        preferred_element_type=acc,
    )
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
    segment_ids: jax.Array | None = None,
    return_final_state: bool = True,
    implementation: str = "auto",
) -> tuple[jax.Array, jax.Array | None]:
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
      segment_ids: int [b, t], only where time is not split (the axis has size 1).
      return_final_state: as in `lightning_attention`.
      implementation: as in `lightning_attention`.

    Returns:
      Outputs [b, t, h, e], split as the inputs are, and the final state [b, h, c, e] or None.

    Raises:
      ValueError: the mesh has no such axis, or does not divide t; segments where time is split.
    """
    for name in (seq_axis, head_axis):
        if name is not None and name not in mesh.shape:
            raise ValueError(f"mesh has axes {', '.join(mesh.shape)}; got axis {name!r}.")
    if q_bthc.shape[1] % mesh.shape[seq_axis]:
        raise ValueError(
            f"{seq_axis}={mesh.shape[seq_axis]} must divide the length; got t={q_bthc.shape[1]}."
        )
    alone = mesh.shape[seq_axis] == 1
    if segment_ids is not None and not alone:
        raise ValueError(
            f"segment_ids cannot be combined with time split over {seq_axis}="
            f"{mesh.shape[seq_axis]} devices."
        )
    tokens = PartitionSpec(batch_axes, seq_axis, head_axis, None)
    state = PartitionSpec(batch_axes, head_axis, None, None)
    more = {"initial_state": (initial_state, state)}
    more["segment_ids"] = (segment_ids, PartitionSpec(batch_axes, seq_axis))
    more = {name: found for name, found in more.items() if found[0] is not None}

    def body(q, k, v, rate, more):
        if alone:
            how = {"return_final_state": return_final_state, "implementation": implementation}
            return lightning_attention(q, k, v, rate, **more, **how)
        o, final = lightning_attention_local(
            q, k, v, rate, axis_name=seq_axis, implementation=implementation, **more
        )
        return o, final if return_final_state else None

    return jax.shard_map(
        body,
        mesh=mesh,
        in_specs=(*(tokens,) * 3, PartitionSpec(head_axis), {n: x[1] for n, x in more.items()}),
        out_specs=(tokens, state if return_final_state else None),
        check_vma=False,
    )(q_bthc, k_bthc, v_bthe, log_decay_h, {name: x[0] for name, x in more.items()})

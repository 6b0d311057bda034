"""Sequence parallelism: each device holds a contiguous stretch of time.

What every stretch adds to the state is one product of matrices; these sums (whose size does not
depend on the length) are gathered once, and each device runs its stretch from the state that enters
it (LASP-2). The backward pass does the same from the end.
"""

import functools
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
    acc = accumulator(q_bthc.dtype)
    if initial_state is None:
        batch, _, heads, key_width = q_bthc.shape
        initial_state = jnp.zeros((batch, heads, key_width, v_bthe.shape[-1]), acc)
    start = initial_state.astype(acc)
    return _local(axis_name, implementation, q_bthc, k_bthc, v_bthe, log_decay_h, start)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _local(axis_name, implementation, q, k, v, log_decay, start):
    return _save(axis_name, implementation, q, k, v, log_decay, start)[0]


def _save(axis_name, implementation, q, k, v, log_decay, start):
    length = q.shape[1]
    own = _sums(k, v, jnp.arange(length - 1, -1, -1), log_decay)
    entering, final = _carried(own, start, log_decay, length, axis_name)

    def run(*arguments):
        *arguments, state = arguments
        how = {"return_final_state": True, "implementation": implementation}
        return lightning_attention(*arguments, initial_state=state, **how)

    (o, _), pull = jax.vjp(run, q, k, v, log_decay, entering)
    return (o, final), (pull, q, log_decay)


def _pull(axis_name, implementation, saved, cotangents):
    """The chain of stretches backward: each gets the cotangent of the state that leaves it."""
    (pull, q, log_decay), (do, d_final) = saved, cotangents
    length = q.shape[1]
    d_final = jax.lax.psum(d_final, axis_name)  # every device is handed its share
    back = _sums(q, do, jnp.arange(1, length + 1), log_decay)
    leaving, _ = _carried(back, d_final, log_decay, length, axis_name, reverse=True)
    *found, d_start = pull((do, leaving))
    first = jax.lax.axis_index(axis_name) == 0
    return *found, jnp.where(first, d_start, 0)


_local.defvjp(_save, _pull)


def _sums(k, v, powers, log_decay):
    """`sum_t lam^powers[t] k_t v_t`, [b, h, c, e]: what a stretch adds to a state, one product."""
    acc = accumulator(k.dtype)
    weight = jnp.exp(powers[:, None] * log_decay.astype(acc)[None, :])
    return jnp.einsum(
        "bthc,bthe->bhce",
        (k.astype(acc) * weight[None, :, :, None]).astype(k.dtype),
        v,
        precision="highest" if acc == k.dtype else "default",
        preferred_element_type=acc,
    )


def _carried(own, start, log_decay, length, axis_name, reverse=False):
    """The state that enters this stretch, and the one that leaves the last, from all sums."""
    states = jax.lax.all_gather(own, axis_name)  # [p, b, h, c, e]
    num, rank = states.shape[0], jax.lax.axis_index(axis_name)
    if reverse:
        states, rank = states[::-1], num - 1 - rank
    rate, order = length * log_decay.astype(own.dtype)[None, :], jnp.arange(num)

    def upto(stop):
        """After the first `stop` stretches of the sweep."""
        gap = stop - 1 - order
        factor = jnp.where(gap[:, None] >= 0, jnp.exp(jnp.maximum(gap, 0)[:, None] * rate), 0)
        added = jnp.einsum("jh,jbhce->bhce", factor, states, precision="highest")
        return added + jnp.exp(stop * rate)[:, :, None, None] * start

    return upto(rank), upto(num)


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

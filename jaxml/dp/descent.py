"""One update of noisy cyclic gradient descent, and a fold of many over the batches."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxml.core import check, rng
from jaxml.core.types import Array, Key
from jaxml.dist.collective import AxisName, axis_index_or_zero
from jaxml.dp import gating, privacy
from jaxml.dp.clip import clipped_grad
from jaxml.dp.config import (
    TF32_SLACK,
    ClipMode,
    ConvexReLUConfig,
    NoisyCGDConfig,
    gradient_bound,
)

PRECISION = {"highest": "highest", "tf32": "default"}
"""Of matrix products, by `NoisyCGDConfig.matmul`."""


class Rates(NamedTuple):
    """The numbers of an update, arrays so that runs that differ in them share a program."""

    learning_rate: Array | float
    l2: Array | float
    clip_norm: Array | float
    noise_std: Array | float


class Batches(NamedTuple):
    """The examples cut once, by index: x [l, b, d], gates bool [l, b, P], labels int [l, b]."""

    x: Array
    g: Array
    label: Array


def rates(cfg: NoisyCGDConfig, model: ConvexReLUConfig) -> Rates:
    """Rates of a configuration; the noise is that of the *mean* gradient."""
    bound = gradient_bound(cfg, model)
    clip = cfg.clip_norm / (1 + TF32_SLACK) if cfg.matmul == "tf32" else cfg.clip_norm
    if cfg.matmul == "tf32" and cfg.clip_mode == "lipschitz":
        bound *= 1 + TF32_SLACK
    std = cfg.noise_multiplier * bound / cfg.batch_size
    return Rates(cfg.learning_rate, cfg.l2, clip, std)


def gate_noise(key: Key, shape: tuple[int, ...], first: Array | int = 0) -> Array:
    """Standard normal [P, d, K], drawn gate by gate: a part of the gates draws the same numbers.

    Args:
      key: of the update.
      shape: of this part's parameters.
      first: index of this part's first gate among all.
    """

    def one(gate: Array) -> Array:
        return jax.random.normal(rng.fold(key, gate), shape[1:])

    return jax.vmap(one)(first + jnp.arange(shape[0], dtype=jnp.int32))


def update(
    v: Array,
    batch: Batches,
    key: Key,
    rate: Rates,
    model: ConvexReLUConfig,
    mode: ClipMode,
    *,
    gate_axis: AxisName = None,
    batch_axis: AxisName = None,
) -> Array:
    """One step: `v - eta (mean of bounded gradients + lambda v + noise)`, the noise added once.

    Args:
      v: [P, d, K].
      batch: one batch, without the leading axis of `Batches`.
      key: of this update's noise; on a mesh every device holds the same one.
      rate: numbers of the update.
      model: the model.
      mode: how gradients are bounded.
      gate_axis: mesh axis that gates are split over.
      batch_axis: mesh axis that the batch is split over.
    """
    mean, _ = clipped_grad(
        v,
        batch.x,
        batch.g,
        batch.label,
        rate.clip_norm,
        mode,
        dataclasses.replace(model, num_gates=v.shape[0]),
        gate_axis=gate_axis,
        batch_axis=batch_axis,
    )
    noise = gate_noise(key, v.shape, axis_index_or_zero(gate_axis) * v.shape[0])
    return v - rate.learning_rate * (mean + rate.l2 * v + rate.noise_std * noise)


def check_data(x: Any, label: Any, model: ConvexReLUConfig, batch_size: int) -> int:
    """Raises ValueError for data that does not fit; returns the number of batches."""
    num = check.shape("x", x, ["n", model.in_dim])["n"]
    check.shape("label", label, [num])
    if not bool(jnp.all(jnp.isfinite(x))):
        raise ValueError("x must be finite; got nan or inf among its values.")
    low, high = int(jnp.min(label)), int(jnp.max(label))
    if low < 0 or high >= model.num_classes:
        raise ValueError(
            f"label must lie in [0, {model.num_classes}); got labels from {low} to {high}."
        )
    return privacy.num_batches_of(num, batch_size)


def cut(x: Any, u: Array, label: Any, num_batches: int) -> Batches:
    """The examples in disjoint batches by index, with their gates, never shuffled again."""
    x, label = jnp.asarray(x, jnp.float32), jnp.asarray(label, jnp.int32)
    g = gating.gates(x, u)
    return Batches(*(a.reshape(num_batches, -1, *a.shape[1:]) for a in (x, g, label)))


def fold_updates(
    v: Array, data: Batches, key: Key, rate: Rates, first: Array, count: int, **how: Any
) -> Array:
    """`count` updates from number `first` on: batch `t mod l`, noise of `fold(key, "noise", t)`."""
    num_batches = data.x.shape[0]

    def step(v: Array, t: Array) -> tuple[Array, None]:
        batch = Batches(*(jnp.take(a, t % num_batches, axis=0) for a in data))
        return update(v, batch, rng.fold(key, "noise", t), rate, **how), None

    return jax.lax.scan(step, v, first + jnp.arange(count, dtype=jnp.int32))[0]

"""Many trainings of noisy cyclic gradient descent at once."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxml.core import check, rng
from jaxml.core.types import Array, Key
from jaxml.dp import gating, privacy
from jaxml.dp.config import ConvexReLUConfig, NoisyCGDConfig
from jaxml.dp.descent import PRECISION, Batches, Rates, check_data, fold_updates, rates


def train_grid(
    keys: Sequence[Key],
    x: Any,
    label: Any,
    model: ConvexReLUConfig,
    cfgs: Sequence[NoisyCGDConfig],
    *,
    epochs_per_call: int = 1,
    say: Callable[[str], None] = lambda text: None,
) -> tuple[Array, Array]:
    """Many trainings at once by `vmap`: each with its key, rates and noise.

    Args:
      keys: one for each training.
      x: examples [n, d].
      label: int [n].
      model: of all of them.
      cfgs: one for each training; they may differ in learning_rate, l2, noise_multiplier and
        clip_norm.
      epochs_per_call: epochs between two lines of progress; divides the epochs.
      say: prints a line.

    Returns:
      Parameters [r, P, d, K] and gate directions [r, d, P]; reports come from
      `privacy.hidden_state` of each configuration, with `tuned(len(cfgs))` if one is chosen.

    Raises:
      ValueError: configurations that differ in more, or data that does not fit.
    """
    first, numbers = cfgs[0], ("learning_rate", "l2", "noise_multiplier", "clip_norm")
    for cfg in cfgs:
        same = {name: getattr(first, name) for name in numbers}
        if dataclasses.replace(cfg, **same) != first:
            raise ValueError(f"cfgs may differ in {', '.join(numbers)} only; got {cfg}.")
        privacy.check_contraction(cfg, model)
    check.divides(epochs_per_call=epochs_per_call, epochs=first.epochs)
    num_batches = check_data(x, label, model, first.batch_size)
    run_keys = jnp.stack([rng.fold(key, "train") for key in keys])  # as `state.create` does
    u = jax.vmap(
        lambda key: gating.sample_gates(rng.fold(key, "gates"), model.in_dim, model.num_gates)
    )(run_keys)
    cut_all = jax.jit(lambda x, u: jax.lax.map(lambda one: gating.gates(x, one), u))
    x = jnp.asarray(x, jnp.float32)
    g = cut_all(x, u).reshape(len(keys), num_batches, first.batch_size, model.num_gates)
    x = x.reshape(num_batches, first.batch_size, -1)
    label = jnp.asarray(label, jnp.int32).reshape(num_batches, first.batch_size)
    rate = Rates(*(jnp.float32(r) for r in zip(*(rates(c, model) for c in cfgs), strict=True)))
    count = epochs_per_call * num_batches

    @jax.jit
    def advance(v: Array, done: Array) -> Array:
        def one(v: Array, g: Array, key: Key, rate: Rates) -> Array:
            data = Batches(x, g, label)
            return fold_updates(v, data, key, rate, done, count, model=model, mode=first.clip_mode)

        with jax.default_matmul_precision(PRECISION[first.matmul]):
            return jax.vmap(one)(v, g, run_keys, rate)

    v = jnp.zeros((len(keys), model.num_gates, model.in_dim, model.num_classes))
    for call in range(first.epochs // epochs_per_call):
        v = advance(v, jnp.int32(call * count))
        jax.block_until_ready(v)
        say(f"{len(keys)} trainings, epoch {(call + 1) * epochs_per_call} of {first.epochs}")
    return v, u

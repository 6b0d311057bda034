"""DP-SGD as optax transformations that any trainer takes, and Poisson batches for it."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxml.core import check, rng
from jaxml.core.types import Array, Key, PyTree
from jaxml.train.state import TrainState
from jaxml.train.step import LossFn, Step


class NoiseState(NamedTuple):
    """The noise's key, the examples seen since the last update, and their clipped sum."""

    key: Key
    seen: Array
    total: PyTree


def clip_by_norm(grads: PyTree, clip_norm: float | Array) -> PyTree:
    """One example's gradient, shrunk to a norm of at most `clip_norm` over all leaves."""
    squares = [jnp.sum(jnp.square(g.astype(jnp.float32))) for g in jax.tree.leaves(grads)]
    norm = jnp.sqrt(jnp.sum(jnp.stack(squares)))
    scale = jnp.minimum(1.0, clip_norm / jnp.where(norm > 0, norm, 1.0))
    return jax.tree.map(lambda g: g * scale.astype(g.dtype), grads)


def noised(total: PyTree, key: Key, std: float | Array, divisor: float) -> PyTree:
    """`(total + std * normal) / divisor`: the mean that an update of DP-SGD follows."""
    leaves, structure = jax.tree.flatten(total)
    drawn = [
        (leaf + std * jax.random.normal(rng.fold(key, i), leaf.shape, leaf.dtype)) / divisor
        for i, leaf in enumerate(leaves)
    ]
    return jax.tree.unflatten(structure, drawn)


def _check(clip_norm: float, noise_multiplier: float, batch_size: float) -> None:
    check.positive(clip_norm=clip_norm, batch_size=batch_size)
    check.at_least(0, noise_multiplier=noise_multiplier)


def one_by_one(
    clip_norm: float, noise_multiplier: float, batch_size: int, key: Key
) -> optax.GradientTransformation:
    """DP-SGD for any trainer whose step has one example: put it first in `optax.chain`.

    Clips each gradient it is handed, and after every `batch_size` of them gives their noised mean;
    in between it gives zeros. What follows in the chain must leave zeros alone: plain SGD.

    Args:
      clip_norm: C.
      noise_multiplier: sigma; the sum gets noise of deviation `sigma C`.
      batch_size: examples of an update. Disjoint batches in an order that does not depend on the
        data are accounted by `composition`; they are not Poisson samples.
      key: of the noise.

    Raises:
      ValueError: a value out of range.
    """
    _check(clip_norm, noise_multiplier, batch_size)
    std = noise_multiplier * clip_norm

    def init(params: PyTree) -> NoiseState:
        zeros = jax.tree.map(jnp.zeros_like, params)
        return NoiseState(rng.fold(key, "dpsgd"), jnp.zeros((), jnp.int32), zeros)

    def update(updates: PyTree, state: Any, params: PyTree = None) -> tuple[PyTree, NoiseState]:
        del params
        total = jax.tree.map(jnp.add, state.total, clip_by_norm(updates, clip_norm))
        seen = state.seen + 1
        due = seen % batch_size == 0
        mean = noised(total, rng.fold(state.key, seen), std, batch_size)
        out = jax.tree.map(lambda m: jnp.where(due, m, jnp.zeros_like(m)), mean)
        left = jax.tree.map(lambda t: jnp.where(due, jnp.zeros_like(t), t), total)
        return out, NoiseState(state.key, seen, left)

    return optax.GradientTransformation(init, update)


def aggregate(
    clip_norm: float, noise_multiplier: float, batch_size: float, key: Key
) -> optax.GradientTransformation:
    """DP-SGD on stacked per-example gradients [b, ...]: their clipped, noised mean.

    Args:
      clip_norm: C.
      noise_multiplier: sigma.
      batch_size: what the noised sum is divided by: the *expected* size, `q n`, never that of the
        sample.
      key: of the noise.

    Raises:
      ValueError: a value out of range.
    """
    _check(clip_norm, noise_multiplier, batch_size)

    def init(params: PyTree) -> NoiseState:
        del params
        return NoiseState(rng.fold(key, "dpsgd"), jnp.zeros((), jnp.int32), ())

    def update(updates: PyTree, state: Any, params: PyTree = None) -> tuple[PyTree, NoiseState]:
        del params
        clipped = jax.vmap(lambda g: clip_by_norm(g, clip_norm))(updates)
        total = jax.tree.map(lambda g: jnp.sum(g, axis=0), clipped)
        std, at = noise_multiplier * clip_norm, rng.fold(state.key, state.seen)
        return noised(total, at, std, batch_size), NoiseState(state.key, state.seen + 1, ())

    return optax.GradientTransformation(init, update)


def make_step(loss_fn: LossFn, optimizer: optax.GradientTransformation) -> Step:
    """The training step of any system's loss with a gradient for each example, for `loop.fit`.

    Args:
      loss_fn: `(params, batch, key, extra) -> Loss` of a batch.
      optimizer: a chain that begins with `aggregate`.

    Returns:
      `step(state, batch)`, where the arrays of the batch have a leading axis of examples, and
      `batch["mask"]` (bool [b]) says which are there (see `poisson_batches`).
    """

    def one(params: PyTree, batch: PyTree, key: Key, extra: PyTree) -> Array:
        alone = jax.tree.map(lambda a: a[None], batch)
        return loss_fn(params, alone, key, extra).value

    @jax.jit
    def step(state: TrainState, batch: PyTree) -> tuple[TrainState, dict[str, Array]]:
        mask = batch["mask"]
        rows = {name: a for name, a in batch.items() if name != "mask"}
        key = rng.fold(state.key, state.step)
        grad = jax.vmap(jax.grad(one), in_axes=(None, 0, None, None))
        grads = grad(state.params, rows, key, state.extra)
        grads = jax.tree.map(
            lambda g: jnp.where(mask.reshape(-1, *[1] * (g.ndim - 1)), g, jnp.zeros_like(g)), grads
        )
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        moved = {"params": params, "opt_state": opt_state}
        after = dataclasses.replace(state, step=state.step + 1, **moved)
        return after, {"sampled": jnp.sum(mask)}

    return step


def largest_sample(num_examples: int, sampling_rate: float) -> int:
    """Rows that hold a Poisson sample with all but 1e-12 of the probability.

    >>> largest_sample(60_000, 1 / 60)
    1229
    """
    from scipy.stats import binom

    return min(num_examples, int(binom.isf(1e-12, num_examples, sampling_rate)) + 1)


def poisson_rows(
    key: Key, num_examples: int, sampling_rate: float | Array, size: int
) -> tuple[Array, Array]:
    """A Poisson sample: row indices int [size] and which of them are there, bool [size]."""
    taken = jax.random.bernoulli(key, sampling_rate, (num_examples,))
    place = jnp.cumsum(taken) - 1
    rows = jnp.arange(num_examples, dtype=jnp.int32)
    slots = jnp.zeros((size,), jnp.int32)
    slots = slots.at[jnp.where(taken, place, size)].set(rows, mode="drop")
    return slots, jnp.arange(size) < jnp.sum(taken)


def poisson_batches(
    key: Key, arrays: dict[str, np.ndarray], sampling_rate: float
) -> Iterator[dict[str, Array]]:
    """Endless Poisson samples of rows, padded to one size, with `mask`.

    Args:
      key: of the samples; sample i is drawn from `fold(key, i)`.
      arrays: of one leading size n.
      sampling_rate: q in (0, 1).

    Raises:
      ValueError: arrays of different sizes.
    """
    sizes = {name: len(a) for name, a in arrays.items()}
    if len(set(sizes.values())) != 1:
        raise ValueError(f"arrays must have one leading size; got sizes {sizes}.")
    num = next(iter(sizes.values()))
    draw: Callable[..., Any] = jax.jit(poisson_rows, static_argnums=(1, 3))
    size, i = largest_sample(num, sampling_rate), 0
    while True:
        rows, mask = draw(rng.fold(key, i), num, sampling_rate, size)
        at = np.asarray(rows)
        yield {**{name: jnp.asarray(a[at]) for name, a in arrays.items()}, "mask": mask}
        i += 1

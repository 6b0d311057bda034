"""The authors' Adam: no bias correction, clipped twice, warmed up and cooled down linearly."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxml.core import tree
from jaxml.core.types import Array, PyTree
from jaxml.univilm.config import TrainConfig


class AdamState(NamedTuple):
    """First and second moments."""

    mu: PyTree
    nu: PyTree


def scale_by_bert_adam(
    b1: float = 0.9, b2: float = 0.999, eps: float = 1e-6
) -> optax.GradientTransformation:
    """Moves by m / (sqrt(v) + eps), without bias correction.

    >>> start = scale_by_bert_adam()
    >>> g = {"w": jnp.ones(1)}
    >>> round(float(start.update(g, start.init(g))[0]["w"][0]), 3)  # 0.1 / sqrt(0.001)
    3.162
    """

    def init(params: PyTree) -> AdamState:
        zeros = jax.tree.map(jnp.zeros_like, params)
        return AdamState(zeros, zeros)

    def update(updates: PyTree, state: Any, params: PyTree | None = None) -> tuple[PyTree, Any]:
        del params
        mu = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.mu, updates)
        nu = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g * g, state.nu, updates)
        moves = jax.tree.map(lambda m, v: m / (jnp.sqrt(v) + eps), mu, nu)
        return moves, AdamState(mu, nu)

    return optax.GradientTransformation(init, update)


def clip_each(limit: float) -> optax.GradientTransformation:
    """Every array's own Euclidean norm at most `limit`."""

    def one(g: Array) -> Array:
        size = jnp.sqrt(jnp.sum(jnp.square(g)))
        return g * jnp.minimum(1.0, limit / (size + 1e-6))

    return optax.stateless(lambda grads, params: jax.tree.map(one, grads))


def decays(path: str) -> bool:
    """What is decayed: all but biases and layer norms; the norm of raw features is decayed too.

    >>> [decays(p) for p in ("text/embed/norm/scale", "video_norm/scale", "similarity/bias")]
    [False, True, False]
    """
    if path.endswith("bias"):
        return False
    return path.startswith("video_norm/") or not path.endswith("scale")


def schedule(cfg: TrainConfig) -> optax.Schedule:
    """Share of the highest rate: up linearly over the warm-up, then down to 0 at the last step."""
    rise = max(int(cfg.warmup * cfg.steps), 1)
    return optax.join_schedules(
        [optax.linear_schedule(0.0, 1.0, rise),
         optax.linear_schedule(1.0, 0.0, max(cfg.steps - rise, 1))],
        [rise],
    )  # fmt: skip


def make(cfg: TrainConfig) -> optax.GradientTransformation:
    """Clipping by the global norm and then each array's, Adam, decay, rates."""

    def mask(params: PyTree) -> PyTree:
        return tree.map_with_path(lambda path, leaf: decays(path), params)

    def rates(moves: PyTree, params: PyTree | None = None) -> PyTree:
        del params
        return tree.map_with_path(
            lambda path, x: x * (cfg.text_lr if path.startswith("text/") else 1.0), moves
        )

    return optax.chain(
        optax.clip_by_global_norm(1.0),
        clip_each(1.0),
        scale_by_bert_adam(),
        optax.add_decayed_weights(cfg.weight_decay, mask),
        optax.stateless(rates),
        optax.scale_by_schedule(lambda count: -cfg.lr * schedule(cfg)(count)),
    )

"""Errors of trajectory forecasts; every name says which of the published variants it is.

Forecasts are `paths` [n, k, s, 2] (agents, samples or modes, steps, metres) with log
probabilities [n, k] where modes have them; `truth` is [n, s, 2]. All results are per agent [n]
unless said, so that a caller averages over the agents it likes.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxml.core import check
from jaxml.core.types import Array

MISS_M = 2.0
COLLISION_M = 0.2


class Errors(NamedTuple):
    """Average and final displacement error in metres."""

    ade: Array
    fde: Array


def _check(paths: Array, truth: Array) -> None:
    sizes = check.shape("paths", paths, ["n", "k", "s", 2])
    check.shape("truth", truth, [sizes["n"], sizes["s"], 2])


def displacement(paths: Array, truth: Array) -> Errors:
    """Errors of every sample, each [n, k].

    Raises:
      ValueError: horizons or numbers of agents that differ.
    """
    _check(paths, truth)
    gap = jnp.linalg.norm(paths - truth[:, None], axis=-1)
    return Errors(jnp.mean(gap, -1), gap[..., -1])


def best_per_agent(paths: Array, truth: Array) -> Errors:
    """MinADE and minFDE over samples, each agent and each error by itself (the modern variant)."""
    return Errors(*(jnp.min(x, 1) for x in displacement(paths, truth)))


def best_same_sample(paths: Array, truth: Array) -> Errors:
    """ADE and FDE of the one sample that ends nearest to the truth (Argoverse's variant)."""
    ade, fde = displacement(paths, truth)
    best = jnp.argmin(fde, 1)[:, None]
    return Errors(*(jnp.take_along_axis(x, best, 1)[:, 0] for x in (ade, fde)))


def best_per_scene(paths: Array, truth: Array, group: Array, num_groups: int) -> Errors:
    """Social-GAN's variant: one sample for all agents of a window, the least sum; still [n].

    Agents of one window must share the meaning of a sample, e.g. one draw of noise.

    Args:
      paths: [n, k, s, 2].
      truth: [n, s, 2].
      group: window of each agent, integers [n] below `num_groups`.
      num_groups: number of windows.
    """

    def one(errors: Array) -> Array:
        total = jax.ops.segment_sum(errors, group, num_groups)
        best = jnp.argmin(total, -1)[group]
        return jnp.take_along_axis(errors, best[:, None], 1)[:, 0]

    return Errors(*(one(x) for x in displacement(paths, truth)))


def most_likely(paths: Array, log_prob: Array, truth: Array) -> Errors:
    """Errors of the one mode with the highest probability."""
    check.shape("log_prob", log_prob, paths.shape[:2])
    best = jnp.argmax(log_prob, 1)[:, None]
    return Errors(*(jnp.take_along_axis(x, best, 1)[:, 0] for x in displacement(paths, truth)))


def least_expected(paths: Array, log_prob: Array) -> Array:
    """The mode with the least mean distance to all modes, weighted by probability, int32 [n].

    It is the forecast's own best single answer: the mode of highest probability may stand apart
    where many modes share the rest.
    """
    check.shape("log_prob", log_prob, paths.shape[:2])

    def expected(one: Array) -> Array:
        gap = jnp.mean(jnp.linalg.norm(paths - one[:, None], axis=-1), -1)
        return jnp.sum(jnp.exp(log_prob) * gap, -1)

    return jnp.argmin(jax.lax.map(expected, jnp.swapaxes(paths, 0, 1)), 0).astype(jnp.int32)


def miss(paths: Array, truth: Array, radius_m: float = MISS_M) -> Array:
    """1 where no sample ends within `radius_m` of the truth, else 0, [n]."""
    check.positive(radius_m=radius_m)
    return (best_per_agent(paths, truth).fde > radius_m).astype(jnp.float32)


def mixture_nll(paths: Array, log_prob: Array, scale: Array, truth: Array) -> Array:
    """Negative log density per step, in nats, of round Gaussians around the modes, [n].

    Each step's position is a mixture: `-log sum_k p_k N(y_t; path_kt, scale_kt^2 I)`, then the
    mean over steps.

    Args:
      paths: [n, k, s, 2].
      log_prob: [n, k], normalised.
      scale: standard deviations in metres, [n, k, s].
      truth: [n, s, 2].
    """
    _check(paths, truth)
    square = jnp.sum((paths - truth[:, None]) ** 2, -1)
    log_density = -0.5 * square / scale**2 - 2 * jnp.log(scale) - jnp.log(2 * jnp.pi)
    return -jnp.mean(jax.nn.logsumexp(log_density + log_prob[..., None], 1), -1)


def collides(paths: Array, partners: Array, mask: Array, radius_m: float = COLLISION_M) -> Array:
    """1 where a path comes within `radius_m` of a partner's path, also between steps, else 0, [n].

    Both move straight between steps, so that two who swap places collide.

    Args:
      paths: one per agent, starting at the last observed position, [n, s + 1, 2].
      partners: of agents of the same window, [n, p, s + 1, 2].
      mask: [n, p], False where there is no partner.
      radius_m: centre to centre.
    """
    sizes = check.shape("paths", paths, ["n", "s", 2])
    p = check.shape("partners", partners, [sizes["n"], "p", sizes["s"], 2])["p"]
    check.shape("mask", mask, [sizes["n"], p])
    gap = partners - paths[:, None]
    start, move = gap[:, :, :-1], gap[:, :, 1:] - gap[:, :, :-1]
    along = -jnp.sum(start * move, -1) / jnp.maximum(jnp.sum(move**2, -1), 1e-12)
    nearest = start + jnp.clip(along, 0.0, 1.0)[..., None] * move
    hit = jnp.any(jnp.linalg.norm(nearest, axis=-1) < radius_m, -1) & mask
    return jnp.any(hit, -1).astype(jnp.float32)

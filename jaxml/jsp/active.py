"""Active search: the policy is trained on, by its own best samples, for one instance alone."""

import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxml.core import check
from jaxml.core.types import Array, Key, PyTree
from jaxml.jsp import objective
from jaxml.jsp.config import SPNConfig
from jaxml.jsp.problem import Problem


class Found(NamedTuple):
    """What an active search found.

    Attributes:
      seq: the best sequence of all rounds, int32 [n * m].
      makespan: its makespan.
      history: best makespan of every round's samples.
      params: the policy at the end.
    """

    seq: np.ndarray
    makespan: int
    history: tuple[int, ...]
    params: PyTree


def active_search(
    params: PyTree,
    cfg: SPNConfig,
    problem: Problem,
    key: Key,
    *,
    num_samples: int = 32,
    rounds: int = 20,
    lr: float = 2e-4,
    until: float = float("inf"),
) -> Found:
    """Samples and imitates the best of all rounds so far, again and again.

    Args:
      params: to begin from; they are not changed.
      cfg: their sizes.
      problem: one instance.
      key: of all draws.
      num_samples: schedules per round.
      rounds: updates.
      lr: of Adam.
      until: `time.monotonic()` after which no further round begins.

    Raises:
      ValueError: a number that is not positive.
    """
    check.positive(num_samples=num_samples, rounds=rounds, lr=lr)
    batch = jax.tree.map(lambda x: jnp.asarray(x)[None], problem)
    update, optimizer = _round(cfg, num_samples, lr)
    carry = (params, optimizer.init(params), jnp.full((1, problem.num_steps), -1, jnp.int32))
    best, history = np.iinfo(np.int32).max, []
    for index in range(rounds):
        if time.monotonic() > until and history:
            break
        carry, span, best = update(carry, batch, best, jax.random.fold_in(key, index))
        history.append(int(span))
    return Found(np.asarray(carry[2][0]), int(best), tuple(history), carry[0])


@functools.cache
def _round(
    cfg: SPNConfig, num_samples: int, lr: float
) -> tuple[Callable[..., Any], optax.GradientTransformation]:
    optimizer = optax.adam(lr)
    sample = objective.sampler(cfg, num_samples)

    @jax.jit
    def update(carry: Any, batch: Problem, best: Array, key: Key) -> Any:
        params, moments, kept = carry
        found = sample(params, batch, key)
        spans = found.costs[0]
        index = jnp.argmin(spans)
        better = spans[index] < best
        label = jnp.where(better, found.actions[:, index], kept)
        grads = jax.grad(objective.self_label_loss)(params, cfg, batch, label)
        updates, moments = optimizer.update(grads, moments, params)
        params = optax.apply_updates(params, updates)
        return (params, moments, label), spans[index], jnp.minimum(best, spans[index])

    return update, optimizer

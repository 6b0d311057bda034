"""The self-labelling loss: sample without gradient, keep the best, raise its probability.

Nothing here knows job shops until `slim`: `self_labelling` serves any problem whose solutions are
sequences of choices.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxml.core import rng
from jaxml.core.types import Array, Key, PyTree
from jaxml.jsp import policy, rollout
from jaxml.jsp.config import SPNConfig
from jaxml.jsp.problem import Problem, facts
from jaxml.train.step import Loss


class Sampled(NamedTuple):
    """Solutions of a batch of instances.

    Attributes:
      actions: [b, beta, steps], integers.
      costs: to be minimised, [b, beta].
      logp: log-probabilities, [b, beta].
    """

    actions: Array
    costs: Array
    logp: Array


def self_labelling(
    sample: Callable[[PyTree, Any, Key], Sampled],
    log_likelihood: Callable[[PyTree, Any, Array], Array],
) -> Callable[[PyTree, Any, Key, PyTree], Loss]:
    """The training loss of a generative policy, in the form `jaxml.train` takes.

    The best of the samples is the label (the first, where several are best). Its gradient equals
    that of a rank-weighted policy gradient: the best of beta draws has density
    beta p(x) (1 - F(cost))^(beta - 1), whose divergence from p is at most log(beta).

    Args:
      sample: `(params, batch, key) -> Sampled`; no gradient passes through it.
      log_likelihood: `(params, batch, actions [b, steps]) -> [b]`, the mean over a solution's
        choices of the log-probability; differentiated.

    Returns:
      `loss_fn(params, batch, key, extra) -> Loss`, with metrics `cost` (mean of the labels),
      `cost_mean` (mean of all samples), `entropy` (nats per step) and `distinct` (share of
      different solutions among an instance's samples).
    """

    def loss_fn(params: PyTree, batch: Any, key: Key, extra: PyTree) -> Loss:
        found = jax.lax.stop_gradient(sample(jax.lax.stop_gradient(params), batch, key))
        best = jnp.argmin(found.costs, axis=1)
        rows = jnp.arange(best.shape[0])
        value = -jnp.mean(log_likelihood(params, batch, found.actions[rows, best]))
        steps = jnp.sum(found.actions >= 0, -1)
        metrics = {
            "cost": jnp.mean(found.costs[rows, best].astype(jnp.float32)),
            "cost_mean": jnp.mean(found.costs.astype(jnp.float32)),
            "entropy": jnp.mean(-found.logp / jnp.maximum(steps - 1, 1)),
            "distinct": jnp.mean(jax.vmap(distinct_share)(found.actions)),
        }
        return Loss(value, float(best.shape[0]), metrics)

    return loss_fn


def distinct_share(actions: Array) -> Array:
    """Share of different rows among the rows of [beta, steps], by a 32-bit hash of each.

    >>> float(distinct_share(jnp.array([[0, 1], [1, 0], [0, 1], [0, 1]])))
    0.5
    """
    weights = jax.random.bits(jax.random.key(0), (actions.shape[1],), jnp.uint32) | 1
    hashes = jnp.sort(jnp.sum((actions + 2).astype(jnp.uint32) * weights[None, :], axis=1))
    return (1 + jnp.sum(hashes[1:] != hashes[:-1])) / actions.shape[0]


def log_likelihood(params: PyTree, cfg: SPNConfig, problem: Problem, seq: Array) -> Array:
    """Mean log-probability of a schedule's choices but the last, which is forced.

    States come from a replay; all steps are then decoded at once.

    Args:
      params: of the policy.
      cfg: its sizes.
      problem: one instance.
      seq: jobs, int [n * m], -1 after the end.
    """
    ready = policy.prepare(params, cfg, problem)
    before, _ = rollout.replay(problem, facts(problem), seq)
    scores = jax.vmap(lambda state: policy.logits(ready, cfg, state))(before)
    chosen = jnp.take_along_axis(jax.nn.log_softmax(scores), jnp.maximum(seq, 0)[:, None], 1)[:, 0]
    num_ops = jnp.sum(problem.lengths)
    counted = jnp.arange(seq.shape[0]) < num_ops - 1
    return jnp.sum(jnp.where(counted, chosen, 0.0)) / jnp.maximum(num_ops - 1, 1)


def self_label_loss(params: PyTree, cfg: SPNConfig, problems: Problem, seqs: Array) -> Array:
    """The loss for given labels: problems [b], schedules [b, n * m]."""
    one = jax.vmap(lambda p, s: log_likelihood(params, cfg, p, s))
    return -jnp.mean(one(problems, seqs))


def sampler(
    cfg: SPNConfig, num_samples: int, dtype: Any = jnp.float32
) -> Callable[[PyTree, Problem, Key], Sampled]:
    """Samples a batch of job shops; instance i draws from `fold_in(key, i)`."""

    def sample(params: PyTree, problems: Problem, key: Key) -> Sampled:
        ready = jax.vmap(lambda p: policy.prepare(params, cfg, p))(problems)
        ready = ready._replace(folded=jax.tree.map(lambda x: x[0], ready.folded))
        keys = rollout.sample_keys(rng.fold(key, "samples"), problems.lengths.shape[0])
        keys = jax.vmap(lambda k: rollout.sample_keys(k, num_samples))(keys)
        axes = policy.Prepared(0, 0, None, 0)  # pyright: ignore[reportArgumentType]
        ones = jnp.ones((num_samples,))
        each = jax.vmap(
            lambda r, k: rollout.sample_prepared(r, cfg, k, ones, dtype), in_axes=(axes, 0)
        )
        found = each(ready, keys)
        return Sampled(found.seqs, found.makespans, found.logp)

    return sample


def slim(
    cfg: SPNConfig, num_samples: int, dtype: Any = jnp.float32
) -> Callable[[PyTree, Any, Key, PyTree], Loss]:
    """The loss of SLIM for batches of job shops."""

    def likelihood(params: PyTree, problems: Problem, seqs: Array) -> Array:
        return jax.vmap(lambda p, s: log_likelihood(params, cfg, p, s))(problems, seqs)

    return self_labelling(sampler(cfg, num_samples, dtype), likelihood)

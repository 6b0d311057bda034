"""What the encoder is told of every operation before anything is scheduled."""

import jax.numpy as jnp

from jaxml.core import check
from jaxml.core.types import Array
from jaxml.jsp.problem import Facts, Problem, facts, quartile_weights

NUM_FEATURES = 15
VERSIONS = ("reference", "paper")


def op_features(problem: Problem, version: str = "reference", known: Facts | None = None) -> Array:
    """Static features of one instance, standardised over its operations.

    With c = duration / longest duration, the columns are: 0-2 quartiles of c in the job, 3-5 on
    the machine, 6 c itself, 7 share of the job done after the operation, 8 share left before it,
    9-11 c minus the job's quartiles, 12-14 c minus the machine's.

    Args:
      problem: one instance.
      version: "paper" divides by the longest duration once. "reference" repeats what the authors'
        code does: it divides a second time before the quartiles of machines, which their released
        weights expect.
      known: `facts(problem)`, where the caller has them.

    Returns:
      float32 [n, m, 15]; zero where there is no operation.

    Raises:
      ValueError: no such version.
    """
    check.one_of(VERSIONS, version=version)
    known = facts(problem) if known is None else known
    cost = problem.durations.astype(jnp.float32) / known.scale
    of_job = _quartiles(cost, known.op_mask)[:, None]
    by_machine = jnp.take_along_axis(cost, known.place.T, axis=1).T
    if version == "reference":
        by_machine = by_machine / known.scale
    there = jnp.take_along_axis(known.op_mask, known.place.T, axis=1).T
    of_machine = _quartiles(by_machine, there)[problem.machines]
    total = jnp.sum(cost, axis=1, keepdims=True)
    done = jnp.cumsum(cost, axis=1)
    share = jnp.stack([done, total - done + cost], -1) / jnp.where(total > 0, total, 1.0)[..., None]
    own = cost[..., None]
    columns = [
        jnp.broadcast_to(of_job, (*cost.shape, 3)),
        of_machine,
        own,
        share,
        own - of_job,
        own - of_machine,
    ]
    return _standardise(jnp.concatenate(columns, -1), known.op_mask)


def _quartiles(values: Array, mask: Array) -> Array:
    """Quartiles [r, 3] of the unmasked entries of every row [r, k]."""
    ordered = jnp.sort(jnp.where(mask, values, jnp.inf), axis=1)
    ordered = jnp.where(jnp.isfinite(ordered), ordered, 0.0)
    weights = quartile_weights(jnp.sum(mask, axis=1), values.shape[1])
    return jnp.sum(weights * ordered[:, None], axis=-1)


def _standardise(x: Array, mask: Array) -> Array:
    """Zero mean and unit deviation (of a sample) over operations."""
    keep = mask[..., None]
    count = jnp.sum(mask)
    mean = jnp.sum(jnp.where(keep, x, 0.0), (0, 1), keepdims=True) / count
    centred = jnp.where(keep, x - mean, 0.0)
    variance = jnp.sum(jnp.square(centred), (0, 1), keepdims=True) / jnp.maximum(count - 1, 1)
    return centred / (jnp.sqrt(variance) + 1e-6)

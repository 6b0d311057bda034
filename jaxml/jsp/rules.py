"""Dispatching rules: what planners do without a model, and the paper's simplest baselines."""

import jax
import numpy as np

from jaxml.core import check
from jaxml.core.types import Key
from jaxml.jsp.instance import JSPInstance

RULES = ("SPT", "MWR", "MOR")


def dispatch(instance: JSPInstance, rule: str, key: Key | None = None) -> np.ndarray:
    """One schedule by list scheduling in time.

    At every moment at which some operation can start, jobs are asked in the order of their
    priority, and each whose next operation can start right then starts it. Of equal jobs the later
    one goes first.

    Args:
      instance: the shop.
      rule: "SPT" shortest next operation, "MWR" most work remaining, "MOR" most operations
        remaining.
      key: randomises: the order is drawn, each time uniformly among the three best jobs left.

    Returns:
      The job sequence, int32 [N].

    Raises:
      ValueError: no such rule.
    """
    check.one_of(RULES, rule=rule)
    rng = None if key is None else np.random.default_rng(np.asarray(jax.random.key_data(key)))
    done = instance.release.astype(np.int64).copy()
    free = instance.available.astype(np.int64).copy()
    position, lengths = np.zeros(instance.num_jobs, np.int64), instance.lengths
    left = instance.durations.sum(1, dtype=np.int64)
    seq: list[int] = []
    while len(seq) < instance.num_ops:
        open_ = np.nonzero(position < lengths)[0]
        machines = instance.machines[open_, position[open_]]
        now = int(np.maximum(done[open_], free[machines]).min())
        for job in _order(_priority(instance, rule, open_, position, left), open_, rng):
            op = position[job]
            machine = instance.machines[job, op]
            if max(done[job], free[machine]) > now:
                continue
            duration = int(instance.durations[job, op])
            done[job] = free[machine] = now + duration
            left[job] -= duration
            position[job] += 1
            seq.append(int(job))
    return np.asarray(seq, np.int32)


def _priority(
    instance: JSPInstance, rule: str, jobs: np.ndarray, position: np.ndarray, left: np.ndarray
) -> np.ndarray:
    if rule == "SPT":
        return -instance.durations[jobs, position[jobs]].astype(np.int64)
    if rule == "MWR":
        return left[jobs]
    return (instance.lengths - position)[jobs]


def _order(priority: np.ndarray, jobs: np.ndarray, rng: np.random.Generator | None) -> list[int]:
    """Jobs by priority, highest first, later ones first among equals; or a draw near that."""
    ranked = jobs[np.lexsort((-jobs, -priority))].tolist()
    if rng is None:
        return ranked
    return [ranked.pop(int(rng.integers(min(3, len(ranked))))) for _ in range(len(ranked))]

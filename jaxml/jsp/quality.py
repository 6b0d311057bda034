"""How good schedules are: the policy, rules and polishing on sets of instances."""

import dataclasses
from collections.abc import Sequence

import jax
import numpy as np

from jaxml.core import rng
from jaxml.core.types import Key, PyTree
from jaxml.jsp import evaluation, rules, schedule, tabu
from jaxml.jsp.benchmark import gap
from jaxml.jsp.config import SPNConfig
from jaxml.jsp.instance import JSPInstance


@dataclasses.dataclass(frozen=True)
class Method:
    """Gaps to the best known makespan in per cent, by instance, and sequences that give them."""

    gaps: dict[str, float]
    seqs: dict[str, np.ndarray]

    @property
    def mean(self) -> float:
        """Mean over instances."""
        return float(np.mean(list(self.gaps.values())))


def _method(instances: Sequence[JSPInstance], seqs: dict[str, np.ndarray]) -> Method:
    spans = {i.name: schedule.makespan(i, seqs[i.name]) for i in instances}
    return Method({i.name: gap(spans[i.name], i) for i in instances}, seqs)


def of_policy(
    params: PyTree, cfg: SPNConfig, instances: Sequence[JSPInstance], key: Key, samples: int
) -> tuple[Method, Method]:
    """Greedy, and the best of the samples."""
    found = evaluation.evaluate(params, cfg, instances, key, samples, chunk=len(instances))
    greedy = {r.name: r.greedy_seq[r.greedy_seq >= 0] for r in found}
    best = {r.name: r.seq[r.seq >= 0] for r in found}
    return _method(instances, greedy), _method(instances, best)


def of_rule(instances: Sequence[JSPInstance], rule: str, key: Key | None, runs: int) -> Method:
    """A rule, or the best of several randomised runs of it."""
    found = {}
    for instance in instances:
        keys = [None] if key is None else [rng.fold(key, instance.name, i) for i in range(runs)]
        seqs = [rules.dispatch(instance, rule, k) for k in keys]
        found[instance.name] = min(seqs, key=lambda seq: schedule.makespan(instance, seq))
    return _method(instances, found)


def at_random(instances: Sequence[JSPInstance], key: Key) -> dict[str, np.ndarray]:
    """A random job sequence for every instance."""
    found = {}
    for instance in instances:
        jobs = np.repeat(np.arange(instance.num_jobs, dtype=np.int32), instance.lengths)
        found[instance.name] = np.asarray(
            jax.random.permutation(rng.fold(key, instance.name), jobs)
        )
    return found


def polished(
    instances: Sequence[JSPInstance], seqs: dict[str, np.ndarray], iters: int, key: Key
) -> Method:
    """The same number of tabu moves from every given schedule."""
    found = {}
    for instance in instances:
        better, spans = tabu.tabu_search(instance, seqs[instance.name], iters, key)
        found[instance.name] = better[int(np.argmin(spans))]
    return _method(instances, found)

"""Greedy and best-of-beta on many instances, a batch per shape, recomputed in integers."""

import concurrent.futures
import dataclasses
import functools
import math
import time
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxml.core import check
from jaxml.core.types import Array, Key, PyTree
from jaxml.jsp import policy, rollout, schedule
from jaxml.jsp.benchmark import gap
from jaxml.jsp.config import SPNConfig
from jaxml.jsp.instance import JSPInstance
from jaxml.jsp.problem import Problem, pad_batch


@dataclasses.dataclass(frozen=True)
class Result:
    """What the policy reached on one instance.

    Attributes:
      name: of the instance.
      greedy: makespan of the greedy schedule.
      best: that of the best sample, the greedy one not counted.
      seq: the best sample, jobs in order.
      greedy_seq: the greedy schedule.
      tops: the best samples, the best one first, [keep, N].
      seconds: of wall time for the whole batch of this shape, over its instances.
    """

    name: str
    greedy: int
    best: int
    seq: np.ndarray
    greedy_seq: np.ndarray
    tops: np.ndarray
    seconds: float


@functools.partial(jax.jit, static_argnums=(0, 5))
def _best_of(
    cfg: SPNConfig, params: PyTree, problems: Problem, keys: Key, temperatures: Array, keep: int
) -> tuple[Array, Array, Array]:
    """Makespans [b, s], greedy sequences [b, n m] and those of the best samples [b, keep, n m]."""

    def one(problem: Problem, key: Key) -> tuple[Array, Array, Array]:
        ready = policy.prepare(params, cfg, problem)
        samples = rollout.sample_keys(key, temperatures.shape[0])
        found = rollout.sample_prepared(ready, cfg, samples, temperatures)
        _, best = jax.lax.top_k(-found.makespans[1:], keep)
        return found.makespans, found.seqs[0], found.seqs[1 + best]

    return jax.vmap(one)(problems, keys)


def evaluate(
    params: PyTree,
    cfg: SPNConfig,
    instances: Sequence[JSPInstance],
    key: Key,
    num_samples: int,
    *,
    until: float = float("inf"),
    say: Callable[[str], None] = lambda line: None,
    chunk: int = 10,
    shape_of: Callable[[JSPInstance], tuple[int, int]] = lambda instance: instance.shape,
    keep: int = 1,
    temperature: float = 1.0,
) -> list[Result]:
    """Solves instances with the policy alone; compiles once per shape, all shapes at once.

    Args:
      params: of the policy.
      cfg: its sizes.
      instances: of any shapes.
      key: sample i of an instance draws from `fold_in(key, i + 1)`, whatever else is solved.
      num_samples: beta.
      until: `time.monotonic()` after which no further shape is begun.
      say: prints a line per shape.
      chunk: instances per call.
      shape_of: the shape to which an instance is padded; fewer shapes compile sooner.
      keep: how many of the best samples are returned.
      temperature: of the samples; the greedy schedule has none.

    Returns:
      One result per instance, smallest shapes first.

    Raises:
      ValueError: a negative temperature.
    """
    check.at_least(0, temperature=temperature)
    groups: dict[tuple[int, int], list[JSPInstance]] = {}
    for instance in sorted(instances, key=lambda i: math.prod(shape_of(i)) * shape_of(i)[0]):
        groups.setdefault(shape_of(instance), []).append(instance)
    temperatures = jnp.full((num_samples + 1,), temperature).at[0].set(0.0)
    found: list[Result] = []
    with concurrent.futures.ThreadPoolExecutor() as pool:
        compiling = []
        for shape, group in groups.items():
            size = min(chunk, len(group))
            keys = jnp.broadcast_to(key[None], (size,))
            batch = pad_batch(group[:size], shape)
            lowered = _best_of.lower(cfg, params, batch, keys, temperatures, keep)
            compiling.append((shape, group, keys, pool.submit(lowered.compile)))
        for shape, group, keys, compiled in compiling:
            if time.monotonic() > until:
                compiled.cancel()
                continue
            solve = functools.partial(compiled.result(), params)
            found += _solve_group(solve, group, shape, keys, temperatures)
            say(f"{shape}: {len(group)} instances, {found[-1].seconds:.3f} s each")
    return found


def _solve_group(
    solve: Callable[..., tuple[Array, Array, Array]],
    group: list[JSPInstance],
    shape: tuple[int, int],
    keys: Key,
    temperatures: Array,
) -> list[Result]:
    found, size = [], keys.shape[0]
    for first in range(0, len(group), size):
        part = group[first : first + size]
        batch = pad_batch(part + group[: size - len(part)], shape)
        begun = time.perf_counter()
        makespans, greedy, best = jax.device_get(solve(batch, keys, temperatures))
        seconds = (time.perf_counter() - begun) / len(part)
        for i, instance in enumerate(part):
            values = schedule.makespan(instance, greedy[i]), schedule.makespan(instance, best[i, 0])
            if values != (makespans[i, 0], makespans[i, 1:].min()):
                raise RuntimeError(f"{instance.name}: makespans differ between device and host.")
            found.append(Result(instance.name, *values, best[i, 0], greedy[i], best[i], seconds))
    return found


def mean_gaps(results: Sequence[Result], instances: Sequence[JSPInstance]) -> dict[str, float]:
    """Mean gap to the best known makespan in per cent, `greedy` and `best`."""
    by_name = {instance.name: instance for instance in instances}
    both = [(gap(r.greedy, by_name[r.name]), gap(r.best, by_name[r.name])) for r in results]
    greedy, best = np.mean(np.asarray(both), axis=0)
    return {"greedy": float(greedy), "best": float(best)}

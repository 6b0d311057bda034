"""Tabu search on many instances at once, each from several schedules of the policy."""

import concurrent.futures
import dataclasses
import functools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxml.core import check
from jaxml.core.types import Key
from jaxml.jsp import schedule, tabu
from jaxml.jsp.instance import JSPInstance
from jaxml.jsp.problem import Problem
from jaxml.jsp.tabu import Search


@dataclasses.dataclass(frozen=True)
class Improved:
    """The best schedule that the search found for one instance.

    Attributes:
      name: of the instance.
      makespan: recomputed in integers.
      seq: the job sequence, int32 [N].
      seconds: of wall time for the batch, over its instances; compiling not counted.
      moves: of each search.
    """

    name: str
    makespan: int
    seq: np.ndarray
    seconds: float
    moves: int


@functools.partial(jax.jit, static_argnums=2)
def _advance(problems: Problem, searches: Search, iters: int) -> Search:
    """Searches [b, s] on problems [b]."""
    return jax.vmap(functools.partial(tabu.advance, iters=iters))(problems, searches)


def improve(
    instances: Sequence[JSPInstance],
    starts: Mapping[str, np.ndarray],
    key: Key,
    seconds: float,
    *,
    chunk: int = 20,
    iters: int = 50,
    shape_of: Callable[[JSPInstance], tuple[int, int]] = lambda instance: instance.shape,
    say: Callable[[str], None] = lambda line: None,
) -> list[Improved]:
    """Searches from given schedules, a batch of instances of one shape at a time.

    Args:
      instances: of any shapes.
      starts: job sequences by name of the instance, [s, N], as many for each.
      key: of all draws.
      seconds: of wall time per instance: a batch of b instances is searched for b times as long.
      chunk: most instances in a batch.
      iters: moves between looks at the clock.
      shape_of: the shape to which an instance is padded.
      say: prints a line per batch.

    Raises:
      ValueError: an instance without schedules to start from, or `seconds` not above 0.
    """
    check.positive(seconds=seconds, chunk=chunk, iters=iters)
    for instance in instances:
        if instance.name not in starts:
            raise ValueError(f"starts must hold schedules of {instance.name!r}.")
    groups: dict[tuple[int, int], list[JSPInstance]] = {}
    for instance in sorted(instances, key=lambda i: math.prod(shape_of(i))):
        groups.setdefault(shape_of(instance), []).append(instance)
    batches = [
        (shape, group[i : i + chunk])
        for shape, group in groups.items()
        for i in range(0, len(group), chunk)
    ]
    found: list[Improved] = []
    with concurrent.futures.ThreadPoolExecutor() as pool:
        waiting = []
        for shape, part in batches:
            inputs = _inputs(part, starts, key, shape)
            lowered = _advance.lower(*inputs, iters)
            waiting.append((shape, part, inputs, pool.submit(lowered.compile)))
        for shape, part, inputs, compiled in waiting:
            problems, searches = inputs
            found += _search(part, problems, searches, compiled.result(), seconds, iters)
            say(f"{shape}: {len(part)} instances improved, {found[-1].moves} moves each")
    return found


def _inputs(
    part: Sequence[JSPInstance],
    starts: Mapping[str, np.ndarray],
    key: Key,
    shape: tuple[int, int],
) -> tuple[Problem, Search]:
    begun = [tabu.begin(shop, starts[shop.name], key, shape) for shop in part]
    return jax.tree.map(lambda *rows: jnp.stack(rows), *begun)


def _search(
    part: Sequence[JSPInstance],
    problems: Problem,
    searches: Search,
    advance: Callable[[Problem, Search], Any],
    seconds: float,
    iters: int,
) -> list[Improved]:
    begun, moves = time.monotonic(), 0
    while time.monotonic() - begun < seconds * len(part):
        searches = jax.block_until_ready(advance(problems, searches))
        moves += iters
    spent = (time.monotonic() - begun) / len(part)
    found = []
    best = np.asarray(searches.best).argmin(1)
    for i, shop in enumerate(part):
        chosen = jax.tree.map(lambda x, i=i: x[i, best[i]][None], searches)
        seqs, spans = tabu.harvest(shop, chosen)
        found.append(Improved(shop.name, int(spans[0]), seqs[0], spent, moves))
    return found


def both_ways(
    instance: JSPInstance, forward: np.ndarray, backward: np.ndarray, view: JSPInstance
) -> np.ndarray:
    """Schedules of an instance and of its reversal, as schedules of the instance, best first.

    Args:
      instance: the shop.
      forward: its job sequences [s, N]; entries -1 are padding.
      backward: job sequences of `view`, [r, N].
      view: `reverse(instance)`.

    Returns:
      int32 [s + r, N].
    """
    ahead, back = (rows[rows >= 0].reshape(len(rows), -1) for rows in (forward, backward))
    rows = np.concatenate([ahead, schedule.mirrored(instance, view, back)])
    spans = [schedule.makespan(instance, seq) for seq in rows]
    return rows[np.argsort(spans, kind="stable")].astype(np.int32)

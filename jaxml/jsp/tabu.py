"""Tabu search over machine orders with the neighbourhood N5, any number of starts at once.

A schedule is an order of jobs on every machine. Heads (earliest starts) and tails (longest paths to
the end) are fixed points of two closures, along jobs and along machines, each a running maximum; a
round of both covers one turn of a longest path, so a handful of rounds replaces a walk through all
operations. A move swaps the first or last two operations of a block of critical operations on one
machine, where the block's neighbour in time lies on another machine: no other swap of neighbours
can shorten the schedule, and none of these makes a cycle.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxml.core import check
from jaxml.core.types import Array, Key
from jaxml.jsp import schedule
from jaxml.jsp.instance import JSPInstance
from jaxml.jsp.problem import Facts, Problem, facts, from_instance

_FAR = 2**30


class Search(NamedTuple):
    """One search; a leading axis holds several.

    Attributes:
      order: jobs in the order in which every machine serves them, int32 [m, n]; jobs that do not
        visit it stand last.
      rank: its inverse: place of every job on every machine, int32 [m, n].
      tabu: iteration until which `a before b` on a machine is forbidden, int32 [m, n, n].
      best_order: of the best schedule so far.
      best: its makespan, int32 [].
      iteration: moves made, int32 [].
      key: of the coming draws.
    """

    order: Array
    rank: Array
    tabu: Array
    best_order: Array
    best: Array
    iteration: Array
    key: Key


class _Layout(NamedTuple):
    """Flat indices from [n, m] by job to [m, n] by machine order, and back."""

    to_order: Array
    to_job: Array


def _layout(problem: Problem, known: Facts, order: Array, rank: Array) -> _Layout:
    num_jobs, num_machines = problem.machines.shape
    to_order = order * num_machines + jnp.take_along_axis(known.place, order, axis=1)
    jobs = jnp.arange(num_jobs)[:, None]
    return _Layout(to_order, problem.machines * num_jobs + rank[problem.machines, jobs])


def _before(durations: Array) -> Array:
    """Sum of the durations before each entry of its row."""
    return jnp.cumsum(durations, axis=1) - durations


def _after(durations: Array) -> Array:
    """Sum of the durations after each entry of its row."""
    return jnp.sum(durations, axis=1, keepdims=True) - jnp.cumsum(durations, axis=1)


def _longest(problem: Problem, lay: _Layout, base: Array, reverse: bool) -> Array:
    """The fixed point above `base` [n, m]: heads, or tails where `reverse`."""
    gap = _after if reverse else _before
    by_order = problem.durations.reshape(-1)[lay.to_order]
    along_jobs, along_machines = gap(problem.durations), gap(by_order)

    def close(x: Array, offset: Array) -> Array:
        return jax.lax.cummax(x - offset, axis=1, reverse=reverse) + offset

    def body(carry: tuple[Array, Array]) -> tuple[Array, Array]:
        x = close(carry[0], along_jobs)
        y = close(x.reshape(-1)[lay.to_order], along_machines).reshape(-1)[lay.to_job]
        return y, jnp.any(y != x)

    return jax.lax.while_loop(lambda c: c[1], body, (base, jnp.asarray(True)))[0]


def _earliest(problem: Problem, known: Facts) -> Array:
    """Lower bounds of starts [n, m] from release times and busy machines."""
    first = jnp.arange(problem.machines.shape[1])[None, :] == 0
    base = jnp.where(first, problem.release[:, None], 0)
    return jnp.where(known.op_mask, jnp.maximum(base, problem.available[problem.machines]), 0)


def heads(problem: Problem, known: Facts, order: Array, rank: Array) -> Array:
    """Earliest starts [n, m] under machine orders."""
    lay = _layout(problem, known, order, rank)
    return _longest(problem, lay, _earliest(problem, known), reverse=False)


class _Moves(NamedTuple):
    """Swaps of neighbours (place r, r + 1) on machines, each [m, n - 1]."""

    value: Array
    allowed: Array


def _moves(
    problem: Problem, known: Facts, lay: _Layout, order: Array, h: Array, t: Array
) -> _Moves:
    """Which swaps N5 allows, and the estimated makespan after each."""
    p = problem.durations
    end, rest = h + p, t + p
    total = jnp.max(jnp.where(known.op_mask, end, 0))
    base = _earliest(problem, known)
    zero = jnp.zeros_like(base[:, :1])
    # Blocks that begin the schedule gain nothing at their head, those that end it nothing at their
    # tail: there the job has no critical operation before, or after.
    came = jnp.concatenate([zero > 0, end[:, :-1] == h[:, 1:]], 1)
    job_end = jnp.maximum(base, jnp.concatenate([zero, end[:, :-1]], 1))
    after = jnp.concatenate([rest[:, 1:], zero], 1)
    goes = (after == t) & (t > 0)
    # If the job goes on without duration, the swap could close a cycle.
    idle = known.op_mask & (problem.durations == 0)
    risky = jnp.concatenate([idle[:, 1:], zero > 0], 1)

    def view(x: Array) -> Array:
        return x.reshape(-1)[lay.to_order]

    h, t, p, end, rest, job_end, after = map(view, (h, t, p, end, rest, job_end, after))
    came, goes, risky = map(view, (came, goes, risky))
    critical = (end + t == total) & view(known.op_mask)
    arc = critical[:, :-1] & critical[:, 1:] & (end[:, :-1] == h[:, 1:])
    no = jnp.zeros_like(arc[:, :1])
    opens = ~jnp.concatenate([no, arc[:, :-1]], 1)
    closes = ~jnp.concatenate([arc[:, 1:], no], 1)
    useful = (opens & came[:, :-1]) | (closes & goes[:, 1:])
    u, v = slice(None, -1), slice(1, None)
    machine_end = jnp.concatenate([jnp.zeros_like(end[:, :1]), end[:, :-2]], 1)
    machine_rest = jnp.concatenate([rest[:, 2:], jnp.zeros_like(rest[:, :1])], 1)
    head_v = jnp.maximum(job_end[:, v], machine_end)
    head_u = jnp.maximum(job_end[:, u], head_v + p[:, v])
    tail_u = jnp.maximum(after[:, u], machine_rest)
    tail_v = jnp.maximum(after[:, v], tail_u + p[:, u])
    value = jnp.maximum(head_v + p[:, v] + tail_v, head_u + p[:, u] + tail_u)
    return _Moves(value, arc & useful & ~risky[:, u])


def _iterate(problem: Problem, known: Facts, search: Search, _: Array) -> tuple[Search, None]:
    """Measures the schedule, remembers it if it is the best, and makes one move."""
    order, rank = search.order, search.rank
    num_machines, num_jobs = order.shape
    lay = _layout(problem, known, order, rank)
    h = _longest(problem, lay, _earliest(problem, known), reverse=False)
    t = _longest(problem, lay, jnp.zeros_like(h), reverse=True)
    makespan = jnp.max(jnp.where(known.op_mask, h + problem.durations, 0))
    better = makespan < search.best
    best = jnp.minimum(makespan, search.best)
    moves = _moves(problem, known, lay, order, h, t)
    first, second = order[:, :-1], order[:, 1:]
    machines = jnp.arange(num_machines)[:, None]
    forbidden = search.tabu[machines, second, first] > search.iteration
    free = moves.allowed & (~forbidden | (moves.value < best))
    draw, tie = jax.random.split(jax.random.fold_in(search.key, search.iteration))
    noise = jax.random.uniform(tie, moves.value.shape)
    score = jnp.where(free, moves.value.astype(jnp.float32), jnp.inf) + noise * 0.9
    fallback = jnp.where(moves.allowed, noise, jnp.inf)  # all tabu: any of them
    chosen = jnp.argmin(jnp.where(jnp.any(free), score, fallback))
    machine, place = chosen // (num_jobs - 1), chosen % (num_jobs - 1)
    moved = jnp.any(moves.allowed)
    a, b = order[machine, place], order[machine, place + 1]
    tenure = 8 + jax.random.randint(draw, (), 0, num_jobs // 2 + 1)
    swapped = order.at[machine, place].set(b).at[machine, place + 1].set(a)
    ranked = rank.at[machine, a].set(place + 1).at[machine, b].set(place)
    tabu = search.tabu.at[machine, a, b].set(search.iteration + tenure)
    after = Search(
        order=jnp.where(moved, swapped, order),
        rank=jnp.where(moved, ranked, rank),
        tabu=jnp.where(moved, tabu, search.tabu),
        best_order=jnp.where(better, order, search.best_order),
        best=best,
        iteration=search.iteration + 1,
        key=search.key,
    )
    return after, None


def start(problem: Problem, order: Array, key: Key) -> Search:
    """A search that begins at an order [m, n]."""
    num_machines, num_jobs = order.shape
    return Search(
        order=order,
        rank=jnp.argsort(order, axis=1).astype(order.dtype),
        tabu=jnp.zeros((num_machines, num_jobs, num_jobs), jnp.int32),
        best_order=order,
        best=jnp.asarray(_FAR, jnp.int32),
        iteration=jnp.zeros((), jnp.int32),
        key=key,
    )


@functools.partial(jax.jit, static_argnums=2)
def advance(problem: Problem, searches: Search, iters: int) -> Search:
    """`iters` iterations of every search (leading axis) on one problem."""
    known = facts(problem)

    def one(search: Search) -> Search:
        body = functools.partial(_iterate, problem, known)
        return jax.lax.scan(body, search, jnp.arange(iters))[0]

    return jax.vmap(one)(searches)


def orders_of(instance: JSPInstance, seqs: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Machine orders [s, m, n] of job sequences [s, steps], padded to a shape (jobs, machines)."""
    num_jobs, num_machines = shape
    found = np.empty((len(seqs), num_machines, num_jobs), np.int32)
    for row, seq in zip(found, seqs, strict=True):
        orders = schedule.machine_orders(instance, seq)
        for machine in range(num_machines):
            order = orders[machine] if machine < len(orders) else []
            rest = np.setdiff1d(np.arange(num_jobs), order)
            row[machine] = np.concatenate([order, rest]).astype(np.int32)
    return found


def begin(
    instance: JSPInstance, seqs: np.ndarray, key: Key, shape: tuple[int, int] | None = None
) -> tuple[Problem, Search]:
    """The problem on the device and one search per sequence [s, steps].

    Search i draws from `fold_in(key, i)`.
    """
    shape = instance.shape if shape is None else shape
    problem = from_instance(instance, shape)
    orders = jnp.asarray(orders_of(instance, np.atleast_2d(seqs), shape))
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(orders.shape[0]))
    return problem, jax.vmap(start, (None, 0, 0))(problem, orders, keys)


def tabu_search(
    instance: JSPInstance, seqs: np.ndarray, iters: int, key: Key
) -> tuple[np.ndarray, np.ndarray]:
    """Improves schedules.

    Args:
      instance: the shop.
      seqs: job sequences to start from, [s, steps] or [steps].
      iters: moves of every search.
      key: of all draws.

    Returns:
      The best sequence of every search, int32 [s, N], and its makespan, int64 [s]; never worse
      than where it began.

    Raises:
      ValueError: no iterations, or sequences that are no schedules.
    """
    check.positive(iters=iters)
    problem, searches = begin(instance, seqs, key)
    if instance.num_jobs > 1:
        searches = advance(problem, searches, iters)
    return harvest(instance, searches)


def harvest(instance: JSPInstance, searches: Search) -> tuple[np.ndarray, np.ndarray]:
    """The best sequences [s, N] of searches and their makespans [s], recomputed in integers."""
    found = []
    for orders in np.asarray(searches.best_order):
        users = [
            [
                j
                for j in order.tolist()
                if j < instance.num_jobs and (instance.machines[j] == i).any()
            ]
            for i, order in enumerate(orders[: instance.num_machines])
        ]
        found.append(schedule.from_machine_sequences(instance, users))
    spans = np.asarray([schedule.makespan(instance, seq) for seq in found], np.int64)
    return np.stack(found), spans

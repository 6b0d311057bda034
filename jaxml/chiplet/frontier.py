"""Grids too large to keep: a billion designs computed on the device, the exact front kept.

A design is the digits of its index in the mixed radix of the axes, so nothing is stored or sent.
The device keeps a staircase: the least cost met so far below each of some thousand times. Almost
every design is above it and is dropped; what survives (with a margin for float32) is computed again
in float64 on the host, where the front is exact.
"""

import dataclasses
import functools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxml.chiplet.area import package_mm2
from jaxml.chiplet.config import ModelShape, Number, System
from jaxml.chiplet.model import Assignment, Report, assignment
from jaxml.chiplet.pareto import pareto
from jaxml.chiplet.presets import SEQUENCES_PER_BATCH
from jaxml.chiplet.rounding import EXACT
from jaxml.chiplet.simulate import check_inputs
from jaxml.chiplet.sweep import grid, place, reports, sweep
from jaxml.core import check
from jaxml.core.types import Array

BINS = 8192
COSTS: Mapping[str, Callable[[System, Report], Number]] = {
    "energy_j": lambda system, report: report.energy_j,
    "area_mm2": lambda system, report: package_mm2(system),
}
"""What is set against time: energy of a batch, or silicon of the package."""
MARGIN = 2e-4
"""Twice the relative error that float32 may make of a report."""


@dataclasses.dataclass(frozen=True)
class Frontier:
    """The Pareto front of a grid in time and a cost.

    Attributes:
      indices: of the designs on the front, by time; int64.
      values: their numbers by name.
      time_s: their times, float64.
      cost: their energies in J or areas in mm2, float64.
      num_designs: designs computed.
      num_feasible: of them feasible.
      num_survivors: computed again in float64.
      seconds: of the computation on the device, compilation apart.
    """

    indices: np.ndarray
    values: dict[str, np.ndarray]
    time_s: np.ndarray
    cost: np.ndarray
    num_designs: int
    num_feasible: int
    num_survivors: int
    seconds: float

    @property
    def designs_s(self) -> float:
        """Designs per second."""
        return self.num_designs / self.seconds


class _Stairs(NamedTuple):
    """Least cost met below each bin of log time, and the bins' range."""

    least: Array
    low: Array
    per_bin: Array


def decode(index: Any, sizes: Sequence[int], module: Any = np) -> list[Any]:
    """Digits of an index, last axis fastest.

    >>> [int(d) for d in decode(np.array(7), (2, 3, 4))]
    [0, 1, 3]
    """
    digits = []
    for size in reversed(sizes):
        index, digit = module.divmod(index, size)
        digits.append(digit)
    return digits[::-1]


def values_at(axes: Mapping[str, np.ndarray], indices: np.ndarray) -> dict[str, np.ndarray]:
    """Numbers of the designs at indices of the grid."""
    digits = decode(np.asarray(indices, np.int64), [len(v) for v in axes.values()])
    return {path: np.asarray(v)[d] for (path, v), d in zip(axes.items(), digits, strict=True)}


def _bin(stairs: _Stairs, log_time: Array) -> Array:
    place = (log_time - stairs.low) * stairs.per_bin
    return jnp.clip(jnp.floor(place), 0, BINS - 1).astype(jnp.int32)


def _stairs(times: np.ndarray, costs: np.ndarray) -> _Stairs:
    """From a sample; designs outside its range fall into the outermost bins."""
    logs = np.log(times)
    low, per_bin = logs.min(), (BINS - 1) / max(np.ptp(logs), 1e-6)
    stairs = _Stairs(jnp.full(BINS, jnp.inf), jnp.float32(low), jnp.float32(per_bin))
    return _lower(stairs, jnp.float32(logs), jnp.float32(costs))


def _lower(stairs: _Stairs, log_time: Array, cost: Array) -> _Stairs:
    """With more designs; entry i is the least cost of all bins up to i."""
    met = stairs.least.at[_bin(stairs, log_time)].min(cost)
    return stairs._replace(least=jax.lax.cummin(met))


@functools.partial(
    jax.jit,
    static_argnames=("names", "methods", "against", "max_arrays", "chunk", "rounds", "keep"),
)
def _scan(
    stairs: _Stairs,
    first: Array,
    axes: tuple[Array, ...],
    base: tuple[ModelShape, System, Number],
    names: tuple[str, ...],
    methods: Assignment,
    against: str,
    max_arrays: int,
    chunk: int,
    rounds: int,
    keep: int,
) -> tuple[_Stairs, Array, Array, Array]:
    """`rounds` chunks: the staircase, survivors [rounds, keep], their numbers, feasible ones."""
    sizes = tuple(len(axis) for axis in axes)
    num_designs = math.prod(sizes)

    def one(stairs: _Stairs, start: Array) -> tuple[_Stairs, tuple[Array, Array, Array]]:
        index = start + jnp.arange(chunk, dtype=jnp.uint32)
        digits = decode(jnp.minimum(index, num_designs - 1), sizes, jnp)
        values = {name: axis[d] for name, axis, d in zip(names, axes, digits, strict=True)}
        report = reports(values, base, methods, EXACT, max_arrays)
        cost = COSTS[against](place(*base[:2], values)[1], report) * jnp.ones(chunk)
        possible = report.feasible & (index < num_designs)
        log_time = jnp.log(report.time_s)
        before = _bin(stairs, log_time - MARGIN) - 1
        least = jnp.where(before >= 0, stairs.least[jnp.maximum(before, 0)], jnp.inf)
        alive = possible & (cost * (1 - MARGIN) < least)
        where = jnp.nonzero(alive, size=keep, fill_value=chunk - 1)[0]
        real = jnp.arange(keep) < alive.sum()
        lowered = _lower(stairs, log_time[where], jnp.where(real, cost[where], jnp.inf))
        kept = jnp.where(real, index[where], jnp.uint32(2**32 - 1))
        return lowered, (kept, alive.sum(), possible.sum())

    starts = first + chunk * jnp.arange(rounds, dtype=jnp.uint32)
    stairs, (kept, alive, possible) = jax.lax.scan(one, stairs, starts)
    return stairs, kept, alive, possible


def frontier(
    model: ModelShape,
    system: System,
    axes: Mapping[str, Any],
    *,
    against: str = "energy_j",
    method: str = "hecaton",
    batch_tokens: Number | None = None,
    chunk: int = 2**20,
    rounds: int = 16,
    keep: int = 4096,
    sample: int = 2**16,
    seed: int = 0,
) -> Frontier:
    """The exact Pareto front, in time and a cost, of all combinations of the axes' values.

    Args:
      model: what is trained.
      system: what is not swept.
      axes: values by dotted name, see `sweep`.
      against: the cost, a key of `COSTS`.
      method: a key of `METHODS`.
      batch_tokens: see `sweep`.
      chunk: designs at a time.
      rounds: chunks per call of the device.
      keep: survivors of a chunk there is room for; a chunk with more is computed again with room.
      sample: random designs that make the first staircase.
      seed: of the sample.

    Returns:
      A `Frontier`: the front of the float64 model over every feasible design.

    Raises:
      ValueError: more than 2**32 - 2 designs, none feasible in the sample, or see `sweep`.
    """
    check.positive(chunk=chunk, rounds=rounds, keep=keep, sample=sample)
    check.one_of(COSTS, against=against)
    known = {path: np.asarray(v, np.float64) for path, v in axes.items()}
    sizes = tuple(len(v) for v in known.values())
    total = math.prod(sizes)
    if not 0 < total < 2**32 - 1:
        raise ValueError(f"axes must span 1 to 2**32 - 2 designs; got {total}.")
    batch = SEQUENCES_PER_BATCH * model.seq_len if batch_tokens is None else batch_tokens
    corner = {path: np.array([v.min(), v.max()]) for path, v in known.items()}
    arrays = check_inputs(*place(model, system, corner), method, batch, smooth=False)
    for path, v in known.items():
        check_inputs(*place(model, system, {path: v}), "hecaton", batch, smooth=False)
    drawn = np.random.default_rng(seed).integers(0, total, min(sample, total))
    base, choice = (model, system, batch), (against, method)
    stairs = _sampled(values_at(known, drawn), base, choice)
    chunk = min(chunk, total)
    run = functools.partial(
        _scan,
        axes=tuple(jnp.asarray(v, jnp.float32) for v in known.values()),
        base=jax.tree.map(jnp.float32, (model, system, batch)),
        names=tuple(known),
        methods=assignment(method),
        against=against,
        max_arrays=arrays,
        chunk=chunk,
    )
    span = chunk * rounds
    full = functools.partial(run, rounds=rounds, keep=min(keep, chunk))
    jax.block_until_ready(full(stairs, jnp.uint32(0)))
    began = time.perf_counter()
    outputs = []
    for first in range(0, total, span):
        stairs, *rest = full(stairs, jnp.uint32(first))
        outputs.append((first, rest))
    jax.block_until_ready(stairs)
    seconds = time.perf_counter() - began
    survivors, feasible = [], 0
    for first, rest in outputs:
        kept, alive, possible = map(np.asarray, rest)
        feasible += int(possible.astype(np.int64).sum())
        for i, count in enumerate(alive):
            ids = kept[i]
            if count > min(keep, chunk):
                again = run(stairs, jnp.uint32(first + i * chunk), rounds=1, keep=chunk)
                ids = np.asarray(again[1][0])
            survivors.append(ids[ids != 2**32 - 1].astype(np.int64))
    return _exact(np.concatenate(survivors), known, base, choice, (total, feasible, seconds))


def _sampled(
    values: dict[str, np.ndarray],
    base: tuple[ModelShape, System, Number],
    choice: tuple[str, str],
) -> _Stairs:
    """The staircase of some designs; ValueError if none is feasible."""
    (model, system, batch), (against, method) = base, choice
    found = sweep(model, system, values, method=method, batch_tokens=batch)
    possible = np.asarray(found.feasible)
    if not possible.any():
        raise ValueError(f"none of {len(possible)} sampled designs is feasible.")
    cost = _cost(against, system, values, found)
    return _stairs(np.asarray(found.time_s)[possible], cost[possible])


def _cost(against: str, system: System, values: Mapping[str, Any], report: Report) -> np.ndarray:
    inside = {path: v for path, v in values.items() if not path.startswith("model.")}
    cost = COSTS[against](place(None, system, inside)[1], report)  # pyright: ignore
    return np.broadcast_to(np.asarray(cost, np.float64), np.shape(report.time_s))


def _exact(
    indices: np.ndarray,
    axes: dict[str, np.ndarray],
    base: tuple[ModelShape, System, Number],
    choice: tuple[str, str],
    counts: tuple[int, int, float],
) -> Frontier:
    """The front of some designs in float64."""
    (model, system, batch), (against, method) = base, choice
    values = values_at(axes, indices)
    with jax.enable_x64(True), jax.default_device(jax.devices("cpu")[0]):
        report = sweep(model, system, values, method=method, batch_tokens=batch)
        report = jax.tree.map(np.asarray, report)
    cost = _cost(against, system, values, report)
    on = _front(report, cost)
    chosen = {path: v[on] for path, v in values.items()}
    total, feasible, seconds = counts
    return Frontier(
        indices[on], chosen, report.time_s[on], cost[on], total, feasible, len(indices), seconds
    )


def _front(report: Report, cost: np.ndarray) -> np.ndarray:
    """Feasible designs on the front, by time."""
    fits = np.flatnonzero(report.feasible)
    on = fits[pareto(np.stack([report.time_s[fits], cost[fits]], 1))]
    return on[np.argsort(report.time_s[on], kind="stable")]


def exhaustive(
    model: ModelShape,
    system: System,
    axes: Mapping[str, Any],
    *,
    against: str = "energy_j",
    method: str = "hecaton",
) -> tuple[np.ndarray, Report]:
    """Indices of the front by computing the whole grid in float64, and the report: the oracle."""
    values = grid(axes)
    with jax.enable_x64(True), jax.default_device(jax.devices("cpu")[0]):
        report = jax.tree.map(np.asarray, sweep(model, system, values, method=method))
    return _front(report, _cost(against, system, values, report)), report

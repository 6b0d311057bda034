"""Design by gradients: log-parameters, bounds, budgets of area and power."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxml.chiplet import area as silicon
from jaxml.chiplet import field
from jaxml.chiplet.config import Mesh2D, ModelShape, Number, System
from jaxml.chiplet.model import Report, assignment, evaluate, evaluate_jit
from jaxml.chiplet.presets import SEQUENCES_PER_BATCH
from jaxml.chiplet.rounding import SMOOTH
from jaxml.chiplet.simulate import check_inputs
from jaxml.core import check
from jaxml.core.types import Array

ASPECT = "mesh.aspect"
"""Rows over columns at a fixed number of dies: a name for `free` beside those of the system."""
OBJECTIVES = ("time", "energy", "edp")


@dataclasses.dataclass(frozen=True)
class Budget:
    """Limits of a package; None is no limit."""

    area_mm2: float | None = None
    power_w: float | None = None

    def __post_init__(self):
        for name in ("area_mm2", "power_w"):
            if getattr(self, name) is not None:
                check.positive(**{name: getattr(self, name)})


@dataclasses.dataclass(frozen=True)
class Found:
    """A design, what it costs, and how it was reached.

    Attributes:
      system: the best design within the budgets that was met.
      values: of the free numbers.
      report: of that design, smooth.
      objective: its value.
      history: best value within the budgets after every step, [steps]; infinite before the first.
      evaluations: of the model, gradients counted once.
    """

    system: System
    values: dict[str, float]
    report: Report
    objective: float
    history: np.ndarray
    evaluations: int


def set_free(system: System, values: Mapping[str, Number]) -> System:
    """The system with free numbers replaced; `mesh.aspect` keeps the number of dies."""
    for path, value in values.items():
        if path == ASPECT:
            dies = system.mesh.num_dies
            mesh = Mesh2D(jnp.sqrt(dies * value), jnp.sqrt(dies / value))
            system = dataclasses.replace(system, mesh=mesh)
        else:
            system = field.put(system, path, value)
    return system


def log_objective(report: Report, objective: str) -> Number:
    """Logarithm of time, energy or their product."""
    log_time, log_energy = jnp.log(report.time_s), jnp.log(report.energy_j)
    return {"time": log_time, "energy": log_energy, "edp": log_time + log_energy}[objective]


def excess(report: Report, system: System, budget: Budget) -> Number:
    """How far budgets and buffers are overrun, in logarithms; 0 within all of them."""
    over = jax.nn.relu(-report.weight_margin) + jax.nn.relu(-report.chunk_margin)
    if budget.area_mm2 is not None:
        over += jax.nn.relu(jnp.log(silicon.package_mm2(system) / budget.area_mm2))
    if budget.power_w is not None:
        over += jax.nn.relu(jnp.log(silicon.power_w(report) / budget.power_w))
    return over


def _design(logs: Array, names: tuple[str, ...], system: System) -> System:
    return set_free(system, {name: jnp.exp(logs[i]) for i, name in enumerate(names)})


@functools.partial(
    jax.jit, static_argnames=("names", "method", "objective", "budget", "steps", "rate")
)
def _descend(
    start: Array,
    limits: tuple[Array, Array],
    base: tuple[ModelShape, System, Number],
    names: tuple[str, ...],
    method: str,
    objective: str,
    budget: Budget,
    steps: int,
    rate: float,
) -> tuple[Array, Array, Array]:
    """Projected Adam on logarithms with an exact penalty; best point, its value, its history."""
    model, system, batch = base
    optimizer = optax.adam(optax.cosine_decay_schedule(rate, steps, alpha=0.02))

    def loss(logs: Array) -> tuple[Array, tuple[Array, Array]]:
        design = _design(logs, names, system)
        report = evaluate(model, design, batch, assignment(method), SMOOTH, 1)
        value, over = log_objective(report, objective), excess(report, design, budget)
        return value + 10 * over, (value, over)

    def step(carry: Any, _: None) -> tuple[Any, Array]:
        logs, state, best, best_value = carry
        (_, (value, over)), slope = jax.value_and_grad(loss, has_aux=True)(logs)
        better = (over <= 1e-6) & (value < best_value)
        best = jnp.where(better, logs, best)
        best_value = jnp.where(better, value, best_value)
        updates, state = optimizer.update(slope, state)
        logs = jnp.clip(logs + updates, *limits)
        return (logs, state, best, best_value), best_value

    carry = (start, optimizer.init(start), start, jnp.inf * jnp.ones(()))
    (_, _, best, value), history = jax.lax.scan(step, carry, length=steps)
    return best, value, history


def optimize(
    model: ModelShape,
    system: System,
    free: Mapping[str, tuple[float, float]],
    *,
    objective: Literal["time", "energy", "edp"] = "time",
    method: str = "hecaton",
    batch_tokens: Number | None = None,
    budget: Budget | None = None,
    steps: int = 200,
    rate: float = 0.1,
) -> Found:
    """The best design that gradients find from `system`.

    Args:
      model: what is trained.
      system: where the search starts, and what is not free.
      free: lowest and highest value by name: numbers of the system, and `mesh.aspect`.
      objective: what is made small.
      method: a key of `METHODS`.
      batch_tokens: of a batch; default 256 sequences.
      budget: limits of area and power; buffers must always hold.
      steps: of gradient descent, each one evaluation of model and gradient.
      rate: of the first steps, in logarithms.

    Raises:
      ValueError: a name, bound, objective or system that makes no sense; or no design within the
        budgets was met.
    """
    check.one_of(OBJECTIVES, objective=objective)
    check.positive(steps=steps, rate=rate)
    if not free:
        raise ValueError("free must name at least one number; got none.")
    batch = SEQUENCES_PER_BATCH * model.seq_len if batch_tokens is None else batch_tokens
    check_inputs(model, system, method, batch, smooth=True)
    start = np.array([_checked(system, name, *bounds) for name, bounds in free.items()])
    limits = np.log(np.array(list(free.values()), float)).T
    dtype = jnp.result_type(float)
    base = jax.tree.map(lambda x: jnp.asarray(x, dtype), (model, system, batch))
    best, value, history = _descend(
        jnp.asarray(np.log(start), dtype),
        (jnp.asarray(limits[0], dtype), jnp.asarray(limits[1], dtype)),
        base,
        tuple(free),
        method,
        objective,
        budget or Budget(),
        steps,
        rate,
    )
    if not np.isfinite(float(value)):
        raise ValueError(f"no design within {budget} was met in {steps} steps from this start.")
    values = {name: float(np.exp(best[i])) for i, name in enumerate(free)}
    there = _design(best, tuple(free), base[1])
    report = evaluate_jit(base[0], there, base[2], assignment(method), SMOOTH, 1)
    design = jax.tree.map(float, there)
    return Found(design, values, report, float(np.exp(value)), np.exp(np.asarray(history)), steps)


def _checked(system: System, name: str, low: float, high: float) -> float:
    """The start of a free number; its bounds must enclose it."""
    mesh = system.mesh
    value = float(mesh.rows / mesh.cols if name == ASPECT else field.get(system, name))
    if not 0 < low < high:
        raise ValueError(f"bounds of {name} must be 0 < low < high; got ({low}, {high}).")
    if not low <= value <= high:
        raise ValueError(f"{name} must start within its bounds; got {value} in ({low}, {high}).")
    return value


def random_search(
    model: ModelShape,
    system: System,
    free: Mapping[str, tuple[float, float]],
    *,
    evaluations: int,
    seed: int,
    objective: Literal["time", "energy", "edp"] = "time",
    method: str = "hecaton",
    budget: Budget | None = None,
) -> float:
    """The best value within the budgets of designs drawn log-uniformly: what `optimize` must beat.

    Infinite if no design drawn is within the budgets.
    """
    draw = np.random.default_rng(seed)
    limits = np.log(np.array(list(free.values()), float))
    logs = draw.uniform(limits[:, 0], limits[:, 1], (evaluations, len(free)))
    batch = SEQUENCES_PER_BATCH * model.seq_len
    base = jax.tree.map(jnp.asarray, (model, system, batch))
    value, over = _values(
        jnp.asarray(logs), base, tuple(free), method, objective, budget or Budget()
    )
    inside = np.asarray(over) <= 1e-6
    return float(np.exp(np.asarray(value)[inside].min())) if inside.any() else float("inf")


@functools.partial(jax.jit, static_argnames=("names", "method", "objective", "budget"))
def _values(
    logs: Array,
    base: tuple[ModelShape, System, Number],
    names: tuple[str, ...],
    method: str,
    objective: str,
    budget: Budget,
) -> tuple[Array, Array]:
    def one(point: Array) -> tuple[Array, Array]:
        design = _design(point, names, base[1])
        report = evaluate(base[0], design, base[2], assignment(method), SMOOTH, 1)
        return log_objective(report, objective), excess(report, design, budget)

    return jax.vmap(one)(logs)


def elasticity(
    model: ModelShape,
    system: System,
    *,
    objective: Literal["time", "energy", "edp"] = "time",
    method: str = "hecaton",
    batch_tokens: Number | None = None,
) -> dict[str, float]:
    """`d log objective / d log x` for every number x of the system, in the smooth model.

    0.5 means: 1 % more of x makes the objective 0.5 % larger. Numbers that are 0 are left out.

    Raises:
      ValueError: see `check_inputs`.
    """
    check.one_of(OBJECTIVES, objective=objective)
    batch = SEQUENCES_PER_BATCH * model.seq_len if batch_tokens is None else batch_tokens
    check_inputs(model, system, method, batch, smooth=True)
    names = tuple(p for p in field.paths(system) if float(field.get(system, p)) > 0)
    dtype = jnp.result_type(float)
    base = jax.tree.map(lambda x: jnp.asarray(x, dtype), (model, system, batch))
    logs = jnp.log(jnp.asarray([float(field.get(system, p)) for p in names], dtype))
    slopes = _slopes(logs, base, names, method, objective)
    return {name: float(slope) for name, slope in zip(names, slopes, strict=True)}


@functools.partial(jax.jit, static_argnames=("names", "method", "objective"))
def _slopes(
    logs: Array,
    base: tuple[ModelShape, System, Number],
    names: tuple[str, ...],
    method: str,
    objective: str,
) -> Array:
    def value(logs: Array) -> Number:
        design = _design(logs, names, base[1])
        report = evaluate(base[0], design, base[2], assignment(method), SMOOTH, 1)
        return log_objective(report, objective)

    return jax.grad(value)(logs)

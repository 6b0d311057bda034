"""Robust curve fitting in float64 from many starts at once, with every local minimum reported."""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import optimize

from jaxml.core import check
from jaxml.core.types import Array, PyTree

type Residual = Callable[[Array, PyTree], Array]
"""`(parameters [p], data) -> residuals [n]`."""


class Minimum(NamedTuple):
    """A local minimum.

    Attributes:
      params: float64 [p].
      objective: its value.
      num_starts: how many of the starts that were followed to the end led here.
    """

    params: np.ndarray
    objective: float
    num_starts: int


def loss(residual_n: Array, delta: float | Array) -> Array:
    """The sum (not the mean) of Huber's function: `r^2 / 2` up to delta, linear beyond."""
    size = jnp.abs(residual_n)
    return jnp.sum(jnp.where(size <= delta, 0.5 * size**2, delta * (size - 0.5 * delta)))


def minima(
    residual: Residual,
    data: PyTree,
    starts_sp: np.ndarray,
    delta: float,
    *,
    ridge_p: np.ndarray | None = None,
    num_steps: int = 60,
    num_polished: int = 24,
    tolerance: float = 1e-3,
) -> list[Minimum]:
    """Local minima of the Huber loss, best first.

    All starts take damped, reweighted Gauss-Newton steps together; the best distinct ones are then
    followed to the end by BFGS on an objective scaled up by 1e6, since at its natural size (1e-3)
    the usual stopping rules quit early.

    Args:
      residual: the model.
      data: its arrays, float64.
      starts_sp: first parameters [s, p].
      delta: of Huber's function.
      ridge_p: penalty `sum ridge * params^2`; none by default.
      num_steps: of all starts.
      num_polished: starts that are followed to the end.
      tolerance: parameters closer than this, relative to 1 + their size, are one minimum.

    Raises:
      ValueError: a start or the data hold a number that is not finite, delta <= 0.
    """
    check.positive(delta=delta)
    starts = np.asarray(starts_sp, np.float64)
    for name, leaf in (
        ("starts_sp", starts),
        *(("data", np.asarray(a)) for a in jax.tree.leaves(data)),
    ):
        if not np.all(np.isfinite(leaf)):
            raise ValueError(
                f"{name} must hold finite numbers; got {np.sum(~np.isfinite(leaf))} others."
            )
    ridge = np.zeros(starts.shape[1]) if ridge_p is None else np.asarray(ridge_p, np.float64)
    with jax.enable_x64(True):
        data = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), data)

        ends, values = map(np.asarray, _descend(residual, data, delta, ridge, starts, num_steps))
        firsts = _distinct(ends, values, num_polished, 30 * tolerance)

        def scaled(params: np.ndarray) -> tuple[float, np.ndarray]:
            value, grad = _scaled(residual, data, delta, ridge, params)
            return float(value), np.asarray(grad)

        polished = [_polish(scaled, ends[i]) for i in firsts]
    return _merged(polished, tolerance)


def _polish(scaled: Callable, start: np.ndarray) -> tuple[np.ndarray, float]:
    best, value = start, scaled(start)[0]
    for _ in range(5):  # BFGS stops on lost precision at kinks; a fresh start goes on
        found = optimize.minimize(scaled, best, jac=True, method="BFGS", options={"gtol": 1e-7})
        if not found.fun < value - 1e-9 * abs(value):
            break
        best, value = found.x, float(found.fun)
    return best, value * 1e-6


def _objective(residual: Residual, data: PyTree, delta: Array, ridge: Array, at: Array) -> Array:
    return loss(residual(at, data), delta) + jnp.sum(ridge * at**2)


@functools.partial(jax.jit, static_argnames="residual")
def _scaled(
    residual: Residual, data: PyTree, delta: Array, ridge: Array, at: Array
) -> tuple[Array, Array]:
    return jax.value_and_grad(lambda p: 1e6 * _objective(residual, data, delta, ridge, p))(at)


@functools.partial(jax.jit, static_argnames=("residual", "num_steps"))
def _descend(
    residual: Residual, data: PyTree, delta: Array, ridge: Array, starts_sp: Array, num_steps: int
) -> tuple[Array, Array]:
    """Where every start leads, [s, p], and the objective there, [s]."""

    def objective(params: Array) -> Array:
        return _objective(residual, data, delta, ridge, params)

    def one(state: tuple[Array, Array, Array], _: None) -> tuple[tuple[Array, Array, Array], None]:
        params, value, damping = state
        r, jacobian = residual(params, data), jax.jacfwd(residual)(params, data)
        weight = 1.0 / jnp.maximum(1.0, jnp.abs(r) / delta)
        slope = jacobian.T @ (weight * r) + 2 * ridge * params
        curve = (jacobian * weight[:, None]).T @ jacobian + jnp.diag(2 * ridge)
        damped = curve + damping * jnp.diag(jnp.diag(curve) + 1e-12)
        moved = params - jnp.linalg.solve(damped, slope)
        new = objective(moved)
        better = jnp.isfinite(new) & (new < value)
        damping = jnp.clip(jnp.where(better, damping * 0.3, damping * 5.0), 1e-9, 1e9)
        state = (jnp.where(better, moved, params), jnp.where(better, new, value), damping)
        return state, None

    def run(start: Array) -> tuple[Array, Array]:
        first = (start, objective(start), jnp.asarray(1e-2, start.dtype))
        (params, value, _), _ = jax.lax.scan(one, first, length=num_steps)
        return params, value

    return jax.vmap(run)(starts_sp)


def _near(a: np.ndarray, b: np.ndarray, tolerance: float) -> bool:
    return bool(np.all(np.abs(a - b) <= tolerance * (1 + np.abs(b))))


def _distinct(ends: np.ndarray, values: np.ndarray, limit: int, tolerance: float) -> list[int]:
    chosen: list[int] = []
    for i in np.argsort(values, kind="stable"):
        if not np.isfinite(values[i]) or len(chosen) == limit:
            break
        if not any(_near(ends[i], ends[j], tolerance) for j in chosen):
            chosen.append(int(i))
    return chosen


def _merged(found: Sequence[tuple[np.ndarray, float]], tolerance: float) -> list[Minimum]:
    out: list[Minimum] = []
    for params, value in sorted(found, key=lambda pair: pair[1]):
        for i, known in enumerate(out):
            if _near(params, known.params, tolerance):
                out[i] = known._replace(num_starts=known.num_starts + 1)
                break
        else:
            out.append(Minimum(params, value, 1))
    return out

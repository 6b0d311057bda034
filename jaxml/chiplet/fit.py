"""Fitting constants to measurements, and how far a fit errs on what it has not seen."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxml.core import check

type Predict = Callable[[Mapping[str, Any]], Any]


@dataclasses.dataclass(frozen=True)
class Fit:
    """Fitted constants and relative errors.

    Attributes:
      params: constants by name.
      predicted: [n].
      error: `predicted / measured - 1`, [n].
    """

    params: dict[str, float]
    predicted: np.ndarray
    error: np.ndarray

    @property
    def mean(self) -> float:
        """Mean of the absolute errors."""
        return float(np.abs(self.error).mean())

    @property
    def worst(self) -> float:
        """Largest absolute error."""
        return float(np.abs(self.error).max())


def fit(
    predict: Predict,
    measured: Sequence[float],
    start: Mapping[str, float],
    *,
    weights: Sequence[float] | None = None,
    steps: int = 60,
) -> Fit:
    """Positive constants that minimise the squared logarithms of `predicted / measured`.

    Levenberg and Marquardt's method on the logarithms of the constants, in float64 on the host.

    Args:
      predict: `{name: constant} -> [n]`, made of jax operations.
      measured: n positive values.
      start: where to begin, all positive.
      weights: of the points, >= 0; 0 leaves one out.
      steps: most steps.

    Raises:
      ValueError: measured or start is not positive, or fewer points than constants.

    >>> found = fit(lambda p: p["a"] * jnp.array([1.0, 2.0]), [3.0, 6.0], {"a": 1.0})
    >>> round(found.params["a"], 6)
    3.0
    """
    check.positive(**start)
    names, want = tuple(start), np.asarray(measured, np.float64)
    for i, value in enumerate(want):
        check.positive(**{f"measured_{i}": float(value)})
    mass = np.ones(len(want)) if weights is None else np.asarray(weights, np.float64)
    if (mass > 0).sum() < len(names):
        raise ValueError(
            f"measured must have at least as many points as constants; got {(mass > 0).sum()} "
            f"points, {len(names)} constants."
        )
    with jax.enable_x64(True), jax.default_device(jax.devices("cpu")[0]):

        def residual(logs: jax.Array) -> jax.Array:
            params = {name: jnp.exp(logs[i]) for i, name in enumerate(names)}
            return jnp.sqrt(mass) * (jnp.log(predict(params)) - jnp.log(want))

        logs = _marquardt(
            jax.jit(residual), jax.jit(jax.jacfwd(residual)), np.log(list(start.values())), steps
        )
        params = {name: float(np.exp(logs[i])) for i, name in enumerate(names)}
        predicted = np.asarray(predict(params), np.float64)
    return Fit(params, predicted, predicted / want - 1)


def _marquardt(residual: Callable, slope: Callable, logs: np.ndarray, steps: int) -> np.ndarray:
    damping, here = 1e-3, np.asarray(residual(logs))
    for _ in range(steps):
        a = np.asarray(slope(logs))
        normal, gradient = a.T @ a, a.T @ here
        move = np.linalg.solve(normal + damping * np.diag(np.diag(normal) + 1e-12), -gradient)
        there = np.asarray(residual(logs + move))
        if (there**2).sum() < (here**2).sum():
            logs, here, damping = logs + move, there, damping / 3
            if np.abs(move).max() < 1e-12:
                break
        else:
            damping *= 4
    return logs


def leave_one_out(
    predict: Predict,
    measured: Sequence[float],
    groups: Sequence[str],
    start: Mapping[str, float],
) -> Fit:
    """Each group predicted with constants fitted to the others; `params` are of all points."""
    want = np.asarray(measured, np.float64)
    predicted = np.empty(len(want))
    for group in dict.fromkeys(groups):
        held = np.array([g == group for g in groups])
        found = fit(predict, measured, start, weights=(~held).astype(float).tolist())
        predicted[held] = found.predicted[held]
    params = fit(predict, measured, start).params
    return Fit(params, predicted, predicted / want - 1)

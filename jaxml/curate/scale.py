"""Scaling laws: Chinchilla, its data-constrained form, and what to train within a budget."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxml.core import check
from jaxml.core.types import Array, PyTree
from jaxml.curate import huber
from jaxml.curate.huber import Minimum
from jaxml.curate.law import C4_LAW, PUBLISHED, Law, Repetition, constrained_loss, effective
from jaxml.curate.plan import Plan, plan

__all__ = [
    "C4_LAW",
    "DELTA",
    "GRID",
    "PUBLISHED",
    "REPETITION_STARTS",
    "ChinchillaFit",
    "Law",
    "Plan",
    "Repetition",
    "RepetitionFit",
    "constrained_loss",
    "fit_chinchilla",
    "fit_repetition",
    "plan",
]

DELTA = 1e-3
GRID = tuple(
    itertools.product(
        (0.0, 5.0, 10.0, 15.0, 20.0, 25.0),
        (0.0, 5.0, 10.0, 15.0, 20.0, 25.0),
        (-1.0, -0.5, 0.0, 0.5, 1.0),
        (0.0, 0.5, 1.0, 1.5, 2.0),
        (0.0, 0.5, 1.0, 1.5, 2.0),
    )
)
"""Starts (a, b, e, alpha, beta) of Hoffmann et al. (2022)."""
REPETITION_STARTS = tuple(itertools.product((1e-2, 6.67, 13.3, 20.0), repeat=2))
"""Starts (R_D*, R_N*) of Muennighoff et al. (2023), whose zeros are 0.01 here."""


class ChinchillaFit(NamedTuple):
    """A fitted law.

    Attributes:
      law: of the best minimum.
      objective: sum of Huber losses there.
      minima: all local minima found, best first.
      bootstrap: float64 [draws, 5], laws of resampled runs; empty if none were asked for.
    """

    law: Law
    objective: float
    minima: list[Minimum]
    bootstrap: np.ndarray


def _runs(**columns: Sequence[float] | np.ndarray) -> dict[str, np.ndarray]:
    arrays = {name: np.asarray(values, np.float64).ravel() for name, values in columns.items()}
    sizes = {name: len(values) for name, values in arrays.items()}
    if len(set(sizes.values())) > 1:
        raise ValueError(f"columns must be of one length; got {sizes}.")
    for name, values in arrays.items():
        bad = np.flatnonzero(~(np.isfinite(values) & (values > 0)))
        if len(bad):
            raise ValueError(
                f"{name} must be finite and > 0; got {name}[{bad[0]}]={values[bad[0]]}."
            )
    return arrays


def _chinchilla(params: Array, data: PyTree) -> Array:
    a, b, e, alpha, beta = params
    terms = jnp.stack(
        [a - alpha * data["n"], b - beta * data["d"], jnp.broadcast_to(e, data["n"].shape)]
    )
    return jax.nn.logsumexp(terms, axis=0) - data["loss"]


def fit_chinchilla(
    num_params: Sequence[float] | np.ndarray,
    num_tokens: Sequence[float] | np.ndarray,
    loss: Sequence[float] | np.ndarray,
    *,
    num_bootstrap: int = 0,
    seed: int = 0,
    starts: Sequence[Sequence[float]] = GRID,
) -> ChinchillaFit:
    """Fits Chinchilla's law as Hoffmann et al. (2022), approach 3.

    The Huber loss (delta 1e-3, summed) of `LSE(a - alpha ln N, b - beta ln D, e) - ln L`, from the
    4,500 starts of the paper, in float64.

    Args:
      num_params: N of each run.
      num_tokens: D of each run.
      loss: final loss of each run.
      num_bootstrap: resampled sets of runs that are fitted from the best minimum.
      seed: of resampling.
      starts: (a, b, e, alpha, beta) to begin from.

    Raises:
      ValueError: fewer than 5 runs, columns of different length, a value not finite or <= 0.
    """
    runs = _runs(num_params=num_params, num_tokens=num_tokens, loss=loss)
    check.at_least(5, num_runs=len(runs["loss"]))
    data = {
        "n": np.log(runs["num_params"]),
        "d": np.log(runs["num_tokens"]),
        "loss": np.log(runs["loss"]),
    }
    found = huber.minima(_chinchilla, data, np.array(starts), DELTA)
    draws = np.random.default_rng(seed).integers(0, len(data["n"]), (num_bootstrap, len(data["n"])))
    laws = [_refit(jax.tree.map(lambda x: x[rows], data), found[0].params) for rows in draws]  # noqa: B023
    bootstrap = np.array(laws).reshape(-1, 5)
    return ChinchillaFit(Law(*map(float, found[0].params)), found[0].objective, found, bootstrap)


def _refit(data: PyTree, start: np.ndarray) -> np.ndarray:
    return huber.minima(_chinchilla, data, start[None], DELTA, num_polished=1)[0].params


class RepetitionFit(NamedTuple):
    """A fitted data-constrained law.

    Attributes:
      paper: what the starts of the paper lead to.
      best: the best minimum of all starts.
      minima: all local minima as (R_D*, R_N*), best first.
      r2: of the losses, at `paper`, at `best`, and of the law without repetition.
    """

    paper: Minimum
    best: Minimum
    minima: list[Minimum]
    r2: tuple[float, float, float]


def fit_repetition(
    num_params: Sequence[float] | np.ndarray,
    num_tokens: Sequence[float] | np.ndarray,
    unique_tokens: Sequence[float] | np.ndarray,
    loss: Sequence[float] | np.ndarray,
    law: Law = C4_LAW,
) -> RepetitionFit:
    """Fits R_D* and R_N* with the law held fixed, from the paper's starts and from a wide grid.

    Args:
      num_params: N of each run.
      num_tokens: D, tokens read.
      unique_tokens: U, different tokens among them.
      loss: final loss.
      law: coefficients that stay.

    Raises:
      ValueError: fewer than 2 runs, columns of different length, a value not finite or <= 0, or
        D < U.
    """
    runs = _runs(
        num_params=num_params, num_tokens=num_tokens, unique_tokens=unique_tokens, loss=loss
    )
    check.at_least(2, num_runs=len(runs["loss"]))
    fewer = np.flatnonzero(runs["num_tokens"] < runs["unique_tokens"] * (1 - 1e-9))
    if len(fewer):
        raise ValueError(
            f"num_tokens must be >= unique_tokens; got {runs['num_tokens'][fewer[0]]:g} < "
            f"{runs['unique_tokens'][fewer[0]]:g} in run {fewer[0]}."
        )

    def residual(logs: Array, data: PyTree) -> Array:
        n, d = effective(logs, data["num_params"], data["num_tokens"], data["unique_tokens"], law)
        terms = [law.a - law.alpha * jnp.log(n), law.b - law.beta * jnp.log(d)]
        terms.append(jnp.full_like(terms[0], law.e))
        return jax.nn.logsumexp(jnp.stack(terms), axis=0) - jnp.log(data["loss"])

    wide = np.array(list(itertools.product(np.geomspace(1, 300, 9), np.geomspace(0.3, 60, 9))))
    own = huber.minima(residual, runs, np.log(REPETITION_STARTS), DELTA, tolerance=2e-3)
    every = huber.minima(
        residual, runs, np.log(np.concatenate([REPETITION_STARTS, wide])), DELTA, tolerance=2e-3
    )
    every = [m._replace(params=np.exp(m.params)) for m in every]
    own = [m._replace(params=np.exp(m.params)) for m in own]
    paper = min(own, key=lambda m: float(np.sum(np.log(m.params / np.array(PUBLISHED)) ** 2)))
    explained = [_r2(runs, Repetition(*m.params), law) for m in (paper, every[0])]
    plain = _share(law.loss(runs["num_params"], runs["num_tokens"]), runs["loss"])
    return RepetitionFit(paper, every[0], every, (explained[0], explained[1], plain))


def _share(predicted: np.ndarray, loss: np.ndarray) -> float:
    return float(1 - np.sum((predicted - loss) ** 2) / np.sum((loss - loss.mean()) ** 2))


def _r2(runs: dict[str, np.ndarray], repetition: Repetition, law: Law) -> float:
    sizes = (runs["num_params"], runs["num_tokens"], runs["unique_tokens"])
    return _share(constrained_loss(*sizes, repetition, law), runs["loss"])

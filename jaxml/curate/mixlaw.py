"""Data mixing laws: loss of a validation domain as a function of the mixture (Ye et al. 2024)."""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from scipy import optimize

from jaxml.core import check
from jaxml.core.types import Array, PyTree
from jaxml.curate import huber


class MixingLaw(NamedTuple):
    """`L_i(r) = c_i + exp(s_i + sum_j t_ij r_j)` with `sum_j t_ij = 0`.

    Attributes:
      c: float64 [V], what is left of the loss.
      s: float64 [V], ln k_i.
      t: float64 [V, K].
    """

    c: np.ndarray
    s: np.ndarray
    t: np.ndarray

    def losses(self, mixtures_nk: np.ndarray) -> np.ndarray:
        """Predicted losses [n, V]."""
        return self.c + np.exp(self.s + np.asarray(mixtures_nk, np.float64) @ self.t.T)

    def overall(self, mixtures_nk: np.ndarray, shares_v: np.ndarray) -> np.ndarray:
        """The losses weighted by the validation domains' shares: [n]."""
        return self.losses(mixtures_nk) @ np.asarray(shares_v, np.float64)


def _basis(num: int) -> np.ndarray:
    """An orthonormal basis [K, K - 1] of the vectors that sum to zero: the gauge is fixed by it.

    Since mixtures sum to one, adding a constant to all of t_i is the same as changing k_i.
    """
    return np.linalg.qr(np.eye(num) - 1.0 / num)[0][:, : num - 1]


def _residual(params: Array, data: PyTree) -> Array:
    c, s = params[0], params[1]
    predicted = jnp.exp(c) + jnp.exp(s + data["mixture"] @ params[2:])
    return predicted - data["loss"]


def fit_mixing_law(
    mixtures_nk: np.ndarray,
    losses_nv: np.ndarray,
    *,
    delta: float = 0.02,
    ridge: float = 1e-5,
    num_starts: int = 64,
    seed: int = 0,
) -> MixingLaw:
    """Fits every validation domain on its own, from many starts.

    A small ridge on t keeps a law that the runs leave open from predicting absurd losses elsewhere.

    Args:
      mixtures_nk: proportions of each run, rows on the simplex.
      losses_nv: losses of each run on the validation domains.
      delta: of Huber's function, nats.
      ridge: penalty of the squares of t.
      num_starts: of each fit.
      seed: of the starts.

    Raises:
      ValueError: a mixture off the simplex, sizes that differ, a loss that is not finite or <= 0.
    """
    mixtures = np.asarray(mixtures_nk, np.float64)
    losses = np.asarray(losses_nv, np.float64)
    num, parts = mixtures.shape
    check.shape("losses_nv", losses, [num, "v"])
    check.at_least(0, ridge=ridge)
    if np.any(mixtures < 0) or not np.allclose(mixtures.sum(1), 1, atol=1e-5):
        bad = int(np.argmax(np.abs(mixtures.sum(1) - 1) + (mixtures.min(1) < 0)))
        raise ValueError(f"mixtures_nk must lie on the simplex; got row {bad}: {mixtures[bad]}.")
    if not np.all(np.isfinite(losses) & (losses > 0)):
        raise ValueError("losses_nv must be finite and > 0.")
    basis = _basis(parts)
    rng = np.random.default_rng(seed)
    fits = []
    for loss in losses.T:
        spread = np.log(max(np.ptp(loss), 1e-3))
        starts = np.concatenate(
            [
                np.log(loss.min() * rng.uniform(0.2, 1.0, (num_starts, 1))),
                spread + rng.normal(0, 1, (num_starts, 1)),
                rng.normal(0, 2, (num_starts, parts - 1)),
            ],
            1,
        )
        data = {"mixture": mixtures @ basis, "loss": loss}
        penalty = np.array([0.0, 0.0, *[ridge] * (parts - 1)])
        best = huber.minima(_residual, data, starts, delta, ridge_p=penalty, num_polished=3)[0]
        fits.append(best.params)
    table = np.array(fits)
    return MixingLaw(np.exp(table[:, 0]), table[:, 1], table[:, 2:] @ basis.T)


def minimise_mixture(
    law: MixingLaw,
    shares_v: Sequence[float] | np.ndarray,
    upper: Sequence[float] | np.ndarray | None = None,
    num_starts: int = 16,
    seed: int = 0,
) -> tuple[np.ndarray, float]:
    """The mixture of the least overall loss, float64 [K], and that loss.

    The overall loss is convex where all shares are >= 0, so the starts only guard the solver.

    Args:
      law: fitted.
      shares_v: weight of each validation domain.
      upper: largest proportion of each domain, e.g. what the tokens there are allow; 1 by default.
      num_starts: points of the simplex to begin from.
      seed: of these.

    Raises:
      ValueError: shares or upper of the wrong size, or upper sums to less than one.
    """
    shares = np.asarray(shares_v, np.float64)
    parts = law.t.shape[1]
    check.shape("shares_v", shares, [len(law.c)])
    limit = np.ones(parts) if upper is None else np.asarray(upper, np.float64)
    check.shape("upper", limit, [parts])
    if limit.sum() < 1:
        raise ValueError(f"upper must sum to at least 1; got {limit.sum():g}.")

    def value(r: np.ndarray) -> tuple[float, np.ndarray]:
        part = shares * np.exp(law.s + law.t @ r)
        return float(shares @ law.c + part.sum()), law.t.T @ part

    starts = np.random.default_rng(seed).dirichlet(np.ones(parts), num_starts)
    one = {"type": "eq", "fun": lambda r: r.sum() - 1, "jac": lambda r: np.ones(parts)}
    found = [
        optimize.minimize(
            value, r, jac=True, method="SLSQP", bounds=[(0, u) for u in limit], constraints=[one],
            options={"ftol": 1e-12, "maxiter": 500},
        )
        for r in np.minimum(starts, limit)
    ]  # fmt: skip
    best = min(found, key=lambda f: f.fun if abs(f.x.sum() - 1) < 1e-6 else np.inf)
    return best.x, float(best.fun)


def power_law(x: np.ndarray, losses: np.ndarray, at: float) -> float:
    """`c + k x^-p` through losses at growing steps or sizes, read off at a larger one.

    The inner part of the nested law: extrapolate each mixture, then fit the mixing law there.

    Raises:
      ValueError: fewer than 3 points, or a value that is not finite and positive.
    """
    x, losses = np.asarray(x, np.float64), np.asarray(losses, np.float64)
    check.at_least(3, num_points=len(x))
    if not (np.all(np.isfinite(x) & (x > 0)) and np.all(np.isfinite(losses) & (losses > 0))):
        raise ValueError("x and losses must be finite and > 0.")
    data = {"x": np.log(x / x[-1]), "loss": losses}

    def residual(params: Array, data: PyTree) -> Array:
        return jnp.exp(params[0]) + jnp.exp(params[1] - params[2] * data["x"]) - data["loss"]

    first = np.log(losses[-1] * np.array([0.5, 0.8, 0.95]))
    starts = np.array([[c, np.log(losses[-1] * 0.2), p] for c in first for p in (0.1, 0.3, 0.7)])
    c, s, p = huber.minima(residual, data, starts, 0.02, num_polished=3)[0].params
    return float(np.exp(c) + np.exp(s - p * np.log(at / x[-1])))


def mean_absolute_error(law: MixingLaw, mixtures: np.ndarray, losses: np.ndarray) -> np.ndarray:
    """Of each validation domain on runs that were held out: float64 [V]."""
    return np.abs(law.losses(mixtures) - np.asarray(losses)).mean(0)

"""Gaussian differential privacy: (epsilon, delta) of mu, and mu of noisy gradient descent.

Everything is float64 on the host and computed in logarithms, so that small mu, small delta and
contraction factors next to 1 lose no digits. `c` is the contraction factor of an update,
`sensitivity_ratio` is L / (b s): the largest change of a batch's mean gradient by one example over
the deviation s of its noise. Theorem numbers are those of Bok, Su, Altschuler, "Shifted
interpolation for differential privacy" (2024).
"""

import math

import numpy as np
from scipy.optimize import brentq
from scipy.special import log_ndtr

from jaxml.core import check
from jaxml.dp.config import in_open_interval


def gdp_log_delta(mu: float, eps: float) -> float:
    """Log delta(eps) of mu-GDP, `delta = Phi(-eps/mu + mu/2) - e^eps Phi(-eps/mu - mu/2)`."""
    check.at_least(0, mu=mu)
    if mu == 0:
        return -math.inf if eps >= 0 else math.log(-math.expm1(eps))
    first = float(log_ndtr(-eps / mu + mu / 2))
    second = eps + float(log_ndtr(-eps / mu - mu / 2))
    gap = second - first
    return first + math.log(-math.expm1(gap)) if gap < 0 else -math.inf


def gdp_delta(mu: float, eps: float) -> float:
    """delta(eps) of mu-GDP (Dong, Roth, Su, corollary 2.13).

    >>> round(gdp_delta(1.0, 1.0), 6)
    0.126937
    """
    return math.exp(gdp_log_delta(mu, eps))


def gdp_epsilon(mu: float, delta: float) -> float:
    """Smallest eps >= 0 with delta(eps) <= delta.

    Raises:
      ValueError: delta outside (0, 1), negative mu.

    >>> round(gdp_epsilon(0.5, 1e-5), 4)
    1.9931
    """
    in_open_interval(delta=delta)
    check.at_least(0, mu=mu)
    target = math.log(delta)
    if mu == 0 or gdp_log_delta(mu, 0.0) <= target:
        return 0.0
    high = mu
    while gdp_log_delta(mu, high) > target:
        high *= 2
    found = brentq(lambda e: gdp_log_delta(mu, e) - target, 0.0, high, xtol=1e-15, rtol=1e-14)  # pyright: ignore[reportArgumentType]
    return float(found)  # pyright: ignore[reportArgumentType]


def gdp_mu(eps: float, delta: float) -> float:
    """Largest mu whose delta(eps) is at most delta: the inverse of `gdp_epsilon`."""
    in_open_interval(delta=delta)
    check.positive(eps=eps)
    low, high, target = 1e-12, 1.0, math.log(delta)
    while gdp_log_delta(high, eps) < target:
        high *= 2
    found = brentq(lambda m: gdp_log_delta(m, eps) - target, low, high, xtol=1e-15, rtol=1e-14)  # pyright: ignore[reportArgumentType]
    return float(found)  # pyright: ignore[reportArgumentType]


def contraction_factor(learning_rate: float, l2: float, smoothness: float) -> float:
    """Factor c of `v - eta (grad + lambda v)`: max |1 - eta (h + lambda)| over 0 <= h <= beta.

    The data term is convex. It is `1 - eta lambda` where `eta (beta + 2 lambda) <= 2`.

    >>> contraction_factor(1.0, 0.25, 0.5)
    0.75
    """
    check.positive(learning_rate=learning_rate, smoothness=smoothness)
    check.at_least(0, l2=l2)
    eta = learning_rate
    return max(abs(1 - eta * l2), abs(1 - eta * (smoothness + l2)))


def _check(c: float, sensitivity_ratio: float, **counts: int) -> float:
    """Checks arguments; returns -log c."""
    check.positive(sensitivity_ratio=sensitivity_ratio, **counts)
    if not 0 < c <= 1:
        raise ValueError(f"c must lie in (0, 1]; got c={c}.")
    return -math.log(c)


def _cycle(a: float, num_batches: int, rounds: int) -> float:
    """(1 - c^2) / (1 - c^l)^2 (1 - c^(l n)) / (1 + c^(l n)) with c = e^-a; n / l where a = 0."""
    if a * num_batches * max(rounds, 1) < 1e-300:
        return rounds / num_batches
    once = math.expm1(-a * num_batches)
    return -math.expm1(-2 * a) / once**2 * math.tanh(a * num_batches * rounds / 2)


def noisy_gd_mu(c: float, steps: int, sensitivity_ratio: float) -> float:
    """The mu of the last iterate of full-batch noisy gradient descent; exact (theorem 4.1)."""
    a = _check(c, sensitivity_ratio, steps=steps)
    return sensitivity_ratio * math.sqrt(_cycle(a, 1, steps))


def noisy_cgd_mu(c: float, num_batches: int, epochs: int, sensitivity_ratio: float) -> float:
    """The mu of the last iterate of noisy cyclic gradient descent (theorem 4.5).

    With one batch it is full-batch descent, and its exact value is given, which is smaller.

    Args:
      c: contraction factor of every update, in (0, 1].
      num_batches: l.
      epochs: E.
      sensitivity_ratio: L / (b s); 2 / sigma where one example is replaced.

    >>> noisy_cgd_mu(0.9, num_batches=60, epochs=1, sensitivity_ratio=0.4)
    0.4
    """
    a = _check(c, sensitivity_ratio, num_batches=num_batches, epochs=epochs)
    if num_batches == 1:
        return noisy_gd_mu(c, epochs, sensitivity_ratio)
    shared = math.exp(-a * (2 * num_batches - 2)) * _cycle(a, num_batches, epochs - 1)
    return sensitivity_ratio * math.sqrt(1 + shared)


def noisy_cgd_lower_mu(c: float, num_batches: int, epochs: int, sensitivity_ratio: float) -> float:
    """Reached by a linear loss, its example in the last batch: no accountant may be below."""
    a = _check(c, sensitivity_ratio, num_batches=num_batches, epochs=epochs)
    return sensitivity_ratio * math.sqrt(_cycle(a, num_batches, epochs))


def composition_mu(epochs: int, sensitivity_ratio: float) -> float:
    """The mu where every iterate is released: each example is seen once an epoch.

    Holds for any clipping and any order of disjoint batches that does not depend on the data.
    """
    check.positive(epochs=epochs, sensitivity_ratio=sensitivity_ratio)
    return sensitivity_ratio * math.sqrt(epochs)


def noisy_cgd_projected_mu(
    *,
    diameter: float,
    learning_rate: float,
    sensitivity: float,
    batch_size: int,
    num_batches: int,
    noise_std: float,
) -> float:
    """The mu for convex losses with iterates projected on a set of this diameter, any epochs.

    Args:
      diameter: D of the set.
      learning_rate: eta; eta beta <= 2.
      sensitivity: L, largest change of an example's gradient.
      batch_size: b.
      num_batches: l.
      noise_std: s, of the noise of the mean gradient.
    """
    check.positive(diameter=diameter, learning_rate=learning_rate, sensitivity=sensitivity)
    check.positive(batch_size=batch_size, num_batches=num_batches, noise_std=noise_std)
    per_batch = sensitivity / batch_size
    way = 3 * sensitivity * diameter / (learning_rate * batch_size * num_batches)
    rounds = math.ceil(diameter * batch_size / (sensitivity * learning_rate))
    return math.sqrt(way + per_batch**2 + per_batch**2 / num_batches * rounds) / noise_std


def compose(mus: np.ndarray | list[float]) -> float:
    """The mu of several releases on the same data, each chosen in sight of those before.

    >>> compose([3.0, 4.0])
    5.0
    """
    return float(np.sqrt(np.sum(np.square(np.asarray(mus, np.float64)))))

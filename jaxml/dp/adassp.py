"""Private ridge regression from noised sufficient statistics, AdaSSP (Wang 2018), in GDP.

Every bound is known beforehand: features have norm at most B by construction and one-hot targets
have norm 1, so nothing is read off the data to scale the noise.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import norm

from jaxml.core import check, rng
from jaxml.core.types import Array, Key
from jaxml.dp import gating
from jaxml.dp.config import ConvexReLUConfig


class Moments(NamedTuple):
    """Sums over examples: features' second moments [m, m], and with targets [m, K]; float64."""

    second: np.ndarray
    cross: np.ndarray


def moments(
    x: Array, u: Array, label: Array, model: ConvexReLUConfig, chunk: int = 2000
) -> Moments:
    """Sufficient statistics of the gated features `phi`, m = P d of them.

    Args:
      x: [n, d].
      u: gate directions [d, P].
      label: int [n].
      model: the model; one-hot targets of its K classes.
      chunk: examples at a time.
    """
    size = model.num_gates * model.in_dim
    second, cross = np.zeros((size, size)), np.zeros((size, model.num_classes))

    @jax.jit
    def part(x: Array, label: Array) -> tuple[Array, Array]:
        phi = gating.features(x, gating.gates(x, u), model)
        return phi.T @ phi, phi.T @ jax.nn.one_hot(label, model.num_classes)

    for i in range(0, x.shape[0], chunk):
        a, b = part(x[i : i + chunk], label[i : i + chunk])
        second += np.asarray(a, np.float64)
        cross += np.asarray(b, np.float64)
    return Moments(second, cross)


def adassp(key: Key, sums: Moments, mu: float, *, feature_bound: float = 1.0) -> np.ndarray:
    """Weights [m, K] under mu-GDP, one example replaced.

    A third of mu^2 each goes to the smallest eigenvalue, the second moments and the cross moments.
    Replacing one example changes them by at most B^2, sqrt(2) B^2 and 2 B.

    Args:
      key: of the noise.
      sums: of the data.
      mu: of the whole release.
      feature_bound: B, a bound on the features' norm that does not depend on the data.

    Raises:
      ValueError: a value not above 0.
    """
    check.positive(mu=mu, feature_bound=feature_bound)
    size, share = sums.second.shape[0], math.sqrt(3) / mu

    def draw(name: str, shape: tuple[int, ...]) -> np.ndarray:
        return np.asarray(jax.random.normal(rng.fold(key, name), shape), np.float64)

    square = feature_bound**2
    smallest = float(np.linalg.eigvalsh(sums.second)[0])
    # Lowered so that it is below the true one with probability 0.95.
    noised = smallest + square * share * (float(draw("smallest", ())) - norm.ppf(0.95))
    upper = np.triu(draw("second", (size, size)))
    symmetric = upper + np.triu(upper, 1).T
    second = sums.second + math.sqrt(2) * square * share * symmetric
    cross = sums.cross + 2 * feature_bound * share * draw("cross", sums.cross.shape)
    # The noise's spectral norm is about 2 sqrt(m) deviations.
    ridge = max(0.0, 2 * math.sqrt(2 * size) * square * share - max(noised, 0.0))
    return np.linalg.solve(second + ridge * np.eye(size), cross)


def as_gates(weights: np.ndarray, model: ConvexReLUConfig) -> Array:
    """The weights as parameters of the convex model, [P, d, K]."""
    return jnp.asarray(
        weights.reshape(model.num_gates, model.in_dim, model.num_classes), jnp.float32
    )

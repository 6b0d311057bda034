"""The laws themselves: Chinchilla's, and what repeated data and parameters are worth."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxml.core import check
from jaxml.core.types import Array


class Law(NamedTuple):
    """`L = E + A / N^alpha + B / D^beta`, with a, b, e the logarithms of A, B, E."""

    a: float
    b: float
    e: float
    alpha: float
    beta: float

    @property
    def ratio(self) -> float:
        """G = (alpha A / (beta B))^(1 / (alpha + beta))."""
        log = np.log(self.alpha) + self.a - np.log(self.beta) - self.b
        return float(np.exp(log / (self.alpha + self.beta)))

    def loss(self, num_params: float | np.ndarray, num_tokens: float | np.ndarray) -> np.ndarray:
        """Predicted loss, nats per token."""
        n, d = np.log(num_params), np.log(num_tokens)
        terms = (self.a - self.alpha * n, self.b - self.beta * d)
        return np.exp(self.e) + np.exp(terms[0]) + np.exp(terms[1])

    def optimum(self, flops: float) -> tuple[float, float]:
        """Parameters and tokens of the least loss at `flops = 6 N D`."""
        check.positive(flops=flops)
        n = self.ratio * (flops / 6) ** (self.beta / (self.alpha + self.beta))
        return float(n), float(flops / 6 / n)


C4_LAW = Law(6.255414, 7.3049974, 0.6254804, 0.3526596, 0.3526596)
"""Coefficients that the data-constrained law of Muennighoff et al. holds fixed."""


class Repetition(NamedTuple):
    """R_D* and R_N*: repeats after which data and parameters are worth little more."""

    tokens: float
    params: float


PUBLISHED = Repetition(15.387756, 5.309743)
"""The paper's fit; the same objective has better minima, see `fit_repetition`."""


def effective(
    log_repeats: Array, num_params: Array, num_tokens: Array, unique: Array, law: Law
) -> tuple[Array, Array]:
    """N' and D' of Muennighoff et al.: what repeated parameters and tokens are worth."""
    star_d, star_n = jnp.exp(log_repeats[0]), jnp.exp(log_repeats[1])
    repeats = jnp.maximum(num_tokens / unique - 1, 0)
    tokens = unique + unique * star_d * -jnp.expm1(-repeats / star_d)
    enough = (unique * law.ratio) ** (law.beta / law.alpha) * law.ratio
    base = jnp.minimum(num_params, enough)
    excess = jnp.maximum(num_params / base - 1, 0)
    return base + base * star_n * -jnp.expm1(-excess / star_n), tokens


def constrained_loss(
    num_params: float | np.ndarray,
    num_tokens: float | np.ndarray,
    unique_tokens: float | np.ndarray,
    repetition: Repetition = PUBLISHED,
    law: Law = C4_LAW,
) -> np.ndarray:
    """Loss when `num_tokens` are read of which `unique_tokens` are different, nats per token.

    >>> round(float(constrained_loss(6.34e9, 242e9, 25e9)), 6)
    2.225644
    """
    with jax.enable_x64(True):
        logs = jnp.log(jnp.asarray(repetition, jnp.float64))
        sizes = [jnp.asarray(x, jnp.float64) for x in (num_params, num_tokens, unique_tokens)]
        n, d = (np.asarray(x) for x in effective(logs, sizes[0], sizes[1], sizes[2], law))
    return law.loss(n, d)

"""Auditing: what a trained model shows of its noise and of single examples.

Three looks from weak to strong claims: the law of the noise on coordinates that no example
touches, the shift that one example makes in the last iterate, and a lower bound on epsilon from
one training with many canaries (Steinke, Nasr, Jagielski 2023).
"""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import beta, binom, chi2

from jaxml.core import check, rng
from jaxml.core.types import Array, Key
from jaxml.dp import descent, gating, grid, privacy
from jaxml.dp.config import ConvexReLUConfig, NoisyCGDConfig, in_open_interval


class NoiseLaw(NamedTuple):
    """Variance found over variance expected, how many coordinates, and the two-sided p-value."""

    ratio: float
    count: int
    p_value: float


def expected_variance(cfg: NoisyCGDConfig, model: ConvexReLUConfig, updates: int) -> float:
    """Variance of a coordinate of V that no example touches, after so many updates.

    Such a coordinate is `v <- (1 - eta lambda) v - eta s n`: a sum of independent draws.
    """
    rate = descent.rates(cfg, model)
    one = (float(rate.learning_rate) * float(rate.noise_std)) ** 2
    keep = (1 - float(rate.learning_rate) * float(rate.l2)) ** 2
    return one * (updates if keep == 1 else (1 - keep**updates) / (1 - keep))


def noise_law(
    v: Array, untouched: np.ndarray, cfg: NoisyCGDConfig, model: ConvexReLUConfig, updates: int
) -> NoiseLaw:
    """Tests the noise on input coordinates that are zero in every example.

    Noise added per shard, divided twice, drawn from one key again, or missing changes the ratio.

    Args:
      v: last iterate [P, d, K].
      untouched: which of the d coordinates are zero in all examples, bool [d].
      cfg: the training.
      model: the model.
      updates: made in all.

    Raises:
      ValueError: no such coordinate.
    """
    values = np.asarray(v, np.float64)[:, untouched, :].ravel()
    if values.size == 0:
        raise ValueError("untouched must mark at least one coordinate; got none.")
    total = float(np.sum(values**2)) / expected_variance(cfg, model, updates)
    tail = float(min(chi2.cdf(total, values.size), chi2.sf(total, values.size)))
    return NoiseLaw(total / values.size, values.size, min(1.0, 2 * tail))


class Shift(NamedTuple):
    """The score of one canary over trainings with it and without it."""

    with_canary: np.ndarray
    without: np.ndarray

    @property
    def mu(self) -> float:
        """Distance of the means in deviations: mu of the Gaussian pair they look like."""
        both = np.concatenate([self.with_canary - self.with_canary.mean(),
                               self.without - self.without.mean()])  # fmt: skip
        deviation = math.sqrt(float(np.sum(both**2)) / (len(both) - 2))
        return abs(float(self.with_canary.mean() - self.without.mean())) / deviation


def orthogonal_canary_shift(
    key: Key,
    x: np.ndarray,
    label: np.ndarray,
    untouched: np.ndarray,
    model: ConvexReLUConfig,
    cfg: NoisyCGDConfig,
    *,
    num_trainings: int = 20,
) -> Shift:
    """Trains with and without one example that lives on an untouched coordinate.

    The canary is the last example of the last batch of the cycle; without it there is a blank one
    in its place ("zero_out" adjacency). The score is V's coordinate along the canary's gradient.

    Args:
      key: of all trainings.
      x: examples [n, d].
      label: int [n].
      untouched: which coordinates are zero in all examples, bool [d].
      model: the model.
      cfg: the training.
      num_trainings: with it, and as many without it.
    """
    coordinate = int(np.flatnonzero(untouched)[0])
    found = []
    for present in (True, False):
        rows = np.array(x, np.float32)
        rows[-1] = 0.0
        if present:
            rows[-1, coordinate] = 1.0
        keys = [rng.fold(key, "canary", i + num_trainings * present) for i in range(num_trainings)]
        v, u = grid.train_grid(keys, rows, label, model, [cfg] * num_trainings)
        g = (u[:, coordinate, :] >= 0).astype(v.dtype)  # gates of the canary: sign of one entry
        along = jnp.einsum("rpk,rp->rk", v[:, :, coordinate, :], g)
        along = along / jnp.sqrt(jnp.maximum(jnp.sum(g, axis=1), 1.0))[:, None]
        own = along[:, int(label[-1])]
        found.append(np.asarray(own - jnp.mean(along, axis=1), np.float64))
    return Shift(found[0], found[1])


def eps_lower_bound(
    correct: int, guesses: int, num_canaries: int, delta: float, confidence: float = 0.95
) -> float:
    """Lower bound on epsilon from guesses which canaries were in the data.

    Under (eps, delta)-DP the number of right guesses is stochastically below a binomial with
    probability e^eps / (1 + e^eps), up to a term in delta (Steinke et al. 2023, theorem 5.2).

    Args:
      correct: right guesses.
      guesses: made; canaries that were abstained from do not count.
      num_canaries: m, each in the data with probability one half, independently.
      delta: of the claim.
      confidence: of the bound.

    Raises:
      ValueError: counts that do not fit, or delta or confidence outside (0, 1).

    >>> eps_lower_bound(50, 100, 1000, 1e-5)
    0.0
    """
    check.between(0, guesses, correct=correct)
    check.between(1, num_canaries, guesses=guesses)
    in_open_interval(confidence=confidence)
    check.between(0, 1, delta=delta)

    def p_value(eps: float) -> float:
        right = 1 / (1 + math.exp(-eps))
        tail = float(binom.sf(correct - 1, guesses, right))
        masses = binom.pmf(correct - np.arange(1, correct + 1), guesses, right)
        slopes = np.cumsum(masses) / np.arange(1, correct + 1)
        worst = float(slopes.max()) if correct else 0.0
        return min(1.0, tail + 2 * num_canaries * delta * worst)

    if p_value(0.0) > 1 - confidence:
        return 0.0
    low, high = 0.0, 1.0
    while p_value(high) < 1 - confidence and high < 64:
        high *= 2
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if p_value(middle) < 1 - confidence else (low, middle)
    return low


@dataclasses.dataclass(frozen=True)
class OneRun:
    """What one training with canaries shows.

    Attributes:
      num_canaries: m.
      guesses: how many were guessed about.
      correct: how many of these rightly.
      eps_lower: bound on epsilon, at `confidence`, for "zero_out" adjacency.
      eps_claimed: what the accountant says there.
      confidence: of the bound.
    """

    num_canaries: int
    guesses: int
    correct: int
    eps_lower: float
    eps_claimed: float
    confidence: float


def _canaries(key: Key, num: int, model: ConvexReLUConfig) -> tuple[np.ndarray, np.ndarray]:
    """Random directions, which are nearly orthogonal in phi, with random labels."""
    x = jax.random.normal(rng.fold(key, "x"), (num, model.in_dim))
    label = jax.random.randint(rng.fold(key, "label"), (num,), 0, model.num_classes)
    return np.array(x, np.float32), np.array(label)


def one_run(
    key: Key,
    x: np.ndarray,
    label: np.ndarray,
    model: ConvexReLUConfig,
    cfg: NoisyCGDConfig,
    *,
    num_canaries: int,
    share: float = 0.1,
    confidence: float = 0.95,
) -> OneRun:
    """Audits one training: the last rows become canaries, each blanked with probability one half.

    Args:
      key: of canaries, coins and the training.
      x: examples [n, d].
      label: int [n].
      model: the model.
      cfg: the training; its claim is taken for "zero_out" adjacency, which the coins are about.
      num_canaries: m, at most n.
      share: of the canaries guessed about: the highest scores as present, the lowest as absent.
      confidence: of the bound.

    Raises:
      ValueError: more canaries than examples.
    """
    check.between(2, len(x), num_canaries=num_canaries)
    in_open_interval(share=share)
    claim = privacy.hidden_state(dataclasses.replace(cfg, adjacency="zero_out"), model, len(x))
    canary, canary_label = _canaries(rng.fold(key, "canaries"), num_canaries, model)
    coins = np.asarray(jax.random.bernoulli(rng.fold(key, "coins"), 0.5, (num_canaries,)))
    rows, labels = np.array(x, np.float32), np.array(label)
    rows[-num_canaries:] = canary * coins[:, None]
    labels[-num_canaries:] = canary_label
    v, u = grid.train_grid([rng.fold(key, "training")], rows, labels, model, [cfg])
    scores = _scores(v[0], u[0], canary, canary_label, model)
    each = max(1, int(num_canaries * share / 2))
    order = np.argsort(scores)
    correct = int(coins[order[-each:]].sum() + (~coins[order[:each]]).sum())
    lower = eps_lower_bound(correct, 2 * each, num_canaries, cfg.delta, confidence)
    return OneRun(num_canaries, 2 * each, correct, lower, claim.epsilon, confidence)


def _scores(
    v: Array, u: Array, x: np.ndarray, label: np.ndarray, model: ConvexReLUConfig
) -> np.ndarray:
    """How far each canary's own logit is above the mean of its logits."""

    @jax.jit
    def part(x: Array, label: Array) -> Array:
        z = gating.logits(v, x, gating.gates(x, u), model)
        return jnp.take_along_axis(z, label[:, None], 1)[:, 0] - jnp.mean(z, axis=1)

    cuts = [slice(i, i + 1000) for i in range(0, len(x), 1000)]
    found: list[Any] = [np.asarray(part(jnp.asarray(x[c]), jnp.asarray(label[c]))) for c in cuts]
    return np.concatenate(found)


def clopper_pearson(hits: int, num: int, confidence: float = 0.95) -> tuple[float, float]:
    """Exact interval of a probability from `hits` of `num`.

    >>> [round(float(x), 3) for x in clopper_pearson(5, 10)]
    [0.187, 0.813]
    """
    check.between(0, num, hits=hits)
    tail = (1 - confidence) / 2
    low = 0.0 if hits == 0 else float(beta.ppf(tail, hits, num - hits + 1))
    high = 1.0 if hits == num else float(beta.ppf(1 - tail, hits + 1, num - hits))
    return low, high

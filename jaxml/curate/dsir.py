"""Importance resampling on hashed n-grams (DSIR, Xie et al. 2023)."""

import dataclasses
import functools
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxml.core import check, rng
from jaxml.core.types import Key

_TOKEN = re.compile(r"\w+|[^\w\s]+")
_EPS = 1e-8


@dataclasses.dataclass(frozen=True)
class DsirConfig:
    """Features and estimates.

    Attributes:
      num_buckets: of the hash.
      ngram: 2 for words and pairs.
      smoothing: added to the target's counts.
      min_tokens: shorter examples are never chosen.
    """

    num_buckets: int = 10_000
    ngram: int = 2
    smoothing: float = 0.0
    min_tokens: int = 100

    def __post_init__(self):
        check.types(self)
        check.positive(num_buckets=self.num_buckets, ngram=self.ngram)
        check.at_least(0, smoothing=self.smoothing, min_tokens=self.min_tokens)


@functools.lru_cache(maxsize=1 << 20)
def bucket(gram: str, num_buckets: int = 10_000) -> int:
    """SHA-256 of the gram modulo the number of buckets: the same on every machine.

    >>> bucket("alice"), bucket("alice went")
    (6720, 114)
    """
    return int(hashlib.sha256(gram.encode("utf-8", "surrogatepass")).hexdigest(), 16) % num_buckets


def tokens(text: str) -> list[str]:
    """Words and runs of punctuation, in lower case."""
    return _TOKEN.findall(text.lower())


def features(text: str, cfg: DsirConfig) -> np.ndarray:
    """Buckets of all n-grams of a text, one after the other: int64 [m]."""
    words = tokens(text)
    grams = list(words)
    for n in range(2, cfg.ngram + 1):
        grams += [" ".join(words[i : i + n]) for i in range(len(words) - n + 1)]
    return np.array([bucket(gram, cfg.num_buckets) for gram in grams], np.int64)


class Dsir(NamedTuple):
    """A fitted pair of bags of n-grams.

    Attributes:
      log_ratio: float64 [buckets], ln of target over raw probability.
      cfg: features.
    """

    log_ratio: np.ndarray
    cfg: DsirConfig


def counts(texts: Iterable[str], cfg: DsirConfig) -> np.ndarray:
    """How often each bucket occurs in texts, float64 [buckets]."""
    total = np.zeros(cfg.num_buckets)
    for text in texts:
        total += np.bincount(features(text, cfg), minlength=cfg.num_buckets)
    return total


def dsir_fit(
    raw: Sequence[str],
    target: Sequence[str],
    cfg: DsirConfig = DsirConfig(),  # noqa: B008
) -> Dsir:
    """Estimates both distributions over buckets.

    Raises:
      ValueError: no text, or no word, on either side.
    """
    return of_counts(counts(raw, cfg), counts(target, cfg), cfg)


def of_counts(raw: np.ndarray, target: np.ndarray, cfg: DsirConfig) -> Dsir:
    """As `dsir_fit`, from `counts` of both sides."""
    for name, values in {"raw": raw, "target": target}.items():
        if not values.sum():
            raise ValueError(f"{name} must hold words; got {name} with none.")
    smoothed = target + cfg.smoothing
    p, q = raw / raw.sum(), smoothed / smoothed.sum()
    return Dsir(np.log(q + _EPS) - np.log(p + _EPS), cfg)


def dsir_weights(model: Dsir, texts: Sequence[str]) -> np.ndarray:
    """Ln of the importance weight of each text, float64 [n]; -inf for ones that are too short."""
    out = np.full(len(texts), -np.inf)
    for i, text in enumerate(texts):
        if len(tokens(text)) >= model.cfg.min_tokens:
            out[i] = model.log_ratio[features(text, model.cfg)].sum()
    return out


def gumbel_of(key: Key, ids: np.ndarray) -> jax.Array:
    """Noise that belongs to an id, whatever its place: float32 [n] of integers [n]."""
    wide = ids.astype(np.uint64)
    low, high = (jnp.asarray((wide >> np.uint64(s)).astype(np.uint32)) for s in (0, 32))
    return _gumbels(key, low, high)


@jax.jit
def _gumbels(key: Key, low: jax.Array, high: jax.Array) -> jax.Array:
    def one(a: jax.Array, b: jax.Array) -> jax.Array:
        return jax.random.gumbel(jax.random.fold_in(jax.random.fold_in(key, a), b))

    return jax.vmap(one)(low, high)


def gumbel_top_k(key: Key, logw: np.ndarray, k: int, ids: np.ndarray | None = None) -> np.ndarray:
    """K indices without replacement, each next one in proportion to `exp(logw)`: int64 [k].

    Args:
      key: of the noise.
      logw: float [n]; -inf is never chosen.
      k: how many.
      ids: integers [n]: the noise then belongs to the example, whatever its place.

    Returns:
      Indices, highest perturbed weight first.

    Raises:
      ValueError: k exceeds the number of eligible examples.
    """
    logw = np.asarray(logw, np.float64)
    eligible = int(np.sum(logw > -np.inf))
    if not 0 <= k <= eligible:
        raise ValueError(
            f"k must be at most the number of eligible examples; got k={k}, {eligible=}."
        )
    if ids is None:
        noise = np.asarray(jax.random.gumbel(key, logw.shape))
    else:
        noise = np.asarray(gumbel_of(key, np.asarray(ids)))
    return np.argsort(-(logw + noise), kind="stable")[:k]


def resample(
    key: Key, logw: Mapping[str, np.ndarray], num: Mapping[str, int], ids: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Chooses target by target; no example twice, each target with noise of its own.

    Args:
      key: of the noise.
      logw: weights [n] by target.
      num: how many for each target, in the order in which they choose.
      ids: see `gumbel_top_k`.

    Raises:
      ValueError: a target without weights, or too few examples are left.
    """
    free, chosen = np.ones(len(next(iter(logw.values()))), bool), {}
    for name, k in num.items():
        check.one_of(tuple(logw), num=name)
        left = np.where(free, logw[name], -np.inf)
        chosen[name] = gumbel_top_k(rng.fold(key, name), left, k, ids)
        free[chosen[name]] = False
    return chosen

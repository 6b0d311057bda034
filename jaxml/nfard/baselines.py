"""Other detectors, written anew from their papers to be compared on the same zoo.

Each makes a suite of n queries from the victim, and a distance from the answers of both models.
Images are float32 in [0, 255], as the zoo's networks take them.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxml.core import check
from jaxml.core.types import Array, Key, PyTree

type Logits = Callable[[PyTree, Array], Array]
"""`(params, images) -> logits [b, C]`; one object per architecture, so that it compiles once."""


class Pool(NamedTuple):
    """What a baseline makes its suite from.

    Attributes:
      images: test images [n, y, x, c].
      labels: their true classes, which some baselines look at.
      probs: the victim's answers [n, C].
    """

    images: np.ndarray
    labels: np.ndarray
    probs: np.ndarray


class Queries(NamedTuple):
    """A suite: images float32 [n, y, x, c], and the classes it was made for, int [n]."""

    images: np.ndarray
    labels: np.ndarray


class Baseline(NamedTuple):
    """A detector.

    Attributes:
      paper: where it is from.
      make: `(logits, params, pool, n, key) -> Queries`.
      distance: `(queries, victim probs, suspect probs) -> float`; lower is closer.
    """

    paper: str
    make: Callable[[Logits, PyTree, Pool, int, Key], Queries]
    distance: Callable[[Queries, np.ndarray, np.ndarray], float]


@functools.partial(jax.jit, static_argnums=(0, 5))
def _pgd(
    logits: Logits, params: PyTree, images: Array, labels: Array, eps: float, steps: int
) -> Array:
    """Images [n, ...] moved by at most `eps` (in pixels) each, to the largest loss."""

    def loss(x: Array) -> Array:
        log_p = jax.nn.log_softmax(logits(params, x), -1)
        return -jnp.sum(jnp.take_along_axis(log_p, labels[:, None], 1))

    def step(x: Array, _: None) -> tuple[Array, None]:
        moved = x + eps / 4 * jnp.sign(jax.grad(loss)(x))
        return jnp.clip(jnp.clip(moved, images - eps, images + eps), 0.0, 255.0), None

    return jax.lax.scan(step, images, None, length=steps)[0]


def pgd(
    logits: Logits,
    params: PyTree,
    images: Array | np.ndarray,
    labels: np.ndarray,
    eps: float = 0.03,
    steps: int = 10,
) -> Array:
    """Projected gradient descent (Madry et al. 2018), L-infinity, steps of eps / 4.

    Args:
      logits: the network.
      params: its variables.
      images: float [n, ...] in [0, 255].
      labels: classes to leave, int [n].
      eps: largest change, as a share of the pixels' range.
      steps: of ascent.
    """  # fmt: skip
    check.positive(eps=eps, steps=steps)
    x = jnp.asarray(images, jnp.float32)
    return _pgd(logits, params, x, jnp.asarray(labels), 255 * eps, steps)


def eps_of(pool: Pool, colour: float) -> float:
    """Strength of an attack: as published for colour images, thrice that for grey ones (ours)."""
    return colour if pool.images.shape[-1] == 3 else 3 * colour


def _certain(logits: Logits, params: PyTree, pool: Pool, n: int, key: Key) -> Queries:
    """DeepJudge: the seeds of highest Gini certainty, made adversarial."""
    del key
    seeds = np.argsort(-np.sum(pool.probs**2, 1), kind="stable")[:n]
    labels = pool.probs[seeds].argmax(1)
    moved = pgd(logits, params, pool.images[seeds], labels, eps_of(pool, 0.03))
    return Queries(np.asarray(moved), labels)


def jsd(v: np.ndarray, s: np.ndarray) -> float:
    """Mean Jensen-Shannon divergence of two sets of probabilities [n, C], in nats."""
    p, q = np.asarray(v, np.float64), np.asarray(s, np.float64)
    m = (p + q) / 2

    def kl(a: np.ndarray) -> np.ndarray:
        return np.sum(a * (np.log(np.maximum(a, 1e-300)) - np.log(np.maximum(m, 1e-300))), 1)

    return float(np.mean(kl(p) + kl(q)) / 2)


def _jsd_distance(queries: Queries, v: np.ndarray, s: np.ndarray) -> float:
    del queries
    return jsd(v, s)


def _robustness(queries: Queries, v: np.ndarray, s: np.ndarray) -> float:
    """Difference of the shares of adversarial images that each still gets right."""
    right = [np.mean(x.argmax(1) == queries.labels) for x in (v, s)]
    return float(abs(right[0] - right[1]))


def _pairs(logits: Logits, params: PyTree, pool: Pool, n: int, key: Key) -> Queries:
    """ModelDiff: n / 2 random seeds, and each of them moved."""
    seeds = np.asarray(jax.random.permutation(key, len(pool.images)))[: n // 2]
    labels = pool.probs[seeds].argmax(1)
    moved = pgd(logits, params, pool.images[seeds], labels, eps_of(pool, 0.06))
    images = np.concatenate([pool.images[seeds].astype(np.float32), np.asarray(moved)])
    return Queries(images, np.concatenate([labels, labels]))


def ddv(probs: np.ndarray) -> np.ndarray:
    """Decision distance vector [n / 2]: cosine distance of the outputs of each pair."""
    a, b = np.split(np.asarray(probs, np.float64), 2)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return 1 - np.sum(a * b, 1) / norms


def _ddv_distance(queries: Queries, v: np.ndarray, s: np.ndarray) -> float:
    del queries
    a, b = ddv(v), ddv(s)
    norm = np.linalg.norm(a) * np.linalg.norm(b)
    return float(1 - a @ b / norm) if norm > 0 else 1.0


@functools.partial(jax.jit, static_argnums=(0, 5))
def _boundary(
    logits: Logits, params: PyTree, images: Array, labels: Array, targets: Array, steps: int
) -> Array:
    """IPGuard's objective by Adam: the label's logit beside the target's, above all others."""
    rows = jnp.arange(len(labels))

    def loss(x: Array) -> Array:
        z = logits(params, x)
        own, aim = z[rows, labels], z[rows, targets]
        others = z.at[rows, labels].set(-jnp.inf).at[rows, targets].set(-jnp.inf)
        gap = jax.nn.relu(own - aim + 10.0) + jax.nn.relu(jnp.max(others, -1) - own)
        return jnp.sum(gap)

    def step(carry: Any, i: Array) -> tuple[Any, None]:
        x, m, v = carry
        g = jax.grad(loss)(x)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        t = i + 1.0
        move = (m / (1 - 0.9**t)) / (jnp.sqrt(v / (1 - 0.999**t)) + 1e-8)
        return (jnp.clip(x - 0.001 * 255 * move, 0.0, 255.0), m, v), None

    start = (images, jnp.zeros_like(images), jnp.zeros_like(images))
    (x, _, _), _ = jax.lax.scan(step, start, jnp.arange(steps, dtype=jnp.float32))
    return x


def _ipguard(
    logits: Logits, params: PyTree, pool: Pool, n: int, key: Key, steps: int = 1000
) -> Queries:
    seeds = np.asarray(jax.random.permutation(key, len(pool.images)))[:n]
    order = np.argsort(pool.probs[seeds], 1)
    labels, targets = order[:, -1], order[:, -2]
    x = jnp.asarray(pool.images[seeds], jnp.float32)
    found = _boundary(logits, params, x, jnp.asarray(labels), jnp.asarray(targets), steps)
    return Queries(np.asarray(found), labels)


def _labels_differ(queries: Queries, v: np.ndarray, s: np.ndarray) -> float:
    del queries
    return float(np.mean(v.argmax(1) != s.argmax(1)))


def _mistakes(logits: Logits, params: PyTree, pool: Pool, n: int, key: Key) -> Queries:
    """Test samples that the victim gets wrong, then those it is least sure of."""
    del logits, params, key
    wrong = pool.probs.argmax(1) != pool.labels
    rows = np.lexsort((pool.probs.max(1), ~wrong))[:n]
    return Queries(pool.images[rows].astype(np.float32), pool.labels[rows])


def _cutmix(logits: Logits, params: PyTree, pool: Pool, n: int, key: Key) -> Queries:
    """Each sample with a square of another, a quarter of its area."""
    del logits, params
    rows = np.asarray(jax.random.permutation(key, len(pool.images)))[:n]
    x = pool.images[rows].astype(np.float32)
    high, wide = x.shape[1] // 2, x.shape[2] // 2
    x[:, high // 2 : high // 2 + high, wide // 2 : wide // 2 + wide] = np.roll(x, 1, 0)[
        :, high // 2 : high // 2 + high, wide // 2 : wide // 2 + wide
    ]
    return Queries(x, pool.labels[rows])


def correlation(probs: np.ndarray) -> np.ndarray:
    """Cosines of the outputs of all pairs of samples, [n, n]."""
    p = np.asarray(probs, np.float32)
    p = p / np.linalg.norm(p, axis=1, keepdims=True)
    return p @ p.T


def _sac(queries: Queries, v: np.ndarray, s: np.ndarray) -> float:
    del queries
    return float(np.mean(np.abs(correlation(v) - correlation(s))))


BASELINES: dict[str, Baseline] = {
    "deepjudge_jsd": Baseline("DeepJudge, S&P 2022", _certain, _jsd_distance),
    "deepjudge_rob": Baseline("DeepJudge, S&P 2022", _certain, _robustness),
    "modeldiff_ddv": Baseline("ModelDiff, ISSTA 2021", _pairs, _ddv_distance),
    "ipguard": Baseline("IPGuard, AsiaCCS 2021", _ipguard, _labels_differ),
    "sac_mistakes": Baseline("SAC-w, NeurIPS 2022", _mistakes, _sac),
    "sac_cutmix": Baseline("SAC-m, NeurIPS 2022", _cutmix, _sac),
    "akh": Baseline("AKH as in QuRD, AAAI 2025", _mistakes, _labels_differ),
}
"""Detectors by name."""

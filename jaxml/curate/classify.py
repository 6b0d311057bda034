"""Text classifier on hashed words and word pairs: quality, toxicity, language, domain.

fastText's model: the mean of the features' vectors, a linear layer, softmax; plain SGD whose rate
falls linearly to zero.
"""

import dataclasses
import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxml.core import check, files, rng
from jaxml.core.types import Array, Key, PyTree
from jaxml.curate import text as texts_


@dataclasses.dataclass(frozen=True)
class ClassifierConfig:
    """Model and training.

    Attributes:
      num_buckets: rows of the table of vectors.
      width: of a vector.
      num_features: of a document that are used; longer ones are sampled evenly.
      ngram: 1 words, 2 also pairs, and so on.
      num_epochs: passes over the examples.
      batch_size: examples of a step.
      lr: at the first step.

    Raises:
      ValueError: a value that is not positive.
    """

    num_buckets: int = 1 << 18
    width: int = 16
    num_features: int = 512
    ngram: int = 2
    num_epochs: int = 5
    batch_size: int = 16
    lr: float = 0.5

    def __post_init__(self):
        check.types(self)
        check.positive(**dataclasses.asdict(self))


class Classifier(NamedTuple):
    """Parameters {table [buckets, width], kernel [width, classes], bias [classes]}, and config."""

    params: PyTree
    cfg: ClassifierConfig


def features(texts: Sequence[str], cfg: ClassifierConfig) -> np.ndarray:
    """Buckets of every document's n-grams: int32 [n, num_features], -1 where it has no more."""
    packed = texts_.pack(texts)
    out = np.full((len(texts), cfg.num_features), -1, np.int32)
    levels = [texts_.grams(packed, n) for n in range(1, cfg.ngram + 1)]
    doc = np.concatenate([level.doc for level in levels])
    salted = [level.hash + np.uint64(n) for n, level in enumerate(levels)]
    bucket = (texts_.mix64(np.concatenate(salted)) % np.uint64(cfg.num_buckets)).astype(np.int32)
    order = np.argsort(doc, kind="stable")
    bounds = np.searchsorted(doc[order], np.arange(len(texts) + 1))
    for i, (a, b) in enumerate(zip(bounds[:-1], bounds[1:], strict=True)):
        rows = bucket[order[a:b]]
        if len(rows) > cfg.num_features:
            rows = rows[np.linspace(0, len(rows) - 1, cfg.num_features).astype(np.int64)]
        out[i, : len(rows)] = rows
    return out


def init(key: Key, cfg: ClassifierConfig, num_classes: int) -> PyTree:
    """A uniform table in [-1/width, 1/width], the rest zero."""
    bound = 1.0 / cfg.width
    shape = (cfg.num_buckets, cfg.width)
    return {
        "table": jax.random.uniform(rng.fold(key, "table"), shape, minval=-bound, maxval=bound),
        "kernel": jnp.zeros((cfg.width, num_classes)),
        "bias": jnp.zeros((num_classes,)),
    }


def _mean(params: PyTree, rows_bf: Array) -> tuple[Array, Array]:
    """The mean vector of each row [b, width], and the weight of each feature [b, f]."""
    known = (rows_bf >= 0).astype(jnp.float32)
    weight = known / jnp.maximum(known.sum(-1, keepdims=True), 1.0)
    return jnp.einsum("bf,bfd->bd", weight, params["table"][jnp.maximum(rows_bf, 0)]), weight


def logits(params: PyTree, rows_bf: Array) -> Array:
    """Class scores float32 [b, classes] of `features`."""
    return _mean(params, rows_bf)[0] @ params["kernel"] + params["bias"][None]


def update(params: PyTree, rows_bf: Array, labels_b: Array, weight_b: Array, lr: Array) -> PyTree:
    """One step of SGD on the weighted mean cross-entropy.

    The gradient is written out, because only the rows of the batch change in a large table.
    """
    mean, weight = _mean(params, rows_bf)
    scores = mean @ params["kernel"] + params["bias"][None]
    target = jax.nn.one_hot(labels_b, scores.shape[-1])
    error = (jax.nn.softmax(scores) - target) * (weight_b / jnp.maximum(weight_b.sum(), 1.0))[
        :, None
    ]
    to_mean = error @ params["kernel"].T
    change = -lr * weight[..., None] * to_mean[:, None]
    return {
        "table": params["table"].at[jnp.maximum(rows_bf, 0)].add(change),
        "kernel": params["kernel"] - lr * mean.T @ error,
        "bias": params["bias"] - lr * error.sum(0),
    }


@functools.partial(jax.jit, donate_argnums=0)
def _train(params: PyTree, rows: Array, labels: Array, order_sb: Array, rate_s: Array) -> PyTree:
    def step(params: PyTree, at: tuple[Array, Array]) -> tuple[PyTree, None]:
        index, rate = at
        real = (index >= 0).astype(jnp.float32)
        index = jnp.maximum(index, 0)
        # The rate is per example as in fastText, the step the mean of a batch.
        return update(params, rows[index], labels[index], real, rate * real.sum()), None

    return jax.lax.scan(step, params, (order_sb, rate_s))[0]


def fit(
    texts: Sequence[str],
    labels: Sequence[int] | np.ndarray,
    key: Key,
    cfg: ClassifierConfig = ClassifierConfig(),  # noqa: B008
) -> Classifier:
    """Trains on labelled texts.

    Args:
      texts: examples.
      labels: int [n], 0 .. classes - 1.
      key: draws the table and the order.
      cfg: model and training.

    Raises:
      ValueError: no example, sizes that differ, a negative label, fewer than two classes.
    """
    labels = np.asarray(labels)
    if len(labels) != len(texts) or not len(texts):
        raise ValueError(
            f"labels must be one per text, at least one; got {len(labels)} labels, "
            f"{len(texts)} texts."
        )
    if labels.min() < 0 or labels.max() < 1:
        raise ValueError(f"labels must be 0, 1, ...; got {labels.min()} to {labels.max()}.")
    rows = features(texts, cfg)
    steps = -(-len(texts) // cfg.batch_size)
    order = np.full((cfg.num_epochs, steps * cfg.batch_size), -1, np.int32)
    for epoch in range(cfg.num_epochs):
        shuffled = jax.random.permutation(rng.fold(key, "order", epoch), len(texts))
        order[epoch, : len(texts)] = np.asarray(shuffled)
    order = order.reshape(-1, cfg.batch_size)
    rate = (cfg.lr * (1.0 - np.arange(len(order)) / len(order))).astype(np.float32)
    params = init(key, cfg, int(labels.max()) + 1)
    return Classifier(_train(params, rows, labels.astype(np.int32), order, rate), cfg)


_probabilities = jax.jit(lambda params, rows: jax.nn.softmax(logits(params, rows)))


def score(model: Classifier, texts: Sequence[str], batch_size: int = 256) -> np.ndarray:
    """Class probabilities float32 [n, classes]."""
    rows = features(texts, model.cfg)
    out = [np.zeros((0, model.params["bias"].shape[0]), np.float32)]
    for a in range(0, len(rows), batch_size):
        part = np.full((batch_size, rows.shape[1]), -1, np.int32)
        part[: len(rows) - a] = rows[a : a + batch_size]
        out.append(np.asarray(_probabilities(model.params, part))[: len(rows) - a])
    return np.concatenate(out)


def pareto_keep(key: Key, probability_n: np.ndarray, alpha: float = 9.0) -> np.ndarray:
    """GPT-3's draw: keep where a Pareto(alpha) variable exceeds `1 - p`: bool [n].

    Recalled from Brown et al. (2020), appendix A: mostly good documents, some of all.
    """
    check.positive(alpha=alpha)
    uniform = np.asarray(jax.random.uniform(key, (len(probability_n),), minval=1e-7))
    return uniform ** (-1.0 / alpha) - 1.0 > 1.0 - probability_n


def save(model: Classifier, path: Path | str) -> None:
    """Writes one npz file, whole or not at all."""
    with files.aside(path) as part, part.open("wb") as handle:
        about = np.array(json.dumps(dataclasses.asdict(model.cfg)))
        arrays = {name: np.asarray(array) for name, array in model.params.items()}
        np.savez(handle, config=about, allow_pickle=False, **arrays)


def load(path: Path | str) -> Classifier:
    """Reads what `save` wrote.

    Raises:
      ValueError: the file holds something else.
    """
    with np.load(path, allow_pickle=False) as stored:
        if set(stored) != {"config", "table", "kernel", "bias"}:
            raise ValueError(f"{path} is not a saved classifier; it holds {sorted(stored)}.")
        cfg = ClassifierConfig(**json.loads(str(stored["config"])))
        return Classifier(
            {name: jnp.asarray(stored[name]) for name in stored if name != "config"}, cfg
        )

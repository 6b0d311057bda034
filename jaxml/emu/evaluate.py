"""What embeddings are worth: accuracy of the nearest neighbour, within and across languages.

Translations of a query may not stand in its gallery: to find them would be translation retrieval.
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxml.core import check, linalg
from jaxml.emu.data import SOURCE, Sentences
from jaxml.inputs.order import generator
from jaxml.models import logistic

type Ids = tuple[np.ndarray, np.ndarray]
_top_k = jax.jit(linalg.top_k, static_argnums=(2, 3))


def normalised(x_nd: np.ndarray, name: str) -> np.ndarray:
    """Rows of norm 1, float32.

    Raises:
      ValueError: a row of norm zero, or not finite.
    """
    check.shape(name, x_nd, ["n", "d"])
    norm = np.linalg.norm(np.asarray(x_nd, np.float64), axis=1)
    if (bad := np.flatnonzero(~(np.isfinite(norm) & (norm > 0)))).size:
        raise ValueError(f"{name} must have rows of finite norm above 0; row {bad[0]} has none.")
    return np.asarray(x_nd / norm[:, None], np.float32)


def nearest(
    queries: np.ndarray, gallery: np.ndarray, exclude: Ids | None = None, block: int = 4096
) -> tuple[np.ndarray, np.ndarray]:
    """The most similar allowed row of the gallery for each query.

    Args:
      queries: [q, d].
      gallery: [n, d]; compared in blocks, the [q, n] matrix is never held.
      exclude: ids of the queries [q] and of the gallery [n]; rows with a query's id are skipped.
      block: gallery rows at a time.

    Returns:
      Rows int [q] and their cosines [q].

    Raises:
      ValueError: an embedding of norm zero, or a query to which no row is left.
    """
    q, g = normalised(queries, "queries"), normalised(gallery, "gallery")
    k = 1
    if exclude is not None:
        check.shape("exclude[0]", exclude[0], [len(q)])
        check.shape("exclude[1]", exclude[1], [len(g)])
        k = min(len(g), 1 + int(np.unique(exclude[1], return_counts=True)[1].max()))
    found = _top_k(jnp.asarray(q), jnp.asarray(g), k, block)
    score, rows = (np.asarray(x) for x in found)
    allowed = np.ones(rows.shape, bool)
    if exclude is not None:
        allowed = exclude[1][rows] != exclude[0][:, None]
    if (empty := np.flatnonzero(~allowed.any(1))).size:
        raise ValueError(
            f"exclude must leave every query a gallery; query {empty[0]} has none of {len(g)} left."
        )
    first = allowed.argmax(1)[:, None]
    return np.take_along_axis(rows, first, 1)[:, 0], np.take_along_axis(score, first, 1)[:, 0]


def acc_at_1(
    queries: np.ndarray,
    q_labels: np.ndarray,
    gallery: np.ndarray,
    g_labels: np.ndarray,
    exclude: Ids | None = None,
) -> float:
    """Share of queries, in per cent, whose nearest allowed neighbour has their label.

    Args and errors as in `nearest`.
    """
    check.shape("q_labels", q_labels, [len(queries)])
    check.shape("g_labels", g_labels, [len(gallery)])
    rows, _ = nearest(queries, gallery, exclude)
    return 100 * float(np.mean(np.asarray(g_labels)[rows] == np.asarray(q_labels)))


def leave_one_out(embeddings: np.ndarray, labels: np.ndarray) -> float:
    """`acc_at_1` of a set in itself, every sentence without itself."""
    own = np.arange(len(embeddings))
    return acc_at_1(embeddings, labels, embeddings, labels, (own, own))


class Scores(NamedTuple):
    """Accuracies in per cent of one language.

    Attributes:
      mono: queries and gallery of the language.
      cross: its queries, the source's gallery.
      back: the source's queries, its gallery.
      num: sentences.
    """

    mono: float
    cross: float
    back: float
    num: int


def by_language(
    embeddings: Mapping[str, np.ndarray],
    part: Mapping[str, Sentences],
    *,
    parallel: bool = True,
    exclude: bool = True,
) -> dict[str, Scores]:
    """Scores of every language; the source's three are the same.

    Args:
      embeddings: by language.
      part: the sentences they are of.
      parallel: whether equal ids are translations of one another.
      exclude: keep a query's translation out of its gallery; False only to show what that hides.
    """
    found = {}
    for lang, sentences in part.items():
        mono = cross = back = leave_one_out(embeddings[lang], sentences.label)
        if lang != SOURCE:
            other, hide = part[SOURCE], parallel and exclude
            mine, theirs = (
                (embeddings[lang], sentences.label), (embeddings[SOURCE], other.label)
            )  # fmt: skip
            cross = acc_at_1(*mine, *theirs, (sentences.pid, other.pid) if hide else None)
            back = acc_at_1(*theirs, *mine, (other.pid, sentences.pid) if hide else None)
        found[lang] = Scores(mono, cross, back, len(sentences.label))
    return found


def alignment(emb_a: np.ndarray, emb_b: np.ndarray) -> float:
    """Share, in per cent, of rows of `a` whose nearest row of `b` is their own translation."""
    check.shape("emb_b", emb_b, emb_a.shape)
    return 100 * float(np.mean(nearest(emb_a, emb_b)[0] == np.arange(len(emb_a))))


def language_probe(
    embeddings: np.ndarray, lang: np.ndarray, seed: int = 0, decay: float = 1e-4
) -> float:
    """How well a linear classifier tells languages apart, in per cent on the half it has not seen.

    Raises:
      ValueError: fewer than two languages.
    """
    num = int(lang.max()) + 1
    if len(np.unique(lang)) < 2:
        raise ValueError(f"lang must hold two languages or more; got {np.unique(lang).tolist()}.")
    u = jnp.asarray(normalised(embeddings, "embeddings"))
    order = generator(seed, "probe").permutation(len(lang))
    fit, rest = order[::2], order[1::2]
    start = logistic.zeros(u.shape[1], num)
    p = logistic.fit(start, u[fit], jnp.asarray(lang[fit]), decay, 60)
    said = np.argmax(np.asarray(logistic.logits(p, u[rest])), -1)
    return 100 * float(np.mean(said == lang[rest]))


def logistic_accuracy(
    train: np.ndarray, labels: np.ndarray, part: Mapping[str, tuple[np.ndarray, np.ndarray]]
) -> dict[str, float]:
    """Logistic regression on frozen embeddings: accuracy in per cent by language.

    Args:
      train: embeddings of labelled source sentences.
      labels: theirs.
      part: embeddings and labels by language.
    """
    u = jnp.asarray(normalised(train, "train"))
    start = logistic.zeros(u.shape[1], int(labels.max()) + 1)
    p = logistic.fit(start, u, jnp.asarray(labels), 1e-5, 200)
    found = {}
    for lang, (x, y) in part.items():
        said = np.argmax(np.asarray(logistic.logits(p, jnp.asarray(normalised(x, lang)))), -1)
        found[lang] = 100 * float(np.mean(said == y))
    return found

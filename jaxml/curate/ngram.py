"""N-gram language model with modified Kneser-Ney smoothing, in flat sorted arrays.

A gram of n tokens is a row of level n; a row's key is its prefix's row and its last token, so that
looking up all positions of a corpus is one `searchsorted` a level.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxml.core import check

_FALLBACK = (0.5, 1.0, 1.5)


class Level(NamedTuple):
    """Grams of one length n.

    Attributes:
      keys: uint64 [g], ascending: row of the prefix at level n - 1, shifted by 32, plus the token.
      discounted: float64 [g], `max(c - D(c), 0) / c(h)`.
      gamma: float64 [rows of level n - 1], the mass left to shorter contexts; 1 where unseen.
      discounts: D1, D2, D3+.
    """

    keys: np.ndarray
    discounted: np.ndarray
    gamma: np.ndarray
    discounts: tuple[float, float, float]


class NGramLM(NamedTuple):
    """A fitted model.

    Attributes:
      vocab_size: tokens are 0 .. vocab_size - 1; vocab_size ends a sequence.
      unigram: float64 [vocab_size + 1], probabilities.
      levels: of lengths 2 .. order.
    """

    vocab_size: int
    unigram: np.ndarray
    levels: tuple[Level, ...]

    @property
    def order(self) -> int:
        """Longest gram."""
        return len(self.levels) + 1


def _flat(ids: Sequence[np.ndarray], vocab_size: int) -> tuple[np.ndarray, np.ndarray]:
    """All sequences with begin and end marks, and each token's place in its sequence."""
    begin, end = [vocab_size + 1], [vocab_size]
    parts = [np.concatenate([begin, np.asarray(row, np.int64).ravel(), end]) for row in ids]
    tokens = np.concatenate(parts) if parts else np.zeros(0, np.int64)
    inner = [row[1:-1] for row in parts]
    for row in inner:
        if len(row) and not 0 <= row.min() <= row.max() < vocab_size:
            raise ValueError(
                f"ids must lie in [0, vocab_size); got {row.min()} to {row.max()}, "
                f"vocab_size={vocab_size}."
            )
    place = [np.arange(len(row)) for row in parts]
    return tokens, np.concatenate(place) if place else np.zeros(0, np.int64)


def _keys(rows: np.ndarray, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the gram one token shorter that ends before a token is known, and its key there."""
    prefix = np.concatenate([[-1], rows[:-1]])
    at = np.flatnonzero(prefix >= 0)
    return at, (prefix[at].astype(np.uint64) << np.uint64(32)) | tokens[at].astype(np.uint64)


def _discounts(counts: np.ndarray) -> tuple[float, float, float]:
    n1, n2, n3, n4 = (int(np.sum(counts == k)) for k in (1, 2, 3, 4))
    if not (n1 and n2 and n3 and n4):
        return _FALLBACK
    y = n1 / (n1 + 2 * n2)
    raw = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
    one, two, three = (min(max(d, 0.0), k) for k, d in enumerate(raw, 1))
    return one, two, three


def _smooth(
    counts: np.ndarray, context: np.ndarray, num_contexts: int
) -> tuple[np.ndarray, np.ndarray, tuple[float, float, float]]:
    """Discounted shares [g], the mass left in each context, the discounts."""
    table = _discounts(counts)
    discount = np.array([0.0, *table])[np.minimum(counts, 3)]
    total = np.bincount(context, counts, num_contexts)
    mass = np.bincount(context, discount, num_contexts)
    gamma = np.where(total > 0, mass / np.maximum(total, 1), 1.0)
    return (counts - discount) / total[context], gamma, table


def fit(ids: Sequence[np.ndarray], order: int = 5, vocab_size: int | None = None) -> NGramLM:
    """Modified Kneser-Ney of Chen and Goodman (1999), interpolated, without pruning.

    Below the highest order a gram counts the different tokens before it, except at the beginning
    of a sequence, where it counts itself. Unigrams are mixed with the uniform distribution.
    Discounts follow the counts of counts; where one of the first four is zero they are .5, 1, 1.5.

    Args:
      ids: sequences of tokens (lines, sentences).
      order: longest gram, at least 1.
      vocab_size: number of tokens; by default the largest id plus one.

    Raises:
      ValueError: no sequence, order < 1, or an id outside the vocabulary.
    """
    check.at_least(1, order=order)
    if not len(ids):
        raise ValueError("ids must hold at least one sequence; got none.")
    if vocab_size is None:
        vocab_size = 1 + max((int(np.max(row)) for row in ids if len(row)), default=0)
    tokens, place = _flat(ids, vocab_size)
    rows, keys, counts, sources = [tokens], [], [], []
    for _ in range(1, order):
        at, key = _keys(rows[-1], tokens)
        at, key = at[place[at] >= len(rows)], key[place[at] >= len(rows)]
        unique, first, inverse, count = np.unique(
            key, return_index=True, return_inverse=True, return_counts=True
        )
        row = np.full(len(tokens), -1, np.int64)
        row[at] = inverse
        rows.append(row)
        keys.append(unique)
        counts.append(count)
        sources.append(at[first])  # where each gram ends for the first time
    return _assemble(tokens, place, rows, keys, counts, sources, vocab_size)


def _assemble(
    tokens: np.ndarray,
    place: np.ndarray,
    rows: list[np.ndarray],
    keys: list[np.ndarray],
    counts: list[np.ndarray],
    sources: list[np.ndarray],
    vocab_size: int,
) -> NGramLM:
    order = len(rows)
    raw = np.bincount(tokens, minlength=vocab_size + 2)
    adjusted = [raw, *counts]
    for n in range(order - 1):  # level n + 1 from the grams one longer
        longer = np.bincount(rows[n][sources[n]], minlength=len(adjusted[n]))
        if n == 0:
            adjusted[0] = longer
        else:
            starts = place[sources[n - 1]] == n  # the gram begins its sequence
            adjusted[n] = np.where(starts, adjusted[n], longer)
    words = adjusted[0][: vocab_size + 1]
    share, gamma, _ = _smooth(words, np.zeros(len(words), np.int64), 1)
    unigram = share + gamma[0] / len(words)
    levels = []
    for n in range(1, order):
        context = (keys[n - 1] >> np.uint64(32)).astype(np.int64)
        share, gamma, table = _smooth(adjusted[n], context, len(adjusted[n - 1]))
        levels.append(Level(keys[n - 1], share, gamma, table))
    return NGramLM(vocab_size, unigram, tuple(levels))


def token_log10(lm: NGramLM, ids: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """log10 probabilities of all tokens and ends, float64 [t], and their sequence, int64 [t].

    Raises:
      ValueError: an id outside the vocabulary.
    """
    tokens, place = _flat(ids, lm.vocab_size)
    rows = tokens
    p = np.concatenate([lm.unigram, [1.0]])[tokens]
    for level in lm.levels:
        at, key = _keys(rows, tokens)
        inside = place[at] >= 1
        at, key = at[inside], key[inside]
        p[at] *= level.gamma[(key >> np.uint64(32)).astype(np.int64)]
        where = np.minimum(np.searchsorted(level.keys, key), len(level.keys) - 1)
        hit = level.keys[where] == key if len(level.keys) else np.zeros(len(key), bool)
        p[at[hit]] += level.discounted[where[hit]]
        rows = np.full(len(tokens), -1, np.int64)
        rows[at[hit]] = where[hit]
    predicted = place > 0
    owner = np.cumsum(place == 0) - 1
    return np.log10(p[predicted]), owner[predicted]


def perplexity(lm: NGramLM, ids: Sequence[np.ndarray]) -> np.ndarray:
    """`10^(-sum log10 p / length)` of each sequence, its end counted: float64 [n]."""
    logs, owner = token_log10(lm, ids)
    total = np.bincount(owner, logs, len(ids))
    return 10.0 ** (-total / np.bincount(owner, minlength=len(ids)))


def document_perplexity(lm: NGramLM, documents: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """Perplexity over all lines of each document, as CCNet does: float64 [n]; inf if no line."""
    lines = [line for document in documents for line in document]
    logs, owner = token_log10(lm, lines)
    document = np.repeat(np.arange(len(documents)), [len(d) for d in documents])[owner]
    total = np.bincount(document, logs, len(documents))
    length = np.bincount(document, minlength=len(documents))
    return np.where(length > 0, 10.0 ** (-total / np.maximum(length, 1)), np.inf)


def buckets(perplexities: np.ndarray, head: float = 30.0, middle: float = 60.0) -> np.ndarray:
    """0 head, 1 middle, 2 tail by percentiles of the perplexities themselves: int [n].

    Raises:
      ValueError: not 0 <= head <= middle <= 100.
    """
    check.between(0, 100, head=head, middle=middle)
    check.between(head, 100, middle=middle)
    cuts = np.percentile(perplexities, [head, middle])
    return np.searchsorted(cuts, perplexities, "left")

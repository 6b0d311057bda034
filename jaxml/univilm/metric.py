"""Scores of retrieval and of captions, in float64.

BLEU, ROUGE-L and CIDEr-D are those of coco-caption on texts that are split at spaces; its Java
tokenizer and METEOR are left out. Texts that are plain lower-case words come out of that tokenizer
as they went in.
"""

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Retrieval(NamedTuple):
    """Per cent of queries whose item is among the first 1, 5, 10, and the median rank (from 1)."""

    r1: float
    r5: float
    r10: float
    median_rank: float
    num: int


def ranks(sim: np.ndarray, own: np.ndarray | None = None) -> np.ndarray:
    """Rank (from 1) of each query's own column; those it ties with share their mean rank.

    Args:
      sim: scores [n, m].
      own: column of each query, [n]; None: the diagonal.

    Raises:
      ValueError: scores that are not finite, or no column for each query.

    >>> ranks(np.array([[1.0, 1.0], [0.0, 3.0]])).tolist()
    [1.5, 1.0]
    """
    sim = np.asarray(sim, np.float64)
    if sim.ndim != 2 or not np.isfinite(sim).all():
        raise ValueError(f"sim must be a finite matrix; got shape {sim.shape}.")
    own = np.arange(len(sim)) if own is None else np.asarray(own)
    if own.shape != (len(sim),) or (len(own) and own.max() >= sim.shape[1]):
        raise ValueError(f"sim must have a column for each query; got shape {sim.shape}.")
    mine = sim[np.arange(len(sim)), own][:, None]
    above, equal = (sim > mine).sum(1), (sim == mine).sum(1)
    return 1 + above + (equal - 1) / 2


def retrieval_metrics(sim: np.ndarray, own: np.ndarray | None = None) -> Retrieval:
    """Recalls and median rank of a matrix of scores [n, m]; see `ranks`."""
    rank = ranks(sim, own)
    first, five, ten = (100 * float(np.mean(rank <= k)) for k in (1, 5, 10))
    return Retrieval(first, five, ten, float(np.median(rank)), len(rank))


def _checked(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> None:
    if len(hypotheses) != len(references) or not hypotheses:
        raise ValueError(
            f"there must be references for each caption, and a caption; got {len(hypotheses)} "
            f"captions, {len(references)} sets of references."
        )
    if empty := [i for i, refs in enumerate(references) if not refs]:
        raise ValueError(f"every caption must have a reference; number {empty[0]} has none.")


def _ngrams(words: Sequence[str], most: int = 4) -> Counter[tuple[str, ...]]:
    return Counter(
        tuple(words[i : i + n]) for n in range(1, most + 1) for i in range(len(words) - n + 1)
    )


def bleu(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> tuple[float, ...]:
    """Corpus BLEU-1 to 4, in [0, 1]: clipped counts, length of the closest reference.

    >>> [round(x, 3) for x in bleu(["a b c d"], [["a b c d", "a b"]])]
    [1.0, 1.0, 1.0, 1.0]
    """
    _checked(hypotheses, references)
    right, guessed = np.zeros(4), np.zeros(4)
    length = wanted = 0
    for text, refs in zip(hypotheses, references, strict=True):
        words, split = text.split(), [r.split() for r in refs]
        most: Counter[tuple[str, ...]] = Counter()
        for r in split:
            most |= _ngrams(r)
        length += len(words)
        wanted += min((abs(len(r) - len(words)), len(r)) for r in split)[1]
        guessed += [max(len(words) - n, 0) for n in range(4)]
        for gram, count in _ngrams(words).items():
            right[len(gram) - 1] += min(count, most[gram])
    tiny, small = 1e-15, 1e-9
    product = np.cumprod((right + tiny) / (guessed + small))
    ratio = (length + tiny) / (wanted + small)
    penalty = math.exp(1 - 1 / ratio) if ratio < 1 else 1.0
    return tuple(float(product[k] ** (1 / (k + 1)) * penalty) for k in range(4))


def rouge_l(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """ROUGE-L, beta 1.2, in [0, 1]; precision and recall are each the best over references."""
    _checked(hypotheses, references)
    beta2, scores = 1.2**2, []
    for text, refs in zip(hypotheses, references, strict=True):
        # Split at single spaces, as coco-caption does here: an empty text is one empty word.
        words = text.split(" ")
        common = [(_common(r.split(" "), words), len(r.split(" "))) for r in refs]
        precision = max(c / len(words) for c, _ in common)
        recall = max(c / n for c, n in common)
        both = precision and recall
        top = (1 + beta2) * precision * recall
        scores.append(top / (recall + beta2 * precision) if both else 0.0)
    return float(np.mean(scores))


def _common(a: Sequence[str], b: Sequence[str]) -> int:
    """Length of the longest common subsequence."""
    row = [0] * (len(b) + 1)
    for x in a:
        left = 0
        for j, y in enumerate(b, 1):
            left, row[j] = row[j], left + 1 if x == y else max(row[j], row[j - 1])
    return row[-1]


def cider_d(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """CIDEr-D, in [0, 10]: document frequencies are those of the references given.

    With one clip every frequency weight is 0, and so is the score.
    """
    _checked(hypotheses, references)
    counts = [[_ngrams(r.split()) for r in refs] for refs in references]
    seen = Counter(gram for refs in counts for gram in set().union(*refs))
    total = math.log(len(references))

    def weighed(grams: Counter[tuple[str, ...]]) -> tuple[list[dict], np.ndarray, int]:
        vectors: list[dict[tuple[str, ...], float]] = [{}, {}, {}, {}]
        for gram, count in grams.items():
            vectors[len(gram) - 1][gram] = count * (total - math.log(max(1.0, seen[gram])))
        norms = np.sqrt([sum(w * w for w in v.values()) for v in vectors])
        return vectors, norms, sum(c for gram, c in grams.items() if len(gram) == 2)

    scores = []
    for text, refs in zip(hypotheses, counts, strict=True):
        mine, norm, length = weighed(_ngrams(text.split()))
        found = 0.0
        for theirs, their_norm, their_length in map(weighed, refs):
            shared = np.array([
                sum(min(w, theirs[n].get(gram, 0.0)) * theirs[n].get(gram, 0.0)
                    for gram, w in mine[n].items())
                for n in range(4)
            ])  # fmt: skip
            both = norm * their_norm
            cosine = np.where(both > 0, shared / np.where(both > 0, both, 1), shared)
            found += cosine.mean() * math.exp(-((length - their_length) ** 2) / (2 * 6.0**2))
        scores.append(10 * found / len(refs))
    return float(np.mean(scores))


class CaptionScores(NamedTuple):
    """BLEU-3 and 4, ROUGE-L and exact matches in per cent; CIDEr-D in [0, 10]."""

    bleu3: float
    bleu4: float
    rouge_l: float
    cider: float
    exact: float
    num: int


def caption_scores(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> CaptionScores:
    """All scores of captions; each may have several references."""
    grams = bleu(hypotheses, references)
    exact = [text in refs for text, refs in zip(hypotheses, references, strict=True)]
    return CaptionScores(
        100 * grams[2], 100 * grams[3], 100 * rouge_l(hypotheses, references),
        cider_d(hypotheses, references), 100 * float(np.mean(exact)), len(exact),
    )  # fmt: skip

"""Drawing from a whole corpus, out of core: by importance (DSIR), and by buckets of perplexity."""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxml.core import check
from jaxml.curate import dsir, ngram, parts, reader, words
from jaxml.curate.dsir import DsirConfig
from jaxml.curate.work import Arrays, Work

_CHUNK = 1 << 16
BUCKETS = ("head", "middle", "tail")


def documents(paths: Sequence[Path], text_field: str = "text") -> Iterator[reader.Document]:
    """The readable documents of files and folders, in order."""
    for path in reader.find(paths):
        for record in reader.read(path, text_field):
            if isinstance(record, reader.Document):
                yield record


@dataclasses.dataclass(frozen=True)
class ResampleConfig:
    """Keeps the documents that look like a target, see `dsir`.

    Attributes:
      path: file or folder of texts to look like.
      num: documents to keep; 0 takes `fraction` of the eligible ones.
      fraction: in (0, 1].
      seed: of the draw; the noise belongs to the document, not to its place.
      features: of DSIR.
    """

    path: str
    num: int = 0
    fraction: float = 0.1
    seed: int = 0
    features: DsirConfig = DsirConfig()

    def __post_init__(self):
        check.types(self)
        check.at_least(0, num=self.num)
        check.positive(fraction=self.fraction)
        check.between(0, 1, fraction=self.fraction)


def identity(name: str, text: str) -> int:
    """64 bits of a document's id and text: what its noise is drawn from."""
    content = f"{name}\n{text}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big")


def noise(key: jax.Array, ids: np.ndarray) -> np.ndarray:
    """Gumbel noise of each id, float64 [n], a few ids at a time."""
    out = [np.zeros(0)]
    for a in range(0, len(ids), _CHUNK):
        some = ids[a : a + _CHUNK]
        padded = np.zeros(1 << max(len(some) - 1, 255).bit_length(), np.uint64)
        padded[: len(some)] = some
        out.append(np.asarray(dsir.gumbel_of(key, padded), np.float64)[: len(some)])
    return np.concatenate(out)


def _counts(cfg: DsirConfig, table: Any) -> Arrays:
    return {"counts": dsir.counts(parts.texts(table), cfg)}


def _weigh(model: dsir.Dsir, table: Any) -> Arrays:
    texts = parts.texts(table)
    ids = [identity(*row) for row in zip(table["id"].to_pylist(), texts, strict=True)]
    return {"ids": np.array(ids, np.uint64), "logw": dsir.dsir_weights(model, texts)}


def resample(cfg: ResampleConfig, work: Work) -> None:
    """Keeps a draw without replacement in proportion to the importance weights."""
    (counts,) = work.measure(functools.partial(_counts, cfg.features), "counts")
    target = dsir.counts((d.text for d in documents([Path(cfg.path)])), cfg.features)
    model = dsir.of_counts(np.sum(counts, axis=0), target, cfg.features)
    ids, logw = work.measure(functools.partial(_weigh, model), "ids", "logw")
    weights, names = np.concatenate(logw), np.concatenate(ids)
    eligible = int(np.sum(weights > -np.inf))
    k = cfg.num or int(cfg.fraction * eligible)
    check.between(0, eligible, num=k)
    perturbed = weights + noise(jax.random.key(cfg.seed), names)
    codes = np.where(weights > -np.inf, 1, 2)
    codes[np.lexsort((work.ranks(), -perturbed))[:k]] = 0
    work.sort_out(codes, ("", "not_drawn", "too_short"))


@dataclasses.dataclass(frozen=True)
class PerplexityConfig:
    """Keeps buckets of perplexity under an n-gram model of good text, as CCNet.

    Attributes:
      path: file or folder of good texts (Wikipedia in the paper), or a model of `words.save`.
      vocab_size: of white-space words, CCNet's normalisation applied; rarer ones are one word.
      order: longest gram.
      head: percentile up to which a document is "head".
      middle: percentile up to which it is "middle"; the rest is "tail".
      keep: buckets that stay; Marion et al. keep the middle.
    """

    path: str
    vocab_size: int = 30_000
    order: int = 5
    head: float = 30.0
    middle: float = 60.0
    keep: tuple[str, ...] = ("head", "middle")

    def __post_init__(self):
        check.types(self)
        check.between(0, 100, head=self.head, middle=self.middle)
        check.between(self.head, 100, middle=self.middle)
        for name in self.keep:
            check.one_of(BUCKETS, keep=name)


@functools.lru_cache(maxsize=2)
def _model(path: Path) -> words.WordModel:
    return words.load(path)


def _perplexities(path: Path, table: Any) -> Arrays:
    return {"perplexity": _model(path).perplexity(parts.texts(table))}


def perplexity(cfg: PerplexityConfig, work: Work) -> None:
    """Keeps documents by the percentiles of the corpus' own perplexities."""
    path = Path(cfg.path)
    if path.suffix != ".npz":
        path = work.folder / "model.npz"
        if not path.exists():
            texts = [d.text for d in documents([Path(cfg.path)])]
            words.save(path, words.fit(texts, cfg.vocab_size, cfg.order))
    (found,) = work.measure(functools.partial(_perplexities, path), "perplexity")
    values = np.concatenate(found)
    bucket = np.full(len(values), BUCKETS.index("tail"))
    lines = np.isfinite(values)
    if lines.any():
        bucket[lines] = ngram.buckets(values[lines], cfg.head, cfg.middle)
    keep = np.isin(bucket, [BUCKETS.index(name) for name in cfg.keep])
    names = ("", *(f"perplexity_{name}" for name in BUCKETS))
    work.sort_out(np.where(keep, 0, bucket + 1), names)


class Drawn(NamedTuple):
    """How a draw went.

    Attributes:
      num_read: documents.
      num_eligible: of them long enough.
    """

    num_read: int
    num_eligible: int


def draw(
    read: Callable[[], Iterator[reader.Document]],
    target: Iterator[str],
    num: int,
    seed: int,
    cfg: DsirConfig,
) -> tuple[Drawn, Iterator[tuple[reader.Document, float]]]:
    """Draws documents that look like a target, reading three times and holding numbers only.

    Args:
      read: begins to read the documents anew at each call.
      target: texts to look like.
      num: how many.
      seed: of the draw.
      cfg: features and estimates.

    Returns:
      What was read, and the chosen documents in the order of reading with their log weights.

    Raises:
      ValueError: no word on a side, or num exceeds the eligible documents.
    """
    raw = dsir.counts((d.text for d in read()), cfg)
    model = dsir.of_counts(raw, dsir.counts(target, cfg), cfg)
    found = [(identity(d.id, d.text), dsir.dsir_weights(model, [d.text])[0]) for d in read()]
    ids = np.array([i for i, _ in found], np.uint64)
    logw = np.array([w for _, w in found], np.float64)
    eligible = int(np.sum(logw > -np.inf))
    if not 0 <= num <= eligible:
        raise ValueError(
            f"k must be at most the number of eligible examples; got k={num}, {eligible=}."
        )
    perturbed = logw + noise(jax.random.key(seed), ids)
    chosen = np.zeros(len(logw), bool)
    chosen[np.lexsort((ids, -perturbed))[:num]] = True
    rows = ((d, float(w)) for d, w, c in zip(read(), logw, chosen, strict=True) if c)
    return Drawn(len(logw), eligible), rows

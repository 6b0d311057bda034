"""Duplicates of a whole corpus, out of core: equal texts, and near ones by MinHash."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jaxml.curate import dedup, parts
from jaxml.curate import text as texts_
from jaxml.curate.dedup import MinHashConfig
from jaxml.curate.work import Arrays, Work

REASON = "duplicate"


@dataclasses.dataclass(frozen=True)
class ExactConfig:
    """See `dedup.exact`."""

    lower: bool = False
    fold: bool = False


def _marks(cfg: ExactConfig, table: Any) -> Arrays:
    marks = [dedup.fingerprint(t, **dataclasses.asdict(cfg)) for t in parts.texts(table)]
    return {"marks": np.frombuffer(b"".join(marks), np.uint64).reshape(-1, 2)}


def _column(arrays: Sequence[np.ndarray], column: int) -> np.ndarray:
    return np.concatenate([array[:, column] for array in arrays])


def exact(cfg: ExactConfig, work: Work) -> None:
    """Keeps of equal texts the document of the lowest rank."""
    (marks,) = work.measure(functools.partial(_marks, cfg), "marks")
    first, second = _column(marks, 0), _column(marks, 1)
    order = np.lexsort((work.ranks(), second, first))
    first, second = first[order], second[order]
    keep = np.ones(len(order), bool)
    keep[order[1:]] = (first[1:] != first[:-1]) | (second[1:] != second[:-1])
    work.keep(keep, REASON)


def _bands(cfg: MinHashConfig, table: Any) -> Arrays:
    """One uint64 of each band, 0 for documents without words; what `verify` needs."""
    shingles = texts_.shingle(texts_.pack(parts.texts(table)), cfg.ngram)
    sig = dedup.signatures(shingles, table.num_rows, cfg)
    keys = dedup.band_keys(sig, cfg.num_bands)
    out = {"bands": np.where(np.all(sig == dedup.EMPTY, axis=1)[:, None], np.uint64(0), keys)}
    if cfg.verify:
        owner, value = dedup.shingle_sets(shingles)
        bounds = np.searchsorted(owner, np.arange(table.num_rows + 1))
        out |= {"shingles": value.astype(np.uint32), "bounds": bounds}
    return out


def _verifier(cfg: MinHashConfig, work: Work, order: np.ndarray) -> Callable:
    """Which links [e, 2] between places of `order` have the wanted Jaccard similarity, bool [e]."""
    values, bounds = work.measure(functools.partial(_bands, cfg), "shingles", "bounds")
    firsts = np.concatenate([[0], np.cumsum([len(b) - 1 for b in bounds])])

    def shingles(place: int) -> np.ndarray:
        doc = order[place]
        part = int(np.searchsorted(firsts, doc, "right")) - 1
        row = doc - firsts[part]
        return np.asarray(values[part][bounds[part][row] : bounds[part][row + 1]])

    def verify(edges: np.ndarray) -> np.ndarray:
        similar = [dedup.overlap(shingles(i), shingles(j)) for i, j in edges]
        return np.array(similar, np.float64) >= cfg.verify

    return verify


def minhash(cfg: MinHashConfig, work: Work) -> None:
    """Keeps of each component of near duplicates the document of the lowest rank.

    Bands are taken one at a time; after each, the components so far are all that is kept: a few
    numbers for each document, whatever the number of links.
    """
    (bands,) = work.measure(functools.partial(_bands, cfg), "bands")
    order = np.argsort(work.ranks(), kind="stable")
    verify = _verifier(cfg, work, order) if cfg.verify else None
    labels = np.arange(len(order), dtype=np.int32)
    for band in range(cfg.num_bands):
        key = _column(bands, band)[order]
        docs = np.flatnonzero(key)
        codes = dedup.runs(key[docs], docs)
        edges = np.stack([codes >> np.int64(32), codes & np.int64(0xFFFFFFFF)], 1)
        edges = edges[labels[edges[:, 0]] != labels[edges[:, 1]]]
        if verify is not None:
            edges = edges[verify(edges)]
        labels = dedup.components(labels[edges], len(labels))[labels]
    keep = np.zeros(len(order), bool)
    keep[order[labels == np.arange(len(labels))]] = True
    work.keep(keep, REASON)

"""Semantic duplicates of a whole corpus, out of core (SemDeDup).

Vectors are whole numbers of 8 bits, whose inner products are exact in float32 whatever their order,
so clusters do not depend on how the corpus is cut into parts.
"""

import dataclasses
import functools
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxml.core import check
from jaxml.curate import parts, semantic
from jaxml.curate import text as texts_
from jaxml.curate.work import Arrays, Work

_BLOCK = 4096


@dataclasses.dataclass(frozen=True)
class SemanticConfig:
    """See `semantic.semantic`.

    Attributes:
      num_clusters: k; fewer where there are fewer documents.
      eps: in (0, 2); larger removes more.
      field: of a document that holds its embedding, a list of numbers; "" takes hashed words and
        word pairs, which find texts of the same words in another order, not of the same meaning.
      width: of hashed embeddings, at most 1,024.
      num_sample: documents that the clusters are learned from.
      num_steps: iterations of k-means.
      transitive: compare also with documents that were removed.
      seed: of the first centres.
    """

    num_clusters: int = 100
    eps: float = 0.05
    field: str = ""
    width: int = 256
    num_sample: int = 20_000
    num_steps: int = 20
    transitive: bool = True
    seed: int = 0

    def __post_init__(self):
        check.types(self)
        check.positive(num_clusters=self.num_clusters, num_sample=self.num_sample)
        check.between(1, 1024, width=self.width)
        if not 0 < self.eps < 2:
            raise ValueError(f"eps must lie in (0, 2); got eps={self.eps}.")


def hashed(texts: list[str], width: int) -> np.ndarray:
    """Embeddings of hashed words and word pairs: float64 [n, width]; square roots of counts."""
    packed, out = texts_.pack(texts), np.zeros((len(texts), width))
    for n in (1, 2):
        found = texts_.grams(packed, n)
        pairs = np.stack([found.doc.astype(np.uint64), found.hash], 1)
        pairs, count = np.unique(pairs, axis=0, return_counts=True)
        doc, gram = pairs[:, 0].astype(np.int64), texts_.mix64(pairs[:, 1] + np.uint64(n))
        sign = np.where(gram >> np.uint64(63), 1.0, -1.0)
        slot = doc * width + (gram % np.uint64(width)).astype(np.int64)
        out += np.bincount(slot, sign * np.sqrt(count), out.size).reshape(out.shape)
    return out


def _stored(metas: list[str], field: str) -> np.ndarray:
    rows = [json.loads(meta).get(field) for meta in metas]
    sizes = {len(row) if isinstance(row, list) else -1 for row in rows}
    if len(sizes) > 1 or -1 in sizes or max(sizes, default=0) > 1024:
        raise ValueError(
            f"field must name a list of at most 1,024 numbers, of one length, in every document; "
            f"got field={field!r} with lengths {sorted(sizes)} (-1: none)."
        )
    return np.array(rows, np.float64).reshape(len(rows), -1)


def quantise(emb_nd: np.ndarray) -> np.ndarray:
    """Rows scaled to [-127, 127] and rounded: int8 [n, d]; a zero row stays zero."""
    most = np.max(np.abs(emb_nd), axis=1, keepdims=True, initial=0.0)
    return np.rint(127 * emb_nd / np.where(most > 0, most, 1.0)).astype(np.int8)


def _embed(cfg: SemanticConfig, table: Any) -> Arrays:
    if cfg.field:
        emb = _stored(table["meta"].to_pylist(), cfg.field)
    else:
        emb = hashed(parts.texts(table), cfg.width)
    return {"emb": np.ascontiguousarray(quantise(emb))}


def _unit(rows: np.ndarray) -> np.ndarray:
    norm = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    return (rows / np.where(norm > 0, norm, 1.0)).astype(np.float32)


def _assign(centres: Path, folder: Path, part: Path) -> None:
    """Writes the nearest centre of every document, -1 for empty ones, and the cosine."""
    centre = np.asarray(parts.load(centres)).astype(np.float32)
    emb = parts.load(parts.sibling(folder / part.name, "emb"))
    scale = np.linalg.norm(centre.astype(np.float64), axis=1)
    labels, cosines = np.full(len(emb), -1, np.int32), np.zeros(len(emb))
    for a in range(0, len(emb), _BLOCK):
        rows = np.asarray(emb[a : a + _BLOCK]).astype(np.float32)
        norm = np.linalg.norm(rows.astype(np.float64), axis=1)
        cosine = (rows @ centre.T).astype(np.float64) / np.where(scale > 0, scale, 1.0)
        best = np.argmax(cosine, axis=1)
        labels[a : a + len(rows)] = np.where(norm > 0, best, -1)
        nearest = cosine[np.arange(len(rows)), best]
        cosines[a : a + len(rows)] = nearest / np.where(norm > 0, norm, 1.0)
    parts.save(parts.sibling(folder / part.name, "cosines"), cosines)
    parts.save(parts.sibling(folder / part.name, "labels"), labels)


class _Rows:
    """Rows of the arrays of all parts by the number of the document."""

    def __init__(self, arrays: list[np.ndarray]):
        self._arrays = arrays
        self._firsts = np.concatenate([[0], np.cumsum([len(a) for a in arrays])])

    def __getitem__(self, docs: np.ndarray) -> np.ndarray:
        out = np.zeros((len(docs), self._arrays[0].shape[1]), self._arrays[0].dtype)
        part = np.searchsorted(self._firsts, docs, "right") - 1
        for i in np.unique(part):
            mine = part == i
            out[mine] = self._arrays[i][docs[mine] - self._firsts[i]]
        return out


def _centres(cfg: SemanticConfig, rows: _Rows, ranks: np.ndarray) -> np.ndarray:
    """Clusters of a sample that only the ranks decide: int8 [k, d]."""
    chosen = np.argsort(texts_.mix64(ranks.astype(np.uint64)), kind="stable")[: cfg.num_sample]
    sample = rows[chosen]
    sample = sample[np.any(sample != 0, axis=1)]
    k = min(cfg.num_clusters, len(sample))
    if not k:
        return np.zeros((1, sample.shape[1]), np.int8)
    key = jax.random.key(cfg.seed)
    centres, _ = semantic.spherical_kmeans(key, _unit(sample), k, cfg.num_steps)
    return quantise(np.asarray(centres, np.float64))


def prune(cfg: SemanticConfig, work: Work) -> None:
    """Removes documents too close to one of their cluster that lies farther from its centre."""
    (emb,) = work.measure(functools.partial(_embed, cfg), "emb")
    rows, ranks, target = _Rows(emb), work.ranks(), work.folder / "centres.npy"
    if not target.exists():
        parts.save(target, _centres(cfg, rows, ranks))
    done = [parts.sibling(work.folder / part.name, "labels") for part in work.parts]
    todo = [part for part, path in zip(work.parts, done, strict=True) if not path.exists()]
    work.run(functools.partial(_assign, target, work.folder), todo)
    labels, cosines = (
        np.concatenate([parts.load(parts.sibling(work.folder / p.name, name)) for p in work.parts])
        for name in ("labels", "cosines")
    )
    keep = np.ones(len(labels), bool)
    order = np.lexsort((ranks, cosines, labels))
    bounds = np.searchsorted(labels[order], np.arange(labels.max(initial=-1) + 2))
    for a, b in zip(bounds[:-1], bounds[1:], strict=True):
        members = order[a:b]
        unit = _unit(rows[members])
        keep[members] = ~semantic.too_close(unit, cfg.eps, transitive=cfg.transitive)
    work.keep(keep, "semantic_duplicate")

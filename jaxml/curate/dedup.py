"""Duplicates: exact, near (MinHash and banding), components of the pairs, who survives."""

import dataclasses
import hashlib
import unicodedata
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxml.core import check
from jaxml.core.types import Array
from jaxml.curate.components import components, survivors
from jaxml.curate.semantic import semantic
from jaxml.curate.substring import strike, substring_ranges
from jaxml.curate.text import Packed, Shingles, mix64, shingle

__all__ = [
    "MinHashConfig",
    "components",
    "exact",
    "jaccard",
    "lsh_edges",
    "minhash",
    "probability",
    "semantic",
    "signatures",
    "strike",
    "substring_ranges",
    "survivors",
    "verify",
]

EMPTY = np.uint32(0xFFFFFFFF)
"""Every hash of a document without words; no shingle's hash is this."""
_ELEMENTS, _WIDTH = 1 << 19, 32


@dataclasses.dataclass(frozen=True)
class MinHashConfig:
    """Near-duplicate search; the defaults are FineWeb's.

    Attributes:
      num_bands: b; documents that agree on a whole band are candidates.
      num_rows: r, hashes of a band.
      ngram: words of a shingle.
      seed: of the hash functions.
      verify: least exact Jaccard similarity of a link (engine); 0 trusts the bands.

    Raises:
      ValueError: a value below 1 (seed: below 0; verify: outside [0, 1]).
    """

    num_bands: int = 14
    num_rows: int = 8
    ngram: int = 5
    seed: int = 1
    verify: float = 0.0

    def __post_init__(self):
        check.types(self)
        check.between(0, 1, verify=self.verify)
        check.at_least(1, num_bands=self.num_bands, num_rows=self.num_rows, ngram=self.ngram)
        check.at_least(0, seed=self.seed)

    @property
    def num_hashes(self) -> int:
        """B r."""
        return self.num_bands * self.num_rows


def probability(similarity: float, cfg: MinHashConfig) -> float:
    """That two documents of this Jaccard similarity become candidates: `1 - (1 - J^r)^b`.

    >>> round(probability(0.8, MinHashConfig()), 3)
    0.924
    """
    return 1.0 - (1.0 - similarity**cfg.num_rows) ** cfg.num_bands


def fingerprint(text: str, *, lower: bool = False, fold: bool = False) -> bytes:
    """128 bits of the text in NFC without outer white space; optionally lower case, folded."""
    text = unicodedata.normalize("NFC", text).strip()
    text = text.lower() if lower else text
    text = " ".join(text.split()) if fold else text
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def exact(
    texts: Sequence[str],
    *,
    priority: Sequence[int] | np.ndarray | None = None,
    lower: bool = False,
    fold: bool = False,
) -> np.ndarray:
    """Which documents stay when of equal ones only the first by (priority, position) does.

    Args:
      texts: documents.
      priority: [n], lowest wins; all equal by default.
      lower: compare in lower case.
      fold: compare with white space folded.

    Returns:
      bool [n].

    >>> exact(["a", "b", " a "]).tolist()
    [True, True, False]
    """
    order = range(len(texts)) if priority is None else np.argsort(priority, kind="stable")
    keep, seen = np.zeros(len(texts), bool), set[bytes]()
    for i in order:
        mark = fingerprint(texts[i], lower=lower, fold=fold)
        keep[i] = mark not in seen
        seen.add(mark)
    return keep


def _constants(cfg: MinHashConfig) -> np.ndarray:
    """uint32 [k, 2]: odd multipliers and offsets of the hash functions."""
    count = np.arange(1, 2 * cfg.num_hashes + 1, dtype=np.uint64)
    drawn = mix64(count * np.uint64(0x9E3779B97F4A7C15) ^ mix64(np.array([cfg.seed], np.uint64)))
    drawn = (drawn >> np.uint64(32)).astype(np.uint32).reshape(-1, 2)
    drawn[:, 0] |= np.uint32(1)
    return drawn


@jax.jit
def _block_minima(constants_k2: Array, shingles_nw: Array) -> Array:
    """The least hash of each row, uint32 [k, n]: multiply-add modulo 2^32 of mixed shingles."""

    def one(constant: Array) -> Array:
        return jnp.min(shingles_nw * constant[0] + constant[1], axis=1)

    return jax.lax.map(one, constants_k2)


def signatures(shingles: Shingles, num_docs: int, cfg: MinHashConfig) -> np.ndarray:
    """MinHash signatures of hashed shingles: uint32 [num_docs, k]; `EMPTY` without shingles.

    Documents are laid out in rows of one width, padded with their own first shingle, so that one
    compiled function of one shape serves every corpus.
    """
    out = np.full((num_docs, cfg.num_hashes), EMPTY, np.uint32)
    total = len(shingles.hash)
    if not total:
        return out
    docs, first = np.unique(shingles.doc, return_index=True)
    count = np.diff(np.append(first, total))
    rows = -(-count // _WIDTH)
    height = (_ELEMENTS if total > _ELEMENTS // 8 else _ELEMENTS // 16) // _WIDTH
    row_start = np.concatenate([[0], np.cumsum(rows)])
    grid = np.repeat(shingles.hash[first], rows * _WIDTH)
    place = np.arange(total) + np.repeat(row_start[:-1] * _WIDTH - first, count)
    grid[place] = shingles.hash
    grid = grid.reshape(-1, _WIDTH)
    constants = _constants(cfg)
    minima = []
    for begin in range(0, len(grid), height):
        part = grid[begin : begin + height]
        padded = np.zeros((height, _WIDTH), np.uint32)
        padded[: len(part)] = part
        minima.append(np.asarray(_block_minima(constants, padded))[:, : len(part)])
    least = np.minimum.reduceat(np.concatenate(minima, 1), row_start[:-1], axis=1)
    out[docs] = np.minimum(least, EMPTY - np.uint32(1)).T
    return out


def minhash(packed: Packed, cfg: MinHashConfig = MinHashConfig()) -> np.ndarray:  # noqa: B008
    """MinHash signatures of the documents' word n-grams: uint32 [N, b r].

    The share of equal hashes of two documents estimates the Jaccard similarity of their sets of
    shingles. A document without words gets `EMPTY` throughout and is no candidate.
    """
    return signatures(shingle(packed, cfg.ngram), packed.num_docs, cfg)


def band_keys(sig_nk: np.ndarray, num_bands: int) -> np.ndarray:
    """One uint64 of each band: [n, b]; equal bands of different places have different keys.

    Raises:
      ValueError: num_bands does not divide k.
    """
    num_hashes = sig_nk.shape[1]
    if num_bands < 1 or num_hashes % num_bands:
        raise ValueError(
            f"num_bands must divide the number of hashes; got num_bands={num_bands}, "
            f"hashes={num_hashes}."
        )
    bands = sig_nk.reshape(len(sig_nk), num_bands, num_hashes // num_bands)
    key = np.broadcast_to(
        mix64(np.arange(num_bands, dtype=np.uint64) + np.uint64(1)), bands.shape[:2]
    )
    for row in range(bands.shape[2]):
        key = mix64(key ^ bands[:, :, row]) + np.uint64(0x9E3779B97F4A7C15)
    return key


def lsh_edges(sig: np.ndarray, *, num_bands: int = 14) -> np.ndarray:
    """Pairs of documents that agree on a whole band, enough of them to connect all such pairs.

    Within a run of equal bands every document is linked to the first and to its neighbour: the
    number of pairs stays linear however many copies there are.

    Args:
      sig: uint32 [n, k].
      num_bands: b; must divide k.

    Returns:
      int32 [e, 2], sorted, each pair once, smaller index first.

    Raises:
      ValueError: num_bands does not divide k.

    >>> lsh_edges(np.array([[1, 2], [1, 9], [3, 4]], np.uint32), num_bands=2).tolist()
    [[0, 1]]
    """
    keys = band_keys(sig, num_bands)
    docs = np.flatnonzero(~np.all(sig == EMPTY, axis=1))
    found = [runs(keys[docs, band], docs) for band in range(num_bands)]
    codes = np.unique(np.concatenate(found))
    return np.stack([codes >> np.int64(32), codes & np.int64(0xFFFFFFFF)], 1).astype(np.int32)


def runs(keys: np.ndarray, docs: np.ndarray) -> np.ndarray:
    """Links of equal keys as `smaller << 32 | larger`; `docs` ascends."""
    if not len(keys):
        return np.zeros(0, np.int64)
    order = np.argsort(keys, kind="stable")
    keys, docs = keys[order], docs[order].astype(np.int64)
    same = np.concatenate([[False], keys[1:] == keys[:-1]])
    head = docs[np.maximum.accumulate(np.where(same, 0, np.arange(len(keys))))]
    return np.concatenate(
        [(head[same] << 32) | docs[same], (docs[:-1][same[1:]] << 32) | docs[same]]
    )


def shingle_sets(shingles: Shingles) -> tuple[np.ndarray, np.ndarray]:
    """Each document's different shingles: owners int64 [u], not decreasing, and hashes int64."""
    codes = np.unique((shingles.doc.astype(np.int64) << 32) | shingles.hash.astype(np.int64))
    return codes >> np.int64(32), codes & np.int64(0xFFFFFFFF)


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Jaccard similarity of two sorted sets; 0 where both are empty."""
    shared = len(np.intersect1d(a, b, assume_unique=True))
    return shared / max(len(a) + len(b) - shared, 1)


def jaccard(shingles: Shingles, edges: np.ndarray) -> np.ndarray:
    """Exact Jaccard similarity of the shingle sets of each pair: float64 [e]."""
    owner, value = shingle_sets(shingles)
    last = int(max(np.max(edges, initial=0), np.max(owner, initial=0)))
    bounds = np.searchsorted(owner, np.arange(last + 2))
    sets = (tuple(value[bounds[i] : bounds[i + 1]] for i in edge) for edge in edges)
    return np.array([overlap(*pair) for pair in sets], np.float64)


def verify(shingles: Shingles, edges: np.ndarray, threshold: float) -> np.ndarray:
    """The pairs whose exact Jaccard similarity is at least `threshold`, int32 [e', 2].

    Raises:
      ValueError: threshold outside [0, 1].
    """
    check.between(0, 1, threshold=threshold)
    return edges[jaccard(shingles, edges) >= threshold]

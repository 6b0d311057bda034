"""Exact repeated substrings by prefix doubling, and striking them out of texts."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from jaxml.core import check

type Keep = Literal["none", "first"]


def _window_ids(tokens: np.ndarray, length: int) -> np.ndarray:
    """Equal numbers for equal windows of `length` tokens, one of each start: int64 [n - L + 1].

    After k sorts a position knows its window of 2^k tokens; two overlapping ones of the largest
    power within L make the window of L, so log2(L) + 1 sorts are exact for any L.
    """
    ids = np.unique(tokens, return_inverse=True)[1].astype(np.uint64)
    size = 1
    while size < length:
        step = min(size, length - size)
        pairs = (ids[: len(ids) - step] << np.uint64(32)) | ids[step:]
        ids = np.unique(pairs, return_inverse=True)[1].astype(np.uint64)
        size += step
    return ids.astype(np.int64)


def substring_ranges(
    tokens: np.ndarray,
    doc_offsets: np.ndarray,
    length: int = 50,
    keep: Keep = "none",
) -> list[tuple[int, int]]:
    """Ranges covered by windows of `length` tokens that occur more than once (Lee et al. 2022).

    Windows lie within one document. Struck text can bring new repeats together, so the paper
    strikes twice.

    Args:
      tokens: integers [n], all documents one after the other.
      doc_offsets: [N + 1], see `text.Packed`.
      length: L, tokens of a window.
      keep: "none" covers every copy, as the paper; "first" spares the first one.

    Returns:
      Ranges [a, b), ascending, disjoint; two that touch within a document are one.

    Raises:
      ValueError: length < 1, or doc_offsets that do not run from 0 to n.

    >>> substring_ranges(np.array([1, 2, 3, 9, 1, 2, 3]), np.array([0, 4, 7]), length=3)
    [(0, 3), (4, 7)]
    """
    check.at_least(1, length=length)
    check.one_of(("none", "first"), keep=keep)
    tokens, offsets = np.asarray(tokens), np.asarray(doc_offsets, np.int64)
    if (
        len(offsets) < 1
        or offsets[0] != 0
        or offsets[-1] != len(tokens)
        or np.any(np.diff(offsets) < 0)
    ):
        raise ValueError(
            f"doc_offsets must ascend from 0 to the number of tokens; got doc_offsets={offsets}, "
            f"tokens={len(tokens)}."
        )
    if len(tokens) < length:
        return []
    ids = _window_ids(tokens, length)
    starts = np.flatnonzero(inside(offsets, length))
    _, first, inverse, count = np.unique(
        ids[starts], return_index=True, return_inverse=True, return_counts=True
    )
    repeated = count[inverse] > 1
    if keep == "first":
        repeated &= first[inverse] != np.arange(len(starts))
    return union(starts[repeated], length, offsets)


def inside(offsets: np.ndarray, length: int) -> np.ndarray:
    """Which windows lie within one document, bool [n - length + 1]."""
    ends = np.repeat(offsets[1:], np.diff(offsets))
    num = max(len(ends) - length + 1, 0)
    return np.arange(num) + length <= ends[:num]


def union(starts: np.ndarray, length: int, offsets: np.ndarray) -> list[tuple[int, int]]:
    """Ranges [a, b) covered by windows, ascending; two that touch within a document are one."""
    if not len(starts):
        return []
    doc = np.searchsorted(offsets, starts, "right")
    fresh = np.concatenate([[True], (starts[1:] > starts[:-1] + length) | (doc[1:] != doc[:-1])])
    last = np.append(np.flatnonzero(fresh)[1:] - 1, len(starts) - 1)
    return list(zip(starts[fresh].tolist(), (starts[last] + length).tolist(), strict=True))


def strike(texts: Sequence[str], length: int = 100, keep: Keep = "none") -> list[str]:
    """The texts without the repeated substrings of at least `length` bytes of UTF-8.

    A range that begins or ends within a character is narrowed to whole characters.

    Args:
      texts: documents.
      length: bytes of a window.
      keep: see `substring_ranges`.
    """
    flat, offsets = flatten(texts)
    return without(flat, offsets, substring_ranges(flat, offsets, length, keep))


def flatten(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """The texts as UTF-8, one after the other, uint8 [n], and where each begins, int64 [N + 1]."""
    encoded = [t.encode("utf-8", "surrogatepass") for t in texts]
    offsets = np.concatenate([[0], np.cumsum([len(e) for e in encoded])]).astype(np.int64)
    return np.frombuffer(b"".join(encoded), np.uint8), offsets


def without(flat: np.ndarray, offsets: np.ndarray, ranges: Sequence[tuple[int, int]]) -> list[str]:
    """The documents of `flatten` without ranges of bytes, narrowed to whole characters."""
    within = np.append((flat & 0xC0) == 0x80, False)
    left = np.ones(len(flat), bool)
    for a, b in ranges:
        while within[a]:
            a += 1
        while within[b]:
            b -= 1
        left[a:b] = False
    pieces = zip(offsets[:-1], offsets[1:], strict=True)
    return [flat[a:b][left[a:b]].tobytes().decode("utf-8", "surrogatepass") for a, b in pieces]

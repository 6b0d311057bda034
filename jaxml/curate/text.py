"""Text as arrays: normalised, packed into one buffer of bytes, cut into hashed word n-grams."""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from typing import NamedTuple

import numpy as np

from jaxml.core import check

U64 = np.uint64
_BLOCK = 1 << 22
_DIGITS = re.compile(r"\d+(?:\.\d+)?")
_ASCII_DIGITS = re.compile(rb"[0-9]+(?:\.[0-9]+)?")
_END = b"\xff"


class _Blank(dict):
    """A translation table: punctuation, symbols, space and control characters become a blank."""

    def __missing__(self, code: int) -> int:
        kind = unicodedata.category(chr(code))
        self[code] = 32 if kind[0] in "PSZ" or kind in ("Cc", "Cf") else code
        return self[code]


class _Unmarked(dict):
    """A translation table without marks (accents that stand alone after decomposition)."""

    def __missing__(self, code: int) -> int | None:
        self[code] = None if unicodedata.category(chr(code)) == "Mn" else code
        return self[code]


_BLANKS, UNMARKED = _Blank({ord("ς"): ord("σ")}), _Unmarked()
_FOREIGN = re.compile(r"[^\x00-\x7f]+")
_ASCII = bytes(_BLANKS[i] if i < 128 else i for i in range(256)).lower()


def normalise(text: str) -> str:
    r"""The form in which near-duplicates are compared (MinHash, contamination).

    Lower case; a number (digits with at most one decimal part) becomes `0`; punctuation, symbols
    and control characters become blanks; white space folds to one blank; marks are removed after
    canonical decomposition.

    >>> normalise("  Café, 3.14 &\n42 times!")
    'cafe 0 0 times'
    """
    if text.isascii():
        lowered = _ASCII_DIGITS.sub(b"0", text.encode()).translate(_ASCII)
        return b" ".join(lowered.split()).decode()
    folded = _DIGITS.sub("0", text.lower()).translate(_BLANKS)
    split = unicodedata.normalize("NFD", " ".join(folded.split()))
    return " ".join(split.translate(UNMARKED).split())


@lru_cache(maxsize=1 << 16)
def _fold(foreign: str) -> str:
    """Characters beyond ASCII in the form of `normalise`, numbers aside: a decimal becomes 0."""
    split = unicodedata.normalize("NFD", foreign.lower().translate(_BLANKS)).translate(UNMARKED)
    return "".join("0" if c.isdecimal() else c for c in split)


class Packed(NamedTuple):
    """Documents in one buffer; each is followed by one blank, so that no word spans two.

    Attributes:
      bytes: uint8 [n], UTF-8.
      doc_offsets: int64 [N + 1]; document i is `bytes[doc_offsets[i]:doc_offsets[i + 1]]`.
    """

    bytes: np.ndarray
    doc_offsets: np.ndarray

    @property
    def num_docs(self) -> int:
        """N."""
        return len(self.doc_offsets) - 1


def pack(texts: Sequence[str]) -> Packed:
    """Normalises the texts (`normalise`, up to the width of blanks) and joins them.

    ASCII goes through one pass over all texts together. Lone surrogates are dropped.

    Raises:
      TypeError: a single string instead of a sequence of them.
    """
    if isinstance(texts, str):
        raise TypeError("texts must be a sequence of strings; got one string.")
    ready = (t if t.isascii() else _FOREIGN.sub(lambda m: _fold(m.group()), t) for t in texts)
    joined = b"".join(t.encode("utf-8", "ignore") + _END for t in ready)
    joined = _ASCII_DIGITS.sub(b"0", joined).translate(_ASCII)
    flat = np.frombuffer(joined, np.uint8).copy()
    ends = np.flatnonzero(flat == _END[0])
    flat[ends] = 32
    return Packed(flat, np.concatenate([[0], ends + 1]).astype(np.int64))


class Shingles(NamedTuple):
    """Hashed n-grams in document order.

    Attributes:
      hash: uint32 [m] (uint64 from `grams`).
      doc: int32 [m], not decreasing.
    """

    hash: np.ndarray
    doc: np.ndarray


def mix64(x: np.ndarray) -> np.ndarray:
    """A bijection of uint64 whose every output bit depends on every input bit (splitmix64)."""
    x = (x ^ (x >> U64(30))) * U64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> U64(27))) * U64(0x94D049BB133111EB)
    return x ^ (x >> U64(31))


_BYTE = mix64(np.arange(1, 257, dtype=U64) * U64(0x9E3779B97F4A7C15))
_BASE = 0x5851F42D4C957F2D
_GRAM = U64(0xD6E8FEB86659FD93)


@cache
def _powers(size: int) -> tuple[np.ndarray, np.ndarray]:
    inverse = pow(_BASE, -1, 1 << 64)
    ones = np.ones(size + 1, U64)
    ones[1:] = U64(_BASE)
    up = np.multiply.accumulate(ones)
    ones[1:] = U64(inverse)
    return up, np.multiply.accumulate(ones)


def polynomial(flat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Prefix sums [n + 1] and factors [n], uint64: the bytes a..b hash to `(p[b] - p[a]) * f[a]`.

    A polynomial of the bytes modulo 2^64, the same wherever the bytes lie; `mix64` it.
    """
    up, down = _powers(max(_BLOCK, 1 << int(len(flat)).bit_length()))
    prefix = np.zeros(len(flat) + 1, U64)
    np.cumsum(_BYTE[flat] * up[: len(flat)], out=prefix[1:])
    return prefix, down[: len(flat)]


def word_hashes(flat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The words of a buffer of blanks and UTF-8: first bytes int64 [w], hashes uint64 [w].

    Taken in blocks that end at a blank, so that a huge document needs little memory.
    """
    starts, hashes, begin = [np.zeros(0, np.int64)], [np.zeros(0, U64)], 0
    while begin < len(flat):
        end = _blank_before(flat, begin)
        at, values = _word_hashes(flat[begin:end])
        starts.append(at + begin)
        hashes.append(values)
        begin = end
    return np.concatenate(starts), np.concatenate(hashes)


def _blank_before(flat: np.ndarray, begin: int) -> int:
    """Where a block from `begin` ends: behind its last blank, or behind the next one."""
    if len(flat) - begin <= _BLOCK:
        return len(flat)
    for first in (begin + _BLOCK - 4096, begin):
        blanks = np.flatnonzero(flat[first : begin + _BLOCK] == 32)
        if len(blanks):
            return first + int(blanks[-1]) + 1
    later = np.flatnonzero(flat[begin + _BLOCK :] == 32)
    return begin + _BLOCK + int(later[0]) + 1 if len(later) else len(flat)


def _word_hashes(flat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    solid = np.concatenate([[False], flat != 32, [False]])
    edges = np.flatnonzero(solid[1:] != solid[:-1])
    starts, ends = edges[::2], edges[1::2]
    prefix, factor = polynomial(flat)
    return starts, mix64((prefix[ends] - prefix[starts]) * factor[starts])


def grams(packed: Packed, n: int) -> Shingles:
    """As `shingle`, with hashes of 64 bits, for sets that are compared with huge ones.

    Raises:
      ValueError: n < 1.
    """
    check.at_least(1, n=n)
    hashes, docs = [np.zeros(0, U64)], [np.zeros(0, np.int32)]
    offsets = packed.doc_offsets
    for first, last in blocks(offsets):
        part = packed.bytes[offsets[first] : offsets[last]]
        values, owner = _grams(part, offsets[first : last + 1] - offsets[first], n)
        hashes.append(values)
        docs.append(owner + np.int32(first))
    return Shingles(np.concatenate(hashes), np.concatenate(docs))


def blocks(doc_offsets: np.ndarray, size: int = _BLOCK) -> Iterator[tuple[int, int]]:
    """Ranges of documents of at most `size` bytes together, or of one document."""
    first, num_docs = 0, len(doc_offsets) - 1
    while first < num_docs:
        last = int(np.searchsorted(doc_offsets, doc_offsets[first] + size, "right")) - 1
        last = min(max(last, first + 1), num_docs)
        yield first, last
        first = last


def shingle(packed: Packed, n: int = 5) -> Shingles:
    """Word n-grams of every document.

    A document of 1 to n - 1 words is one shingle, of all of them; one without words has none.

    Args:
      packed: documents.
      n: words of a shingle.

    Raises:
      ValueError: n < 1.
    """
    found = grams(packed, n)
    return Shingles((found.hash >> U64(32)).astype(np.uint32), found.doc)


def _grams(flat: np.ndarray, offsets: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    starts, words = word_hashes(flat)
    bounds = np.searchsorted(starts, offsets)
    count = np.diff(bounds)
    owner = np.repeat(np.arange(len(count), dtype=np.int32), count)
    place = np.arange(len(words)) - bounds[owner]
    full = place + n <= count[owner]
    padded = np.concatenate([words, np.zeros(n, U64)])
    gram = np.zeros(len(words), U64)
    for k in range(n):
        gram = gram * _GRAM + padded[k : k + len(words)]
    short = np.flatnonzero((count > 0) & (count < n))
    begins = bounds[short]
    for row, first in zip(short, begins, strict=True):
        few = [*words[first : first + count[row]].tolist(), *[0] * (n - int(count[row]))]
        gram[first] = _horner(few)
    full[begins] = True
    return mix64(gram[full]), owner[full]


def _horner(values: Sequence[int]) -> int:
    total = 0
    for value in values:
        total = (total * int(_GRAM) + value) & 0xFFFFFFFFFFFFFFFF
    return total


def words(text: str) -> list[str]:
    """White-space words, the words of every rule here unless another function is given."""
    return text.split()

"""Repeated substrings of a whole corpus, out of core; the answer of `substring.strike`.

Any repeated window holds the least of its short grams, which then occurs in two places. So a first
pass notes such grams (a few in a hundred places), a second the windows around grams that occur
twice, a third strikes the windows that do. What is compared across parts are 64-bit hashes, in
sorted files, one range of values at a time.
"""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxml.core import check
from jaxml.curate import parts, substring
from jaxml.curate import text as texts_
from jaxml.curate.work import Arrays, Work

_ROOM = 1 << 22
_SIZE = 1 << 21


@dataclasses.dataclass(frozen=True)
class SubstringConfig:
    """See `substring.strike`; texts that lose everything go.

    Attributes:
      length: bytes of UTF-8 of a window.
      keep: "none" strikes every copy, as the paper; "first" spares the one of the lowest rank.
    """

    length: int = 100
    keep: substring.Keep = "none"

    def __post_init__(self):
        check.types(self)
        check.at_least(2, length=self.length)


def _slide(values: np.ndarray, width: int, least: bool) -> np.ndarray:
    """The least (greatest) of every `width` neighbours: [n - width + 1]; two passes, any width."""
    take = np.minimum if least else np.maximum
    num = len(values) - width + 1
    padded = np.full(-(-len(values) // width) * width, values[-1])
    padded[: len(values)] = values
    blocks = padded.reshape(-1, width)
    ahead = take.accumulate(blocks, axis=1).ravel()
    behind = take.accumulate(blocks[:, ::-1], axis=1)[:, ::-1].ravel()
    return take(behind[:num], ahead[width - 1 : width - 1 + num])


class _Block(NamedTuple):
    """Windows of some bytes of a part, each within one document.

    Attributes:
      starts: int64 [s], in the part.
      hashes: uint64 [s].
      anchors: uint64 [s], the least gram of each window.
      sampled: uint64, the grams that are the least of a window, at least one for each place.
    """

    starts: np.ndarray
    hashes: np.ndarray
    anchors: np.ndarray
    sampled: np.ndarray


def _blocks(flat: np.ndarray, offsets: np.ndarray, length: int) -> Iterator[_Block]:
    short = (length + 1) // 2
    width = length - short + 1
    for begin in range(0, len(flat) - length + 1, _SIZE):
        piece = flat[begin : begin + _SIZE + length - 1]
        prefix, factor = texts_.polynomial(piece)
        grams, hashes = (
            texts_.mix64((prefix[n:] - prefix[:-n]) * factor[: len(piece) - n + 1])
            for n in (short, length)
        )
        starts = np.arange(begin, begin + len(hashes))
        inside = starts + length <= offsets[np.searchsorted(offsets, starts, "right")]
        anchors = np.where(inside, _slide(grams, width, least=True), np.uint64(0))
        greatest = _slide(np.pad(anchors, width - 1), width, least=False)
        yield _Block(starts[inside], hashes[inside], anchors[inside], grams[greatest == grams])


def _grams(cfg: SubstringConfig, table: Any) -> Arrays:
    flat, offsets = substring.flatten(parts.texts(table))
    found = [block.sampled for block in _blocks(flat, offsets, cfg.length)]
    return {"grams": np.sort(np.concatenate([np.zeros(0, np.uint64), *found]))}


def _among(values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Which values are in a sorted array, bool [n]."""
    if not len(wanted):
        return np.zeros(len(values), bool)
    return wanted[np.minimum(np.searchsorted(wanted, values), len(wanted) - 1)] == values


def _places(starts: np.ndarray, offsets: np.ndarray, table: Any) -> np.ndarray:
    """(rank of the document, byte in it) as one uint64 [s], whatever the part."""
    doc = np.searchsorted(offsets, starts, "right") - 1
    rank = np.asarray(table["rank"]).astype(np.uint64)[doc]
    return (rank << np.uint64(32)) | (starts - offsets[doc]).astype(np.uint64)


def _windows(cfg: SubstringConfig, anchors: Path, table: Any) -> Arrays:
    """Windows that may be repeated: hashes, ascending, and their places."""
    wanted = np.asarray(parts.load(anchors))
    flat, offsets = substring.flatten(parts.texts(table))
    hashes, starts = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
    for block in _blocks(flat, offsets, cfg.length):
        maybe = _among(block.anchors, wanted)
        starts.append(block.starts[maybe])
        hashes.append(block.hashes[maybe])
    value, where = np.concatenate(hashes), _places(np.concatenate(starts), offsets, table)
    order = np.lexsort((where, value))
    return {"windows": value[order], "where": where[order]}


def ranges(arrays: Sequence[np.ndarray], room: int = _ROOM) -> Iterator[list[slice]]:
    """Slices of sorted uint64 arrays that hold the same range of values, about `room` together."""
    pieces = -(-sum(map(len, arrays)) // room)
    cuts = np.array([(k << 64) // max(pieces, 1) for k in range(1, pieces)], np.uint64)
    bounds = [[0, *np.searchsorted(array, cuts).tolist(), len(array)] for array in arrays]
    for k in range(pieces):
        yield [slice(b[k], b[k + 1]) for b in bounds]


def repeated(
    values: Sequence[np.ndarray], where: Sequence[np.ndarray] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Values that occur more than once in sorted arrays, and the least `where` of each: uint64."""
    found, first = [np.zeros(0, np.uint64)], [np.zeros(0, np.uint64)]
    places = values if where is None else where
    for slices in ranges(values):
        value, at = (
            np.concatenate([a[s] for a, s in zip(arrays, slices, strict=True)])
            for arrays in (values, places)
        )
        order = np.lexsort((at, value))
        value, at = value[order], at[order]
        head = np.flatnonzero(np.concatenate([[True], value[1:] != value[:-1]])[: len(value)])
        twice = head[np.diff(np.append(head, len(value))) > 1]
        found.append(value[twice])
        first.append(at[twice])
    return np.concatenate(found), np.concatenate(first)


def _strike(
    cfg: SubstringConfig, folder: Path, table: Any, target: Path
) -> tuple[list[str], list[str]]:
    del target
    anchors, wanted, first = (
        np.asarray(parts.load(folder / f"{name}.npy")) for name in ("anchors", "repeats", "firsts")
    )
    before = parts.texts(table)
    flat, offsets = substring.flatten(before)
    found = [np.zeros(0, np.int64)]
    for block in _blocks(flat, offsets, cfg.length):
        maybe = _among(block.anchors, anchors)
        starts, hashes = block.starts[maybe], block.hashes[maybe]
        hit = _among(hashes, wanted)
        starts, hashes = starts[hit], hashes[hit]
        if cfg.keep == "first":
            spared = first[np.searchsorted(wanted, hashes)]
            starts = starts[spared != _places(starts, offsets, table)]
        found.append(starts)
    ranges_ = substring.union(np.concatenate(found), cfg.length, offsets)
    after = substring.without(flat, offsets, ranges_)
    gone = [bool(a) and not b for a, b in zip(before, after, strict=True)]
    return after, ["repeated_text" if lost else "" for lost in gone]


def strike(cfg: SubstringConfig, work: Work) -> None:
    """Strikes what is repeated anywhere in the corpus out of its texts."""
    (grams,) = work.measure(functools.partial(_grams, cfg), "grams")
    anchors = work.folder / "anchors.npy"
    if not anchors.exists():
        parts.save(anchors, repeated(grams)[0])
    values, where = work.measure(functools.partial(_windows, cfg, anchors), "windows", "where")
    if not (work.folder / "firsts.npy").exists():
        found, first = repeated(values, where)
        parts.save(work.folder / "repeats.npy", found)
        parts.save(work.folder / "firsts.npy", first)
    work.finish(functools.partial(_strike, cfg, work.folder))

"""One order of all documents, whatever the input's: by id, then content; found out of core.

Each part is sorted by itself; then slices of all sorted parts between two ids are sorted together,
so that only one slice of ids lies in memory. What is left of a document is a number.
"""

import bisect
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxml.core import files
from jaxml.curate import parts
from jaxml.curate.executor import Map

ROOM = 1 << 19
_KEYS = [("id", "ascending"), ("mark", "ascending")]


def _mark(text: str, meta: str) -> bytes:
    content = f"{len(text)}:{text}{meta}".encode("utf-8", "surrogatepass")
    return hashlib.blake2b(content, digest_size=16).digest()


def _sorted(table: Any) -> Any:
    return table.take(parts.arrow().compute.sort_indices(table, sort_keys=_KEYS))


def sort_part(part: Path) -> None:
    """Writes ids, marks of the content and rows of a part, sorted, beside it."""
    target = part.with_suffix(".order")
    if target.exists():
        return
    arrow = parts.arrow()
    table = parts.read(part, list(parts.COLUMNS))
    columns = zip(parts.texts(table), table["meta"].to_pylist(), strict=True)
    marks = arrow.array([_mark(*row) for row in columns], arrow.binary())
    rows = arrow.array(np.arange(table.num_rows, dtype=np.int64))
    done = _sorted(arrow.table([table["id"], marks, rows], names=["id", "mark", "row"]))
    with files.aside(target) as aside, arrow.OSFile(str(aside), "wb") as sink:
        done = done.combine_chunks()
        with arrow.ipc.new_file(sink, done.schema) as writer:
            writer.write_table(done, max_chunksize=max(done.num_rows, 1))


def _opened(part: Path) -> Any:
    arrow = parts.arrow()
    with arrow.memory_map(str(part.with_suffix(".order"))) as source:
        return arrow.ipc.open_file(source).read_all().combine_chunks()


class _Ids(Sequence[str]):
    """The ids of a sorted table, for searching."""

    def __init__(self, table: Any):
        self._column = table["id"]

    def __len__(self) -> int:
        return len(self._column)

    def __getitem__(self, index: Any) -> Any:
        return self._column[index].as_py()


def _cuts(tables: Sequence[Any], room: int) -> list[str]:
    """Ids that cut all documents into slices of about `room`."""
    total = sum(table.num_rows for table in tables)
    pieces = -(-total // room)
    if pieces < 2:
        return []
    step = max(room // 64, 1)
    sample = sorted(i for t in tables for i in t["id"].slice(step // 2)[::step].to_pylist())
    return sorted({sample[len(sample) * k // pieces] for k in range(1, pieces)}) if sample else []


def _slices(tables: Sequence[Any], room: int) -> Iterator[list[tuple[int, Any]]]:
    """For each range of ids, the slice of every table with its number."""
    cuts = _cuts(tables, room)
    bounds = [[0, *(bisect.bisect_left(_Ids(t), c) for c in cuts), t.num_rows] for t in tables]
    for k in range(len(cuts) + 1):
        yield [
            (i, table.slice(bounds[i][k], bounds[i][k + 1] - bounds[i][k]))
            for i, table in enumerate(tables)
        ]


def assign(folder: Path, run: Map, room: int = ROOM) -> None:
    """Gives every document of a folder of parts its rank, a file `*.rank.npy` beside each part.

    Args:
      folder: parts.
      run: sorts them.
      room: documents whose ids lie in memory at once.
    """
    every = parts.listed(folder)
    if all(parts.sibling(part, "rank").exists() for part in every):
        return
    arrow = parts.arrow()
    run(sort_part, every)
    tables = [_opened(part) for part in every]
    ranks = [np.zeros(table.num_rows, np.int64) for table in tables]
    first = 0
    for pieces in _slices(tables, room):
        number = np.repeat([i for i, _ in pieces], [t.num_rows for _, t in pieces])
        together = arrow.concat_tables([table for _, table in pieces])
        order = np.asarray(arrow.compute.sort_indices(together, sort_keys=_KEYS))
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(first, first + len(order))
        rows = np.asarray(together["row"])
        for i in np.unique(number):
            ranks[i][rows[number == i]] = place[number == i]
        first += len(order)
    for part, found in zip(every, ranks, strict=True):
        parts.save(parts.sibling(part, "rank"), found)
        part.with_suffix(".order").unlink(missing_ok=True)

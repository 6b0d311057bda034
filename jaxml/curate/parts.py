"""A corpus as parts: Parquet files of documents, and beside each what a stage removed from it."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxml.core import files
from jaxml.curate import reader

COLUMNS = ("id", "text", "meta")


def arrow() -> Any:
    """The package pyarrow with its parts for Parquet and for computing.

    Raises:
      ImportError: it is missing; says how to get it.
    """
    try:
        import pyarrow
        import pyarrow.compute
        import pyarrow.parquet
    except ImportError:
        raise ImportError(
            "curating needs the package pyarrow: pip install 'jaxml-lab[curate]'."
        ) from None
    return pyarrow


def listed(folder: Path) -> list[Path]:
    """The parts of a folder, in order."""
    return sorted(folder.glob("part-*.parquet"))


def write(table: Any, path: Path) -> None:
    """Writes a table whole or not at all."""
    with files.aside(path) as part:
        arrow().parquet.write_table(table, part, compression="zstd")


def read(path: Path, columns: Sequence[str] | None = None) -> Any:
    """The table of a part; what `rank.assign` left beside it is its column "rank"."""
    table = arrow().parquet.read_table(path, columns=columns, memory_map=True)
    ranks = sibling(path, "rank")
    if ranks.exists() and "rank" not in table.column_names:
        table = table.append_column("rank", arrow().array(load(ranks)))
    return table


def ranks(part: Path) -> np.ndarray:
    """The ranks of a part's documents, int64 [n]."""
    beside = sibling(part, "rank")
    if beside.exists():
        return np.asarray(load(beside))
    return np.asarray(arrow().parquet.read_table(part, columns=["rank"])["rank"])


def texts(table: Any) -> list[str]:
    """The documents of a table."""
    return table["text"].to_pylist()


def num_rows(folder: Path) -> int:
    """Documents of a folder."""
    return sum(arrow().parquet.read_metadata(part).num_rows for part in listed(folder))


def of_documents(documents: Sequence[reader.Document]) -> Any:
    """A table of documents: strings id, text and meta."""
    columns = list(zip(*documents, strict=True)) or [(), (), ()]
    arrays = [arrow().array(column, arrow().large_string()) for column in columns]
    return arrow().table(arrays, names=list(COLUMNS))


def sibling(part: Path, name: str) -> Path:
    """Where an array that belongs to a part lies."""
    return part.with_name(f"{part.stem}.{name}.npy")


def save(path: Path, array: np.ndarray) -> None:
    """Writes an array whole or not at all, its columns one behind the other."""
    with files.aside(path) as aside, aside.open("wb") as handle:
        np.save(handle, np.asfortranarray(array), allow_pickle=False)


def load(path: Path) -> np.ndarray:
    """An array, mapped from its file."""
    empty = path.stat().st_size <= 128  # nothing behind the header cannot be mapped
    return np.load(path, mmap_mode=None if empty else "r", allow_pickle=False)


def finish(table: Any, found: list[str], reasons: Sequence[str], name: str, target: Path) -> None:
    """Writes the documents that stay, with their new texts, and what went and why.

    Args:
      table: documents of the part.
      found: their texts, rewritten or not.
      reasons: why each goes; "" where it stays.
      name: of the stage.
      target: the part to write; removals go to `removed-*` beside it.
    """
    kind = arrow().large_string()
    gone = np.array([bool(reason) for reason in reasons], bool)
    table = table.set_column(table.column_names.index("text"), "text", arrow().array(found, kind))
    out = table.filter(arrow().array(gone))
    why = arrow().array([r for r in reasons if r], kind)
    excerpt = arrow().array([t[:300] for t in texts(out)], kind)
    names = arrow().array([name] * out.num_rows, kind)
    removed = arrow().table(
        [out["id"], names, why, excerpt], names=["id", "stage", "reason", "excerpt"]
    )
    write(removed, target.with_name(target.name.replace("part-", "removed-")))
    write(table.filter(arrow().array(~gone)), target)


def rows(part: Path) -> Iterator[dict[str, Any]]:
    """The documents of a part with their other fields, read a few at a time."""
    stored = arrow().parquet.ParquetFile(part)
    for batch in stored.iter_batches(batch_size=1024, columns=list(COLUMNS)):
        for row in batch.to_pylist():
            yield {"id": row["id"], "text": row["text"], **json.loads(row["meta"])}

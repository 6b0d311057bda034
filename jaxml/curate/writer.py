"""What a run leaves: documents in the wanted format, removals, quarantine."""

import gzip
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from jaxml.core import check, files
from jaxml.curate import parts


def _lines(part: Path) -> Iterator[bytes]:
    for row in parts.rows(part):
        yield (json.dumps(row, ensure_ascii=False) + "\n").encode("utf-8", "replace")


def _parquet(part: Path, target: Path) -> None:
    table = parts.arrow().parquet.read_table(part, columns=list(parts.COLUMNS))
    parts.arrow().parquet.write_table(table, target, compression="zstd")


def _json(part: Path, target: Path) -> None:
    with target.open("wb") as handle:
        handle.writelines(_lines(part))


def _gzip(part: Path, target: Path) -> None:
    with target.open("wb") as raw, gzip.GzipFile("", "wb", 6, raw, mtime=0) as handle:
        handle.writelines(_lines(part))


def _zstd(part: Path, target: Path) -> None:
    import pyarrow

    with pyarrow.output_stream(str(target), compression="zstd") as handle:
        for line in _lines(part):
            handle.write(line)


def _array_record(part: Path, target: Path) -> None:
    from array_record.python import (  # pyright: ignore[reportMissingImports]
        array_record_module,  # pyright: ignore[reportAttributeAccessIssue]
    )

    sink = array_record_module.ArrayRecordWriter(str(target), "group_size:1")
    for line in _lines(part):
        sink.write(line.rstrip(b"\n"))
    sink.close()


FORMATS: dict[str, tuple[str, Callable[[Path, Path], None]]] = {
    "parquet": (".parquet", _parquet),
    "jsonl": (".jsonl", _json),
    "jsonl.gz": (".jsonl.gz", _gzip),
    "jsonl.zst": (".jsonl.zst", _zstd),
    "array_record": (".array_record", _array_record),
}
"""Suffix and writer of each output format; array_record holds one JSON object a record."""


def write(every: Sequence[Path], folder: Path, output_format: str) -> list[Path]:
    """Writes every part that has documents, in the wanted format.

    Raises:
      ValueError: an unknown format.
    """
    check.one_of(tuple(FORMATS), output_format=output_format)
    suffix, convert = FORMATS[output_format]
    written = []
    folder.mkdir(parents=True, exist_ok=True)
    for part in every:
        if parts.arrow().parquet.read_metadata(part).num_rows:
            written.append(folder / f"{part.stem}{suffix}")
            with files.aside(written[-1]) as aside:
                convert(part, aside)
    return written


def collect(folders: Sequence[Path], out: Path) -> None:
    """Joins removals and unreadable records of all parts into one file each."""
    pyarrow = parts.arrow()
    kind = pyarrow.large_string()
    schema = pyarrow.schema([(name, kind) for name in ("id", "stage", "reason", "excerpt")])
    with (
        files.aside(out / "removed.parquet") as aside,
        pyarrow.parquet.ParquetWriter(aside, schema, compression="zstd") as sink,
    ):
        for path in (p for folder in folders[1:] for p in sorted(folder.glob("removed-*.parquet"))):
            sink.write_table(pyarrow.parquet.read_table(path).cast(schema))
    with files.aside(out / "quarantine.jsonl") as aside, aside.open("wb") as handle:
        for path in sorted(folders[0].glob("bad-*.jsonl")):
            handle.write(path.read_bytes())

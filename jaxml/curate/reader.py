"""Documents out of files: JSON lines, Parquet, text; what cannot be read is set apart, counted."""

import gzip
import io
import json
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from jaxml.core import check
from jaxml.curate import web
from jaxml.curate.record import (
    LIMITS,
    Bad,
    DecompressionError,
    Document,
    Limits,
    content_id,
    shown,
)

__all__ = ["LIMITS", "SUFFIXES", "Bad", "DecompressionError", "Document", "Limits", "content_id",
           "find", "read"]  # fmt: skip

TEXTS, PAGES = (".txt", ".md"), (".html", ".htm", ".html.gz")
LINES = (".jsonl", ".jsonl.gz", ".jsonl.zst")
ARCHIVES = (".warc", ".warc.gz")
SUFFIXES = (*LINES, ".parquet", *TEXTS, *PAGES, *ARCHIVES)
_FREE_BYTES = 1 << 28
_BATCH_BYTES = 1 << 25


def find(paths: Sequence[Path | str]) -> list[Path]:
    """The files that will be read, folders searched, each once, in the order of their names.

    Raises:
      FileNotFoundError: a path does not exist, or no file of a known kind is there.
      ValueError: a file of an unknown kind was named.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist.")
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.is_file() and p.name.endswith(SUFFIXES))
            found += [p for p in inside if not p.name.startswith(("_", "."))]
        elif path.name.endswith(SUFFIXES):
            found.append(path)
        else:
            raise ValueError(f"{path.name} must end in one of {', '.join(SUFFIXES)}.")
    if not found:
        raise FileNotFoundError(f"no file ending in {', '.join(SUFFIXES)} in {paths[0]}.")
    return list(dict.fromkeys(found))


class _Counted(io.RawIOBase):
    """A decompressed stream; fails beyond its limit, ends where the file is broken and says so."""

    def __init__(self, source: Any, limit: int, name: str):
        self._left, self._name, self.broken = limit, name, ""
        self._read = getattr(source, "read1", source.read)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            content = self._read(len(buffer))
        except (OSError, EOFError, zlib.error) as error:
            self.broken = f"{self._name} is broken: {error}"
            return 0  # what was read before it is not lost
        self._left -= len(content)
        if self._left < 0:
            raise DecompressionError(f"{self._name} grows beyond the limit of decompression.")
        buffer[: len(content)] = content
        return len(content)


def _open(path: Path, limits: Limits) -> io.BufferedReader:
    size = path.stat().st_size
    limit = _FREE_BYTES + int(size * limits.ratio)
    if path.name.endswith(".gz"):
        source: Any = gzip.open(path)  # noqa: SIM115
    elif path.name.endswith(".zst"):
        import pyarrow

        source = pyarrow.input_stream(str(path), compression="zstd")
    else:
        return path.open("rb")
    return io.BufferedReader(_Counted(source, limit, path.name), 1 << 20)


def read(
    path: Path,
    text_field: str = "text",
    limits: Limits = LIMITS,
    extractor: web.Extractor = "resiliparse",
) -> Iterator[Document | Bad]:
    """The records of one file, in order.

    Args:
      path: see `SUFFIXES`.
      text_field: field or column that holds the text, of JSON lines and Parquet.
      limits: what is refused.
      extractor: of the main text of HTML pages and WARC archives.

    Raises:
      ValueError: a Parquet file has no such column.
      ImportError: an extractor's package is missing.
    """
    if path.suffix == ".parquet":
        yield from _parquet(path, text_field, limits)
    elif path.name.endswith(TEXTS):
        yield _whole(path, limits)
    elif path.name.endswith((*PAGES, *ARCHIVES)):
        yield from _pages(path, limits, web.extractor(extractor))
    else:
        yield from _json_lines(path, text_field, limits)


def _pages(path: Path, limits: Limits, extract: web.Extract) -> Iterator[Document | Bad]:
    try:
        with _open(path, limits) as stream:
            if path.name.endswith(ARCHIVES):
                yield from web.warc(stream, path.name, extract, limits)
            else:
                yield web.html(stream, path.name, extract, limits)
            yield from _broken(stream, path.name, 0)
    except DecompressionError as error:
        yield Bad(path.name, 0, "decompression", str(error))


def _broken(stream: Any, name: str, place: int) -> Iterator[Bad]:
    """The record of a compressed file that ended early."""
    if message := getattr(stream.raw, "broken", ""):
        yield Bad(name, place, "decompression", message)


def _whole(path: Path, limits: Limits) -> Document | Bad:
    if path.stat().st_size > limits.document_bytes:
        return Bad(path.name, 0, "too_long", "")
    content = path.read_bytes()
    try:
        return Document(str(path.name), content.decode(), "{}")
    except UnicodeDecodeError:
        return Bad(path.name, 0, "invalid_utf8", shown(content))


def _json_lines(path: Path, text_field: str, limits: Limits) -> Iterator[Document | Bad]:
    place = 0
    try:
        with _open(path, limits) as stream:
            while line := stream.readline(limits.document_bytes):
                place += 1
                if len(line) >= limits.document_bytes and not line.endswith(b"\n"):
                    yield Bad(path.name, place, "too_long", shown(line))
                    while (rest := stream.readline(1 << 20)) and not rest.endswith(b"\n"):
                        pass
                elif line.strip():
                    yield _json_line(line, path.name, place, text_field)
            yield from _broken(stream, path.name, place + 1)
    except DecompressionError as error:
        yield Bad(path.name, place + 1, "decompression", str(error))


def _json_line(line: bytes, name: str, place: int, text_field: str) -> Document | Bad:
    try:
        row = json.loads(line.decode())
    except UnicodeDecodeError:
        return Bad(name, place, "invalid_utf8", shown(line))
    except (ValueError, RecursionError):
        return Bad(name, place, "malformed_json", shown(line))
    if not isinstance(row, dict):
        return Bad(name, place, "not_an_object", shown(line))
    return _document(row, name, place, text_field, line)


def _document(
    row: dict[str, Any], name: str, place: int, text_field: str, line: bytes = b""
) -> Document | Bad:
    text = row.pop(text_field, None)
    if not isinstance(text, str):
        return Bad(name, place, f"no_{text_field}", shown(line))
    text = text.encode("utf-8", "replace").decode()  # lone surrogates of JSON escapes
    key = row.pop("id", None)
    key = content_id(text) if key is None else str(key)
    return Document(key, text, json.dumps(row, ensure_ascii=False, default=str))


def _parquet(path: Path, text_field: str, limits: Limits) -> Iterator[Document | Bad]:
    import pyarrow
    import pyarrow.parquet

    try:
        stored = pyarrow.parquet.ParquetFile(path)
    except pyarrow.ArrowException as error:
        yield Bad(path.name, 0, "broken_parquet", str(error))
        return
    check.one_of(stored.schema_arrow.names, text_field=text_field)
    place = 0
    try:
        for batch in stored.iter_batches(batch_size=_batch_size(stored)):
            for row in batch.to_pylist():
                place += 1
                text = row.get(text_field)
                if isinstance(text, str) and len(text) > limits.document_bytes:
                    yield Bad(path.name, place, "too_long", text[:4096])
                else:
                    yield _document(row, path.name, place, text_field)
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        yield Bad(path.name, place + 1, "broken_parquet", str(error))


def _batch_size(stored: Any) -> int:
    """Rows whose size as stored, uncompressed, is about 32 MiB: long documents come singly."""
    groups = [stored.metadata.row_group(i) for i in range(stored.metadata.num_row_groups)]
    heaviest = max((g.total_byte_size / max(g.num_rows, 1) for g in groups), default=1.0)
    return int(min(max(_BATCH_BYTES / max(heaviest, 1.0), 1), 256))

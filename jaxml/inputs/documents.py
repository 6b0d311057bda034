"""Documents in files of one's own, such as a data pipeline leaves: read in order, or split."""

import gzip
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from jaxml.core import check
from jaxml.inputs.source import Provenance
from jaxml.inputs.text import TextSet

SUFFIXES = (".jsonl", ".jsonl.gz", ".parquet", ".array_record", ".txt")


def find(path: Path | str) -> list[Path]:
    """The files of a folder and its subfolders in the order of their names, or the file itself.

    Raises:
      FileNotFoundError: no such path, or no file of a known kind there.
    """
    path = Path(path)
    inside = sorted(path.rglob("*")) if path.is_dir() else [path] if path.is_file() else []
    found = [p for p in inside if p.is_file() and p.name.endswith(SUFFIXES)]
    if not found:
        raise FileNotFoundError(
            f"path must hold files ending in {', '.join(SUFFIXES)}; got {path}."
        )
    return found


def read(path: Path | str, text_field: str = "text") -> Iterator[str]:
    """The texts of JSON lines, Parquet, array_record of JSON objects, or plain text files.

    Args:
      path: a file or a folder.
      text_field: that holds the text.

    Raises:
      FileNotFoundError: see `find`.
      ValueError: a record without that field.
    """
    for file in find(path):
        if file.name.endswith(".txt"):
            yield file.read_text()
        elif file.name.endswith(".parquet"):
            yield from _parquet(file, text_field)
        else:
            lines = _records(file) if file.name.endswith(".array_record") else _lines(file)
            for line in lines:
                row = json.loads(line)
                check.one_of(tuple(row), text_field=text_field)
                yield row[text_field]


def _lines(file: Path) -> Iterator[bytes]:
    with gzip.open(file) if file.name.endswith(".gz") else file.open("rb") as handle:
        yield from (line for line in handle if line.strip())


def _records(file: Path, block: int = 1024) -> Iterator[bytes]:
    from array_record.python.array_record_module import ArrayRecordReader

    reader = ArrayRecordReader(str(file))
    num = reader.num_records()
    for start in range(0, num, block):
        yield from reader.read(list(range(start, min(start + block, num))))
    reader.close()


def _parquet(file: Path, text_field: str) -> Iterator[str]:
    import pyarrow.parquet

    stored = pyarrow.parquet.ParquetFile(file)
    check.one_of(stored.schema_arrow.names, text_field=text_field)
    for batch in stored.iter_batches(batch_size=1024, columns=[text_field]):
        yield from batch.column(0).to_pylist()


def load(path: Path | str, text_field: str = "text") -> TextSet:
    """All documents, each in a split that its content decides: 5 % val, 5 % test.

    So equal documents share a split, and a document stays in its split when others come or go.

    Args:
      path: a file or a folder.
      text_field: that holds the text.

    Raises:
      FileNotFoundError, ValueError: see `read`.
    """
    parts: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    whole, num_bytes = hashlib.sha256(), 0
    for text in read(path, text_field):
        encoded = text.encode("utf-8", "surrogatepass")
        digest = hashlib.sha256(encoded).digest()
        parts[{0: "val", 1: "test"}.get(digest[0] % 20, "train")].append(text)
        whole.update(digest)
        num_bytes += len(encoded)
    about = Provenance("documents", "path", whole.hexdigest(), num_bytes, "the user's own")
    return TextSet(tuple(parts["train"]), tuple(parts["val"]), tuple(parts["test"]), about)

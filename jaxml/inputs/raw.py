"""Records of the raw files, one reader for each layout."""

import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxml.inputs import source
from jaxml.inputs.codec import decode
from jaxml.inputs.integrity import DataCorruptError
from jaxml.inputs.sets import DataSet


class Columns(Sequence[dict[str, Any]]):
    """Records held as arrays of one leading size; `columns` gives them without a loop."""

    def __init__(self, columns: Mapping[str, np.ndarray]):
        """Arrays [n, ...] by name."""
        self.columns = dict(columns)

    def __len__(self) -> int:
        """Number of records."""
        return len(next(iter(self.columns.values())))

    def __getitem__(self, index: Any) -> Any:
        """One record; a slice gives `Columns`."""
        if isinstance(index, slice):
            return Columns({name: array[index] for name, array in self.columns.items()})
        return {name: array[index] for name, array in self.columns.items()}


def _idx(wanted: DataSet, located: source.Located, split: str) -> Columns:
    prefix = {"train": "train", "test": "t10k"}[split]
    arrays = {}
    for name, part, rank in (("image", "images", 3), ("label", "labels", 1)):
        file = next(f for f in wanted.files if f.name.startswith(f"{prefix}-{part}"))
        arrays[name] = idx_array(source.read(located, file), file.name, rank)
    arrays["label"] = arrays["label"].astype(np.int32)
    return Columns(arrays)


def idx_array(content: bytes, name: str, rank: int) -> np.ndarray:
    """The uint8 array of an IDX file.

    Raises:
      DataCorruptError: not an IDX file of bytes of that rank, or of another length than it says.
    """
    header = 4 + 4 * rank
    sizes = [int(size) for size in np.frombuffer(content[4:header], ">u4")]
    if content[:4] != bytes([0, 0, 8, rank]) or len(sizes) != rank:
        raise DataCorruptError(f"{name} is not an IDX file of bytes with {rank} axes.")
    if len(content) - header != int(np.prod(sizes)):
        raise DataCorruptError(
            f"{name} must hold {int(np.prod(sizes))} bytes after its header; "
            f"got {len(content) - header}."
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(sizes)


def _mosaic(wanted: DataSet, located: source.Located, split: str) -> Columns:
    shards = [f for f in wanted.files if f"-{split}-" in f.name and f.name.endswith(".webp")]
    tiles = [mosaic_tiles(source.read(located, shard)) for shard in shards]
    file = next(f for f in wanted.files if f"-{split}-labels" in f.name)
    labels = np.load(io.BytesIO(source.read(located, file)), allow_pickle=False)
    images = np.concatenate(tiles)
    return Columns({"image": images, "label": labels[: len(images)].astype(np.int32)})


def mosaic_tiles(content: bytes, size: int = 32) -> np.ndarray:
    """The square tiles of one image, row by row: uint8 [n, size, size, 3]."""
    whole = decode(content, channels=3)
    rows, columns = whole.shape[0] // size, whole.shape[1] // size
    tiles = whole.reshape(rows, size, columns, size, 3).transpose(0, 2, 1, 3, 4)
    return tiles.reshape(rows * columns, size, size, 3)


def _strips(wanted: DataSet, located: source.Located, split: str) -> Columns:
    prefix = {"train": "data_batch_", "test": "test_batch"}[split]
    names = sorted(file.name for file in wanted.files if file.name.startswith(prefix))
    by_name = {file.name: file for file in wanted.files}
    strips = [decode(source.read(located, by_name[name]), channels=3) for name in names]
    images = np.concatenate(strips).reshape(-1, 32, 32, 3)
    labels = json.loads(source.read(located, by_name[f"{split}_lables.json"]))
    return Columns({"image": images, "label": np.asarray(labels, np.int32)})


def _text(wanted: DataSet, located: source.Located, split: str) -> list[dict[str, Any]]:
    whole = source.read(located, wanted.files[0]).decode()
    cuts = [0, *(whole.find("\n", int(len(whole) * part)) + 1 for part in (0.9, 0.95)), len(whole)]
    first = ("train", "val", "test").index(split)
    return [{"text": whole[cuts[first] : cuts[first + 1]]}]


_HEADING = re.compile(r"(?:\A|(?<=\n)) \n(?= = [^=\n]+ = \n \n)")


def _articles(wanted: DataSet, located: source.Located, split: str) -> list[dict[str, Any]]:
    part = {"val": "_valid", "test": "_test"}[split]
    file = next(f for f in wanted.files if part in f.name)
    pieces = _HEADING.split(source.read(located, file).decode())
    return [{"text": piece} for piece in pieces if piece.strip()]


def _json_lines(wanted: DataSet, located: source.Located, split: str) -> list[dict[str, Any]]:
    lines = source.read(located, wanted.files[0]).split(b"\n")
    rows = (json.loads(line) for line in lines if line)
    columns = ("source", "name", "text")
    return [{name: row[name] for name in columns} for row in rows if row["split"] == split]


CORPUS_COLUMNS = ("id", "domain", "lang", "source", "license", "text")


def _parquet(wanted: DataSet, located: source.Located, split: str) -> list[dict[str, Any]]:
    try:
        import pyarrow.parquet
    except ImportError:
        raise ImportError(
            f"{wanted.name} needs the package pyarrow: pip install 'jaxml-lab[curate]'."
        ) from None
    rows: list[dict[str, Any]] = []
    for file in wanted.files:
        stream = io.BytesIO(source.read(located, file))
        rows += pyarrow.parquet.read_table(stream, columns=list(CORPUS_COLUMNS)).to_pylist()
    return rows


def _job_shop(wanted: DataSet, located: source.Located, split: str) -> list[dict[str, Any]]:
    table = json.loads(source.read(located, wanted.files[0]))
    return [
        {
            "name": name,
            "machines": np.asarray(row["machines"], np.int32),
            "durations": np.asarray(row["durations"], np.int32),
            "lb": row["lb"],
            "ub": row["ub"],
            "status": row["status"],
            "ub_paper": row.get("ub_paper", -1),
        }
        for name, row in table.items()
    ]


LAYOUTS: dict[str, Callable[[DataSet, source.Located, str], Sequence[dict[str, Any]]]] = {
    "idx": _idx,
    "mosaic": _mosaic,
    "strips": _strips,
    "text": _text,
    "articles": _articles,
    "jsonl": _json_lines,
    "parquet": _parquet,
    "jobshop": _job_shop,
}
"""Readers of a split by `DataSet.layout`."""

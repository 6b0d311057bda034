"""TFDS directories in array_record form, read without TensorFlow."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxml.core import check
from jaxml.inputs.integrity import DataCorruptError

REMEDY = "delete the directory and run `jaxml data prepare` or download it again"


def check_directory(folder: Path) -> dict[str, int]:
    """Number of records of each split, after looking at the description and the shards.

    Raises:
      DataCorruptError: an unreadable description, another file format, or a missing or empty
        shard.
    """
    try:
        info = json.loads((folder / "dataset_info.json").read_text())
        splits = {s["name"]: [int(n) for n in s["shardLengths"]] for s in info["splits"]}
        templates = {s["name"]: s.get("filepathTemplate", "") for s in info["splits"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataCorruptError(
            f"{folder}/dataset_info.json cannot be read ({error!r}); {REMEDY}."
        ) from None
    if info.get("fileFormat") != "array_record":
        raise DataCorruptError(
            f"{folder} must be in array_record form; got {info.get('fileFormat', 'tfrecord')}. "
            "Download it again with file_format='array_record'."
        )
    for split, lengths in splits.items():
        for shard in range(len(lengths)):
            path = folder / _shard_name(folder, templates[split], split, shard, len(lengths))
            if not path.is_file() or not path.stat().st_size:
                raise DataCorruptError(f"{path} is missing or empty; {REMEDY}.")
    return {split: sum(lengths) for split, lengths in splits.items()}


def _shard_name(folder: Path, template: str, split: str, shard: int, count: int) -> str:
    fields = {
        "DATASET": folder.parent.name,
        "SPLIT": split,
        "FILEFORMAT": "array_record",
        "SHARD_X_OF_Y": f"{shard:05d}-of-{count:05d}",
    }
    name = template or "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
    return name.format(**fields)


class Records(Sequence[dict[str, Any]]):
    """Records of one split, decoded when asked for."""

    def __init__(self, stored: Any):
        """Wraps a TFDS data source whose images are left encoded."""
        self._stored = stored

    def __len__(self) -> int:
        """Number of records."""
        return len(self._stored)

    def __getitem__(self, index: Any) -> Any:
        """One record; a slice gives a list of them."""
        if isinstance(index, slice):
            return list(self.read(range(*index.indices(len(self)))))
        if not -len(self) <= index < len(self):
            raise IndexError(f"index must lie in [0, {len(self)}); got {index}.")
        return next(self.read([index % len(self)]))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """All records in order, read in blocks."""
        return self.read(range(len(self)))

    def read(self, indices: Sequence[int], block: int = 1024) -> Iterator[dict[str, Any]]:
        """The records at `indices`, `block` at a time."""
        for start in range(0, len(indices), block):
            for record in self._stored.__getitems__(indices[start : start + block]):
                yield {name: _plain(value) for name, value in record.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, np.ndarray) and value.ndim == 3 and value.shape[-1] == 1:
        return value[..., 0]
    if isinstance(value, np.generic):
        return value.item()
    return value


def open_split(folder: Path, split: str) -> Records:
    """The records of one split of a TFDS directory.

    Images come as uint8 [y, x] or [y, x, c], texts as str, numbers as Python numbers, tensors
    as arrays.

    Raises:
      ValueError: the directory has no such split.
      DataCorruptError: see `check_directory`.
    """
    check.one_of(list(check_directory(folder)), split=split)
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(folder)
    return Records(builder.as_data_source(split=split))

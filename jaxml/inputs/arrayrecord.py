"""TFDS directories in array_record form, read without TensorFlow."""

import json
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxml.core import check
from jaxml.inputs.codec import decode
from jaxml.inputs.integrity import DataCorruptError, OtherFormatError

REMEDY = "delete the directory and run `jaxml data prepare` or download it again"


def shards(folder: Path) -> dict[str, list[tuple[Path, int]]]:
    """The files of each split and the records each should hold, as the description says.

    Raises:
      DataCorruptError: an unreadable description.
      OtherFormatError: the shards are not array_record files.
    """
    try:
        info = json.loads((folder / "dataset_info.json").read_text())
        if info.get("fileFormat") == "array_record":
            return {split["name"]: _files(folder, split) for split in info["splits"]}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataCorruptError(
            f"{folder}/dataset_info.json cannot be read ({error!r}); {REMEDY}."
        ) from None
    raise OtherFormatError(
        f"{folder} must be in array_record form; got {info.get('fileFormat', 'tfrecord')}"
    )


def _files(folder: Path, split: dict[str, Any]) -> list[tuple[Path, int]]:
    lengths = [int(length) for length in split["shardLengths"]]
    template = split.get("filepathTemplate", "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}")
    fields = {"DATASET": folder.parent.name, "SPLIT": split["name"], "FILEFORMAT": "array_record"}
    paths = (
        folder / template.format(**fields, SHARD_X_OF_Y=f"{index:05d}-of-{len(lengths):05d}")
        for index in range(len(lengths))
    )
    return list(zip(paths, lengths, strict=True))


def check_directory(folder: Path) -> dict[str, int]:
    """Number of records of each split, after looking at the description and the shards.

    Raises:
      DataCorruptError: as `shards`, or a missing or empty shard.
    """
    found = shards(folder)
    for path, _ in (shard for split in found.values() for shard in split):
        if not path.is_file() or not path.stat().st_size:
            raise DataCorruptError(f"{path} is missing or empty; {REMEDY}.")
    return {split: sum(length for _, length in parts) for split, parts in found.items()}


class Records(Sequence[dict[str, Any]]):
    """Records of one split, decoded when asked for."""

    def __init__(self, stored: Any, pictures: Collection[str]):
        """Wraps a TFDS data source that leaves `pictures`, names of features, encoded."""
        self._stored, self._pictures = stored, pictures

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
                yield {
                    name: decode(value) if name in self._pictures else _plain(value)
                    for name, value in record.items()
                }


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode()
    return value.item() if isinstance(value, np.generic) else value


def read_through(folder: Path, split: str) -> None:
    """Reads every stored record of a split without decoding it.

    Raises:
      DataCorruptError: a shard cannot be read, or holds another number of records than stated.
    """
    from array_record.python.array_record_module import ArrayRecordReader

    for path, stated in shards(folder)[split]:
        try:
            reader = ArrayRecordReader(str(path))
            found = len(reader.read_all())
            reader.close()
        except (ValueError, RuntimeError, IndexError) as error:
            raise DataCorruptError(f"{path} cannot be read ({error}); {REMEDY}.") from None
        if found != stated:
            raise DataCorruptError(f"{path} must hold {stated} records; got {found}; {REMEDY}.")


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

    builder: Any = tfds.builder_from_directory(folder)
    features = builder.info.features.items()
    pictures = [name for name, kind in features if isinstance(kind, tfds.features.Image)]
    encoded = {name: tfds.decode.SkipDecoding() for name in pictures}
    return Records(builder.as_data_source(split=split, decoders=encoded), pictures)

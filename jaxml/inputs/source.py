"""Where a data set is: an explicit path, `JAXML_DATA`, the TFDS directory, installed packages.

`find` looks in that order and returns the first complete copy; `read` gives one verified file;
`records` gives the examples of a split, the same ones whichever copy was found.
"""

import dataclasses
import os
import platform
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from jaxml.core import check
from jaxml.inputs import integrity
from jaxml.inputs.integrity import DataCorruptError, DataFile, DataNotFoundError, OtherFormatError
from jaxml.inputs.sets import SETS, DataSet

__all__ = [
    "SETS",
    "DataCorruptError",
    "DataNotFoundError",
    "DataSet",
    "Located",
    "Provenance",
    "find",
    "read",
    "records",
    "verify",
]


@dataclasses.dataclass(frozen=True)
class Provenance:
    """Where a text or an array came from, fit for a report: no path of this machine.

    Attributes:
      name: the data set.
      where: the kind of place, e.g. "JAXML_DATA", "TFDS", "Python standard library 3.12.1".
      sha256: of the content.
      num_bytes: of the content.
      licence: terms of the data.
    """

    name: str
    where: str
    sha256: str
    num_bytes: int
    licence: str


@dataclasses.dataclass(frozen=True)
class Located:
    """A complete copy of a data set.

    Attributes:
      kind: "raw" files, a "tfds" directory, or inside an installed "package".
      path: the folder.
      how: the place in words: "path", "JAXML_DATA", "TFDS", "package", or a package's name.
      files: for raw copies, the path of each file of the set by its `DataFile.path`.
    """

    kind: Literal["raw", "tfds", "package"]
    path: Path
    how: str
    files: Mapping[str, Path] = dataclasses.field(default_factory=dict)


def tfds_folder() -> Path:
    """The TFDS data directory: `TFDS_DATA_DIR`, else `~/tensorflow_datasets`."""
    return Path(os.environ.get("TFDS_DATA_DIR") or Path.home() / "tensorflow_datasets")


def dataset(name: str | DataSet) -> DataSet:
    """The registry's row of that name; a row is returned as it is.

    Raises:
      ValueError: no such set; the nearest name is given.
    """
    if isinstance(name, DataSet):
        return name
    check.one_of(SETS, name=name)
    return SETS[name]


def find(
    name: str | DataSet,
    path: Path | str | None = None,
    *,
    kind: Literal["raw", "tfds", "package"] | None = None,
) -> Located:
    """The first complete copy of a data set.

    Args:
      name: of the set, or a registry row.
      path: looked at and nothing else, if given: a folder laid out like `JAXML_DATA`, the set's
        own folder, its only file, or a TFDS directory.
      kind: of copy to accept; None takes any.

    Raises:
      ValueError: the registry has no such set.
      DataNotFoundError: there is no complete copy; says where was looked and how to get it.
      DataCorruptError: a TFDS directory is there but broken.
    """
    wanted = dataset(name)
    searched: list[str] = []
    for how, folder in _places(wanted, path):
        located = _tfds_copy(wanted, folder, how, searched) if kind in (None, "tfds") else None
        if located is None and kind in (None, "raw"):
            located = _raw_copy(wanted, folder, how, searched)
        if located:
            return located
    if wanted.name == "python" and path is None:
        library = Path(sysconfig.get_path("stdlib"))
        return Located("package", library, f"Python standard library {platform.python_version()}")
    raise DataNotFoundError(_missing(wanted, searched))


def _places(wanted: DataSet, path: Path | str | None) -> Iterator[tuple[str, Path]]:
    if path is not None:
        yield "path", Path(path).expanduser()
        return
    if os.environ.get("JAXML_DATA"):
        yield "JAXML_DATA", Path(os.environ["JAXML_DATA"]).expanduser()
    yield "TFDS", tfds_folder()
    yield from (("package", Path(folder)) for folder in wanted.packages)


def _tfds_copy(wanted: DataSet, folder: Path, how: str, searched: list[str]) -> Located | None:
    for directory in wanted.tfds:
        own = folder if folder.parts[-2:] == tuple(directory.split("/")) else folder / directory
        if (own / "dataset_info.json").is_file():
            from jaxml.inputs import arrayrecord

            try:
                arrayrecord.check_directory(own)
            except OtherFormatError as error:
                searched.append(str(error))
            else:
                return Located("tfds", own, how)
    return None


def _raw_copy(wanted: DataSet, folder: Path, how: str, searched: list[str]) -> Located | None:
    found = {file.path: _locate(file, folder, len(wanted.files)) for file in wanted.files}
    missing = [path for path, at in found.items() if at is None]
    if wanted.files and not missing:
        return Located("raw", folder, how, {path: at for path, at in found.items() if at})
    place = str(folder) if how == "path" else f"{how} ({folder})"
    if not folder.exists():
        searched.append(f"{place}: no such folder")
    elif 0 < len(missing) < len(found):
        searched.append(f"{place}: lacks {', '.join(missing[:3])}{'...' * (len(missing) > 3)}")
    else:
        searched.append(f"{place}: not there")
    return None


def _locate(file: DataFile, folder: Path, num_files: int) -> Path | None:
    if num_files == 1 and folder.is_file():
        return folder
    parent = file.path.rpartition("/")[0]
    for candidate in (folder / parent, folder):
        for spelling in file.spellings():
            if (candidate / spelling).is_file():
                return candidate / spelling
    return None


def _missing(wanted: DataSet, searched: Sequence[str]) -> str:
    places = "; ".join(searched) or "no place to look"
    if not os.environ.get("JAXML_DATA"):
        places += "; JAXML_DATA is not set"
    remedies = [f"get {wanted.get}", "set JAXML_DATA=FOLDER"]
    if wanted.layout:
        remedies.append(f"run `jaxml data prepare {wanted.name} --source DIR`")
    return (
        f"data set {wanted.name!r} not found. Looked in {places}. "
        f"To have it: {', or '.join(remedies)}."
    )


def read(located: Located, file: DataFile) -> bytes:
    """The content of one file of a raw copy, decompressed and verified.

    Raises:
      DataCorruptError: it differs from the known checksum.
    """
    return integrity.verified(located.files[file.path], file)


def verify(name: str | DataSet, located: Located) -> None:
    """Reads every file of a raw copy, or looks over a TFDS directory.

    Raises:
      DataCorruptError: a file differs; names it.
    """
    if located.kind == "raw":
        for file in dataset(name).files:
            read(located, file)
    elif located.kind == "tfds":
        from jaxml.inputs import arrayrecord

        for split in arrayrecord.check_directory(located.path):
            arrayrecord.read_through(located.path, split)


def records(
    name: str | DataSet, split: str, path: Path | str | None = None
) -> Sequence[dict[str, Any]]:
    """The examples of one split, by index, from raw files or from a TFDS directory.

    Directories that `jaxml data prepare` wrote keep the order of the raw files; the official
    TFDS directories hold the same records in TFDS's shuffled order.

    Args:
      name: of the set, or a registry row.
      split: one of the set's splits.
      path: see `find`.

    Raises:
      ValueError: no such set or split, or a set that its system reads itself.
      DataNotFoundError, DataCorruptError: see `find` and `read`.
    """
    wanted = dataset(name)
    if not wanted.layout:
        raise ValueError(f"name must be a set with records; {wanted.name} has only files.")
    wanted.check_split(split)
    located = find(wanted, path)
    if located.kind == "tfds":
        from jaxml.inputs import arrayrecord

        return arrayrecord.open_split(located.path, split)
    from jaxml.inputs import raw

    return raw.LAYOUTS[wanted.layout](wanted, located, split)

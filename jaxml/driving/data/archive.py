"""Files of a registered data set, verified and opened."""

import functools
import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from jaxml.inputs import source
from jaxml.inputs.codec import decode
from jaxml.inputs.source import Provenance


def contents(name: str, path: Path | str | None = None, ending: str = "") -> dict[str, bytes]:
    """The files of a set by name within its folder, those with this ending.

    Raises:
      DataNotFoundError: there is no copy; says how to get it.
      DataCorruptError: a file differs from its checksum.
    """
    located = source.find(name, path, kind="raw")
    wanted = [f for f in source.SETS[name].files if f.path.endswith(ending)]
    return {f.path.rpartition("/")[2]: source.read(located, f) for f in wanted}


def arrays(content: bytes) -> Mapping[str, np.ndarray]:
    """The arrays of an npz; nothing is unpickled."""
    with np.load(io.BytesIO(content), allow_pickle=False) as found:
        return {name: found[name] for name in found.files}


def cloud(found: Mapping[str, np.ndarray], *, needs_intensity: bool = True) -> np.ndarray:
    """Points [p, 4] (x, y, z in metres, intensity in [0, 1]) of centimetres and bytes.

    Raises:
      ValueError: points without intensity where it is needed.
    """
    xyz = found["xyz_cm"].astype(np.float32) / 100
    if "intensity" not in found:
        if needs_intensity:
            raise ValueError("points must have an intensity; got x, y, z alone.")
        return np.pad(xyz, ((0, 0), (0, 1)))
    return np.concatenate([xyz, found["intensity"][:, None].astype(np.float32) / 255], -1)


def jpegs(content: np.ndarray, offsets: np.ndarray) -> list[np.ndarray]:
    """Images uint8 [y, x, 3] of JPEG bytes laid end to end."""
    return [
        np.asarray(decode(content[a:b].tobytes()))
        for a, b in zip(offsets, offsets[1:], strict=False)
    ]


@functools.cache
def _members(content: bytes) -> dict[str, str]:
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:*") as archive:
        found = {}
        for member in archive.getmembers():
            handle = archive.extractfile(member) if member.isfile() else None
            if handle is not None and member.name.endswith(".txt"):
                found[member.name.removeprefix("./").removesuffix(".txt")] = handle.read().decode()
    return found


def texts(name: str, path: Path | str | None = None) -> tuple[dict[str, str], Provenance]:
    """Every text of a set that is one archive, by `folder/stem`, and where it came from.

    Args:
      name: of the set in `jaxml.inputs.source`.
      path: see `source.find`.

    Raises:
      DataNotFoundError: the set is not on this machine; says how to get it.
      DataCorruptError: the archive is not the known one.
    """
    located = source.find(name, path)
    known = source.dataset(name)
    (file,) = known.files
    content = source.read(located, file)
    about = Provenance(name, located.how, file.sha256, len(content), known.licence)
    return _members(content), about

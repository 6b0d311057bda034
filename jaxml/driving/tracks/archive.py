"""Text files out of a verified tar archive of the registry."""

import functools
import io
import tarfile

from jaxml.inputs import source
from jaxml.inputs.source import Provenance


@functools.cache
def _members(content: bytes) -> dict[str, str]:
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:*") as archive:
        found = {}
        for member in archive.getmembers():
            handle = archive.extractfile(member) if member.isfile() else None
            if handle is not None and member.name.endswith(".txt"):
                found[member.name.removeprefix("./").removesuffix(".txt")] = handle.read().decode()
    return found


def texts(name: str, path: str | None = None) -> tuple[dict[str, str], Provenance]:
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

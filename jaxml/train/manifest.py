"""A list of a folder's files with sizes and hashes: how damage is told from a whole checkpoint."""

import json
from pathlib import Path
from typing import Any

from jaxml.core import files

NAME = "manifest.json"


class DamagedError(ValueError):
    """A folder does not hold what its manifest says."""


def seal(folder: Path, about: dict[str, Any]) -> None:
    """Writes the manifest: `about`, and the size and SHA-256 of every file below the folder.

    It is written last, aside and renamed, so a folder with a manifest was complete.
    """
    listed = {
        path.relative_to(folder).as_posix(): {
            "bytes": path.stat().st_size,
            "sha256": files.sha256(path),
        }
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    files.write_text(folder / NAME, json.dumps({**about, "files": listed}, indent=1) + "\n")


def read(folder: Path) -> dict[str, Any]:
    """The manifest, with every file it lists checked against it.

    Raises:
      DamagedError: says which file is missing, of another size, or of other content.
    """
    path = folder / NAME
    try:
        content = json.loads(path.read_text())
        listed = content["files"]
    except FileNotFoundError:
        raise DamagedError(f"{NAME} is missing") from None
    except (ValueError, KeyError, TypeError):
        raise DamagedError(f"{NAME} is not readable") from None
    for name, entry in listed.items():
        _check_file(folder / name, name, entry)
    return content


def _check_file(path: Path, name: str, entry: dict[str, Any]) -> None:
    if not path.is_file():
        raise DamagedError(f"{name} is missing")
    if path.stat().st_size != entry["bytes"]:
        raise DamagedError(f"{name} has {path.stat().st_size} bytes, expected {entry['bytes']}")
    if files.sha256(path) != entry["sha256"]:
        raise DamagedError(f"{name} has other content than was written (SHA-256 differs)")

"""Lines of JSON in a file that grows, such as the finished runs of a study.

A process that is stopped while it writes leaves half a line: it is not read, and the next line
takes its place.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def read(path: Path | str) -> list[dict[str, Any]]:
    """The objects of the whole lines of a file; none where there is no file.

    Raises:
      ValueError: a whole line that is no JSON object; it is named.
    """
    path, found = Path(path), []
    if not path.exists():
        return []
    *whole, _ = path.read_bytes().split(b"\n")
    for number, line in enumerate(whole, 1):
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict):
            raise ValueError(f"{path}, line {number}: must be a JSON object; got {line[:60]!r}.")
        found.append(row)
    return found


def append(path: Path | str, row: Mapping[str, Any]) -> None:
    """Adds a line, in the place of half a line at the end; makes the file and its folder."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps(dict(row)).encode() + b"\n"
    with path.open("r+b" if path.exists() else "w+b") as handle:
        handle.seek(handle.read().rfind(b"\n") + 1)
        handle.truncate()
        handle.write(line)

"""Files: written aside and renamed, folders locked against a second writer, contents hashed."""

import contextlib
import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def aside(path: Path | str) -> Iterator[Path]:
    """Yields a temporary path beside `path` that replaces it when the block ends well.

    The old file stays whole if the block fails or the process dies.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    os.close(handle)
    part = Path(name)
    try:
        yield part
        with part.open("rb") as done:
            os.fsync(done.fileno())
        os.chmod(part, 0o644)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_bytes(path: Path | str, content: bytes) -> None:
    """Writes `content` whole or not at all."""
    with aside(path) as part:
        part.write_bytes(content)


def write_text(path: Path | str, content: str) -> None:
    """Writes UTF-8 text whole or not at all."""
    write_bytes(path, content.encode())


class FolderInUseError(RuntimeError):
    """Another process writes to the same folder."""


@contextlib.contextmanager
def lock(folder: Path | str) -> Iterator[None]:
    """Holds the folder for this process; the lock dies with the process.

    Raises:
      FolderInUseError: another live process holds it.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / ".lock"
    with path.open("a+") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            handle.seek(0)
            owner = handle.read().strip() or "another process"
            raise FolderInUseError(
                f"{folder} is being written by {owner}; wait for it, or choose another folder."
            ) from None
        handle.truncate(0)
        handle.write(f"process {os.getpid()}")
        handle.flush()
        yield


def sha256(path: Path | str) -> str:
    """The SHA-256 of a file's content, in hex."""
    with Path(path).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()

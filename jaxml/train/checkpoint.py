"""Checkpoints: written in the background, whole or not at all, checked before they are used.

A checkpoint is a folder `step_00000120` with the arrays as orbax writes them (`state`), one JSON
file of the data iterator per process, and a manifest. It is built under another name and renamed
when complete, so a process killed at any moment leaves only whole checkpoints under that name.
"""

import contextlib
import os
import shutil
import threading
from pathlib import Path
from typing import Any, Self

import orbax.checkpoint as ocp

from jaxml.core import check, files
from jaxml.core.types import PyTree
from jaxml.dist import processes
from jaxml.train import manifest, stored
from jaxml.train.snapshot import RESUME, CheckpointError, Restored, path_of, restore, steps

__all__ = ["RESUME", "Checkpointer", "CheckpointError", "Restored", "path_of", "restore", "steps"]


class Checkpointer:
    """Writes checkpoints of one run to one folder, which it holds until closed.

    Use it as a context manager: leaving it waits for the last write.

    Args:
      folder: made if missing. With several processes, one that all of them see.
      keep: how many checkpoints to keep, the newest.

    Raises:
      ValueError: keep < 1.
      files.FolderInUseError: another process, or another Checkpointer, holds the folder.
    """

    def __init__(self, folder: Path | str, keep: int = 3):
        check.at_least(1, keep=keep)
        self.folder, self.keep = Path(folder).absolute(), keep
        self._held = contextlib.ExitStack()
        self._writing: threading.Thread | None = None
        self._failure: BaseException | None = None
        if processes.is_main():
            self._held.enter_context(files.lock(self.folder))
            for unfinished in self.folder.glob("step_*.part"):
                shutil.rmtree(unfinished)
        processes.barrier("checkpoint folder")
        self._orbax = ocp.AsyncCheckpointer(ocp.StandardCheckpointHandler())

    def save(self, state: PyTree, iterator_state: Any = None) -> None:
        """Starts writing the state under the name of its step; returns once it is copied.

        An earlier write is waited for first. The caller may go on training, and may donate the
        state. Checkpoints of this or later steps belong to a history that was left: they are
        renamed to `*.abandoned`.

        Args:
          state: a TrainState, or any tree of arrays with an attribute `step`.
          iterator_state: what the data iterator's `get_state()` gave: JSON values or bytes.

        Raises:
          CheckpointError: this or the previous write failed, e.g. because the disk is full.
        """
        self.wait()
        step = int(state.step)
        part = self.folder / f"{path_of(self.folder, step).name}.part"
        arrays = stored.arrays_of(state)
        try:
            part.mkdir(parents=True, exist_ok=True)
            stored.write_position(part, iterator_state)
            self._orbax.save(part / "state", args=ocp.args.StandardSave(stored.nested(arrays)))
        except Exception as error:
            raise self._failed(step, error) from error
        about = {"step": step, "arrays": stored.describe(arrays)}
        self._writing = threading.Thread(target=self._finish, args=(step, part, about))
        self._writing.start()

    def _finish(self, step: int, part: Path, about: dict[str, Any]) -> None:
        try:
            self._orbax.wait_until_finished()
            if processes.is_main():
                manifest.seal(part, about)
                self._publish(step, part)
        except BaseException as error:
            self._failure = self._failed(step, error)

    def _publish(self, step: int, part: Path) -> None:
        for later in steps(self.folder):
            if later >= step:
                _set_aside(path_of(self.folder, later))
        part.rename(path_of(self.folder, step))
        _sync_folder(self.folder)
        for old in steps(self.folder)[: -self.keep]:
            # Renamed first: a half-deleted folder must not pass for a damaged checkpoint.
            doomed = path_of(self.folder, old).rename(self.folder / f"step_{old:08d}.part")
            shutil.rmtree(doomed)

    def _failed(self, step: int, error: BaseException) -> CheckpointError:
        shutil.rmtree(self.folder / f"step_{step:08d}.part", ignore_errors=True)
        last = steps(self.folder)
        kept = f"the last good one is step {last[-1]}" if last else "there is no earlier one"
        return CheckpointError(
            f"the checkpoint of step {step} could not be written to {self.folder} "
            f"({stored.first_line(error)}); {kept}."
        )

    def wait(self) -> None:
        """Waits until the last save is on disk.

        Raises:
          CheckpointError: it could not be written.
        """
        if self._writing is not None:
            self._writing.join()
            self._writing = None
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def restore(
        self, template: PyTree, step: int | str | None = "latest", resume: str = "auto"
    ) -> Restored:
        """`restore` from this folder, after any write under way."""
        self.wait()
        return restore(self.folder, template, step, resume)

    def close(self) -> None:
        """Waits for the last write and gives the folder free.

        Raises:
          CheckpointError: the last write failed.
        """
        try:
            self.wait()
        finally:
            self._orbax.close()
            self._held.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _set_aside(path: Path) -> None:
    target = path.with_name(f"{path.name}.abandoned")
    shutil.rmtree(target, ignore_errors=True)
    path.rename(target)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

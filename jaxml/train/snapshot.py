"""Finished checkpoints in a folder: which there are, which are whole, reading one."""

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxml.core import check
from jaxml.core.types import PyTree
from jaxml.dist import processes
from jaxml.train import manifest, stored
from jaxml.train.manifest import DamagedError

RESUME = ("auto", "strict")
_FINISHED = re.compile(r"step_(\d{8,})")
_log = logging.getLogger(__name__)


class CheckpointError(ValueError):
    """A checkpoint that is damaged, does not fit, or could not be written."""


class Restored(NamedTuple):
    """What `restore` found: the state, the iterator's state (None if none was kept), the step."""

    state: PyTree
    iterator_state: Any
    step: int


def steps(folder: Path | str) -> list[int]:
    """The steps of all finished checkpoints in the folder, in order; [] if there is none."""
    found = (_FINISHED.fullmatch(path.name) for path in Path(folder).glob("step_*"))
    return sorted(int(match[1]) for match in found if match)


def path_of(folder: Path | str, step: int) -> Path:
    """Where the checkpoint of a step lies."""
    return Path(folder) / f"step_{step:08d}"


def restore(
    folder: Path | str,
    template: PyTree,
    step: int | str | None = "latest",
    resume: str = "auto",
) -> Restored:
    """Reads a checkpoint into arrays that lie where the template's do.

    The template's mesh need not be the one that wrote the checkpoint.

    Args:
      folder: of a `Checkpointer`; it is only read.
      template: a tree like the saved one, of arrays or `jax.ShapeDtypeStruct` (see
        `state.abstract`).
      step: one step, or `"latest"` (also None).
      resume: `auto` passes over damaged checkpoints to the newest whole one, with a warning each;
        `strict` raises at the first.

    Returns:
      The state, the iterator's state and the step.

    Raises:
      FileNotFoundError: no such checkpoint.
      CheckpointError: damaged (named, with what is wrong), or its arrays do not fit the template
        (every path named).
    """
    check.one_of(RESUME, resume=resume)
    chosen, problem = 0, None
    if processes.is_main():
        try:
            chosen = _choose(Path(folder), _candidates(Path(folder), step), resume)
        except (CheckpointError, FileNotFoundError) as error:
            chosen, problem = -1, error
    chosen = processes.from_main(chosen)
    if problem is not None:
        raise problem
    if chosen < 0:
        raise CheckpointError(f"the main process found no checkpoint to use in {folder}.")
    path = path_of(Path(folder).absolute(), chosen)
    try:
        state, position = stored.read(path, template)
    except stored.MismatchError as error:
        raise CheckpointError(f"checkpoint {path} does not fit: {error}.") from None
    return Restored(state, position, chosen)


def _candidates(folder: Path, step: int | str | None) -> Sequence[int]:
    found = steps(folder)
    if step in (None, "latest"):
        if not found:
            raise FileNotFoundError(f"{folder} holds no checkpoint.")
        return found[::-1]
    if step not in found:
        have = ", ".join(map(str, found)) or "none"
        raise FileNotFoundError(f"{folder} holds no checkpoint of step {step}; it has {have}.")
    return [int(step)]


def _choose(folder: Path, candidates: Sequence[int], resume: str) -> int:
    """The first candidate that is whole."""
    problems = []
    for step in candidates:
        try:
            manifest.read(path_of(folder, step))
        except DamagedError as error:
            problems.append(f"checkpoint {path_of(folder, step)} is damaged: {error}")
            if resume == "strict":
                break
            _log.warning("%s; trying an earlier one.", problems[-1])
        else:
            return step
    raise CheckpointError("; ".join(problems) + ".")

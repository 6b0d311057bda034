"""A stage at work on a folder of parts: measure every part, decide, write what stays."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxml.curate import parts
from jaxml.curate.executor import Map

type Arrays = Mapping[str, np.ndarray]
type Measure = Callable[[Any], Arrays]
"""From the table of a part to arrays by name."""
type Decide = Callable[[Any, Path], tuple[list[str], Sequence[str]]]
"""From a part's table, and the path of the part to write, to its texts and why each goes."""


def _measure(function: Measure, folder: Path, part: Path) -> None:
    for name, array in function(parts.read(part)).items():
        parts.save(parts.sibling(folder / part.name, name), np.asarray(array))


def _decide(kind: str, decide: Decide, folder: Path, part: Path) -> None:
    table, target = parts.read(part), folder / part.name
    texts, reasons = decide(table, target)
    parts.finish(table, texts, reasons, kind, target)


def _stays(reason: str, table: Any, target: Path) -> tuple[list[str], Sequence[str]]:
    keep = parts.load(parts.sibling(target, "keep"))
    return parts.texts(table), np.where(keep, "", reason).tolist()


def _why(names: tuple[str, ...], table: Any, target: Path) -> tuple[list[str], Sequence[str]]:
    codes = parts.load(parts.sibling(target, "why"))
    return parts.texts(table), np.array(names)[codes].tolist()


@dataclasses.dataclass(frozen=True)
class Work:
    """One stage.

    Attributes:
      kind: its name.
      source: folder of the parts that come in.
      folder: of the parts that go out, and of all that the stage notes down.
      run: who does the work.
    """

    kind: str
    source: Path
    folder: Path
    run: Map

    @property
    def parts(self) -> list[Path]:
        """What comes in."""
        return parts.listed(self.source)

    @property
    def todo(self) -> list[Path]:
        """What comes in and has not gone out."""
        return [part for part in self.parts if not (self.folder / part.name).exists()]

    def measure(self, function: Measure, *names: str) -> list[list[np.ndarray]]:
        """Arrays of every part, kept in files: for each name, one array a part.

        Args:
          function: `table -> {name: array}`; can be pickled.
          names: of the arrays.
        """
        todo = [
            part
            for part in self.parts
            if not all(parts.sibling(self.folder / part.name, n).exists() for n in names)
        ]
        self.run(functools.partial(_measure, function, self.folder), todo)
        return [
            [parts.load(parts.sibling(self.folder / part.name, name)) for part in self.parts]
            for name in names
        ]

    def ranks(self) -> np.ndarray:
        """The rank of every document in the order of `rank.assign`: int64 [n]."""
        return np.concatenate([parts.ranks(part) for part in self.parts])

    def finish(self, decide: Decide) -> None:
        """Writes every part that is not written yet."""
        self.run(functools.partial(_decide, self.kind, decide, self.folder), self.todo)

    def _spread(self, values: np.ndarray, name: str) -> None:
        begin = 0
        for part in self.parts:
            end = begin + parts.arrow().parquet.read_metadata(part).num_rows
            target = parts.sibling(self.folder / part.name, name)
            if not target.exists():
                parts.save(target, values[begin:end])
            begin = end

    def keep(self, keep: np.ndarray, reason: str) -> None:
        """Writes the documents where `keep`, bool [n], holds; the others go for one reason."""
        self._spread(keep, "keep")
        self.finish(functools.partial(_stays, reason))

    def sort_out(self, codes: np.ndarray, names: Sequence[str]) -> None:
        """Writes the documents whose code, int [n], names "" and removes the others."""
        self._spread(codes.astype(np.int8), "why")
        self.finish(functools.partial(_why, tuple(names)))

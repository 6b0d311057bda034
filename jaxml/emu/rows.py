"""The runs of a study, a row each, kept as lines of JSON."""

import dataclasses
import statistics
from collections.abc import Sequence
from pathlib import Path

from jaxml.core import lines


@dataclasses.dataclass(frozen=True)
class Row:
    """One run: accuracies in per cent by language, and how well a probe tells languages apart.

    Attributes:
      arm: of the study, or "original" and "logistic".
      seed: of the run.
      mono: queries and gallery in one language.
      cross: queries of the language, gallery of the source.
      back: queries of the source, gallery of the language.
      num: queries.
      probe: accuracy of a linear classifier of languages.
      seconds: of training.
      note: what was chosen for it.
    """

    arm: str
    seed: int
    mono: dict[str, float]
    cross: dict[str, float]
    back: dict[str, float]
    num: dict[str, int]
    probe: float
    seconds: float
    note: str = ""

    def mean(self, kind: str, languages: Sequence[str]) -> float:
        """Mean of "mono", "cross" or "back" over languages."""
        return statistics.mean(getattr(self, kind)[lang] for lang in languages)


class Rows:
    """Rows in memory and in a file of JSON lines."""

    def __init__(self, path: Path):
        self.path, self.rows = path, [Row(**row) for row in lines.read(path)]

    def has(self, arm: str, seed: int) -> bool:
        """Whether a run is done."""
        return any((r.arm, r.seed) == (arm, seed) for r in self.rows)

    def add(self, row: Row) -> None:
        """Appends one."""
        self.rows.append(row)
        lines.append(self.path, dataclasses.asdict(row))

    def of(self, arm: str) -> list[Row]:
        """The rows of one arm."""
        return [r for r in self.rows if r.arm == arm]


def mean_of(rows: Sequence[Row], kind: str, lang: str) -> float:
    """Mean accuracy over runs."""
    return statistics.mean(getattr(r, kind)[lang] for r in rows)

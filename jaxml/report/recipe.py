"""What a system hands to `jaxml reproduce`: a description of the run, and what came out of it."""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxml.core import files
from jaxml.report.claim import Claim


@dataclasses.dataclass(frozen=True)
class Figure:
    """A picture: SVG text whose colours follow the page, see `figure.py`."""

    id: str
    title: str
    caption: str
    svg: str


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows under columns; numbers are formatted by whoever made them."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""


@dataclasses.dataclass(frozen=True)
class Sample:
    """A text the system made."""

    title: str
    text: str


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a recipe found.

    Attributes:
      claims: the rows of the page.
      figures: pictures.
      tables: tables.
      samples: texts.
      data: where the data came from, as (name, where, sha256, licence).
      kept: False where the next call may find more, so that this outcome must not stand for it.
    """

    claims: Sequence[Claim]
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()
    samples: Sequence[Sample] = ()
    data: Sequence[tuple[str, str, str, str]] = ()
    kept: bool = True


@dataclasses.dataclass(frozen=True)
class Context:
    """Where and how a recipe runs.

    Attributes:
      scale: key of the recipe's `scales`.
      seed: of all randomness.
      folder: the recipe's own, kept between runs: what lies there is resumed.
      say: prints a line of progress.
    """

    scale: str
    seed: int
    folder: Path
    say: Callable[[str], None] = print


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A reproducible experiment.

    Attributes:
      system: import name of the system.
      title: of its part of the page.
      about: two sentences: what is run, on which data.
      scales: configuration by scale; "laptop" at least.
      run: `(configuration, context) -> Outcome`.
    """

    system: str
    title: str
    about: str
    scales: Mapping[str, Any]
    run: Callable[[Any, Context], Outcome]


def save(outcome: Outcome, fingerprint: str, wall_s: float, path: Path) -> None:
    """Writes an outcome, so that an unchanged recipe need not run again."""
    record = {"fingerprint": fingerprint, "wall_s": wall_s, **dataclasses.asdict(outcome)}
    files.write_text(path, json.dumps(record, indent=1) + "\n")


def load(path: Path, fingerprint: str) -> tuple[Outcome, float] | None:
    """The outcome of the same recipe and its wall time, or None if there is none."""
    if not path.exists():
        return None
    try:
        record = json.loads(path.read_text())
    except json.JSONDecodeError:
        return None
    if record.get("fingerprint") != fingerprint:
        return None
    outcome = Outcome(
        claims=[Claim(**row) for row in record["claims"]],
        figures=[Figure(**row) for row in record["figures"]],
        tables=[
            Table(t["title"], tuple(t["columns"]), tuple(map(tuple, t["rows"])), t["caption"])
            for t in record["tables"]
        ],
        samples=[Sample(**row) for row in record["samples"]],
        data=[tuple(row) for row in record["data"]],
    )
    return outcome, record["wall_s"]

"""Timing: competitors in one process, in alternation, medians and their ratios."""

import dataclasses
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from jaxml.core import check, files
from jaxml.report import environment


@dataclasses.dataclass(frozen=True)
class Timing:
    """Seconds of one competitor, in the order measured."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """Half the distance between the quartiles."""
        if len(self.seconds) < 2:
            return 0.0
        low, _, high = statistics.quantiles(self.seconds, n=4)
        return (high - low) / 2


def once(function: Callable[[], Any]) -> float:
    """Seconds of one call, waited for on the device."""
    start = time.perf_counter()
    jax.block_until_ready(function())
    return time.perf_counter() - start


def alternate(
    functions: Mapping[str, Callable[[], Any]], *, repeats: int = 7, warmups: int = 1
) -> dict[str, Timing]:
    """Times calls in alternation, so that a drift of the machine meets all of them alike.

    Args:
      functions: by name, without arguments, each returning arrays to wait for.
      repeats: measured calls of each.
      warmups: calls of each before (the first compiles).

    >>> sorted(alternate({"a": lambda: None, "b": lambda: None}, repeats=3))
    ['a', 'b']
    """
    check.positive(repeats=repeats)
    check.at_least(0, warmups=warmups)
    for function in functions.values():
        for _ in range(warmups):
            once(function)
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            seconds[name].append(once(function))
    return {name: Timing(tuple(found)) for name, found in seconds.items()}


@dataclasses.dataclass(frozen=True)
class Row:
    """A line of a results file; `ratio` > 1 means jaxml is better, `goal` is the ratio wanted."""

    case: str
    metric: str
    unit: str
    jaxml: float
    peer: str | None = None
    peer_value: float | None = None
    ratio: float | None = None
    goal: float | None = None


def faster(
    case: str, metric: str, ours: Timing, name: str, peer: Timing, goal: float | None = None
) -> Row:
    """The row of two timings in milliseconds."""
    return Row(
        case,
        metric,
        "ms",
        1e3 * ours.median,
        name,
        1e3 * peer.median,
        peer.median / ours.median,
        goal,
    )


def write(path: Path | str, rows: Sequence[Row]) -> None:
    """Writes `{"device", "versions", "date", "commit", "command", "rows"}`."""
    about = environment.describe()
    kept = {name: about[name] for name in ("device", "versions", "date", "commit", "command")}
    record = {**kept, "rows": [dataclasses.asdict(row) for row in rows]}
    files.write_text(path, json.dumps(record, indent=1) + "\n")


def table(rows: Sequence[Row]) -> str:
    """The rows as aligned text."""
    head = ("case", "metric", "jaxml", "peer", "peer value", "ratio", "goal")
    body = [
        (
            row.case,
            row.metric,
            f"{row.jaxml:.4g} {row.unit}",
            row.peer or "-",
            "-" if row.peer_value is None else f"{row.peer_value:.4g} {row.unit}",
            "-" if row.ratio is None else f"{row.ratio:.2f}",
            "-" if row.goal is None else f"{row.goal:.2f}",
        )
        for row in rows
    ]
    widths = [max(len(line[i]) for line in [head, *body]) for i in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in [head, *body]
    )


def missed(rows: Sequence[Row]) -> list[Row]:
    """The rows below their goal."""
    return [r for r in rows if r.goal is not None and (r.ratio is None or r.ratio < r.goal)]

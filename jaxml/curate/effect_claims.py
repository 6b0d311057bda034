"""What is promised of the trainings in `h100`, with rules fixed before any of them was run."""

from collections.abc import Callable, Mapping
from typing import Any

from jaxml.report.claim import Claim, Promise, Rule, at_least, at_most

type Found = Mapping[str, Any]


def _promise(id: str, words: str, unit: str, rule: Rule) -> Promise:
    return Promise("curate", id, words, "direction only", "none", unit, rule)


def _increase(epochs: float) -> Callable[[Found], float | None]:
    def value(found: Found) -> float | None:
        loss = {row["epochs"]: row["loss"] for row in found["runs"]}
        return 100 * (loss[epochs] / loss[1] - 1) if {1, epochs} <= set(loss) else None

    return value


def _worst(found: Found) -> float:
    first, last = (max(found["rounds"][i]["loss"].values()) for i in (0, -1))
    return first - last


EFFECTS: Mapping[str, tuple[tuple[Promise, Callable[[Found], float | None]], ...]] = {
    "repetition": (
        (
            _promise(
                "effect-4-epochs", "Four epochs are nearly as good as new data", "% of loss",
                at_most(1.0),
            ),
            _increase(4),
        ),
        (
            _promise("effect-14-epochs", "Fourteen are not", "% of loss", at_least(3.0)),
            _increase(14),
        ),
    ),
    "doremi": (
        (
            _promise(
                "effect-doremi", "Two rounds of DoReMi lower the worst domain's loss",
                "nats per byte", at_least(0.001),
            ),
            _worst,
        ),
    ),
    "selection": (
        (
            _promise(
                "effect-dsir", "A tenth chosen by DSIR beats a random tenth on the target",
                "nats per byte", at_least(0.01),
            ),
            lambda found: found["loss"]["random"] - found["loss"]["dsir"],
        ),
    ),
    "mixing": (
        (
            _promise(
                "effect-mixing-law", "A mixing law of 20 runs ranks 6 others",
                "rank correlation", at_least(0.85),
            ),
            lambda found: found["rank_correlation"],
        ),
    ),
    "memorisation": (
        (
            _promise(
                "effect-memorisation", "Of 64 copies fewer are emitted once repeats are struck",
                "times less", at_least(10.0),
            ),
            lambda found: found["before"] / max(found["after"], 1),
        ),
    ),
}  # fmt: skip
"""By study: promises, and the number that decides each."""


def decide(study: str, found: Found, scale: str) -> list[Claim]:
    """The claims of a study; not measured where its runs are lacking."""
    values = [(promise, value(found)) for promise, value in EFFECTS[study]]
    return [
        p.missing("a run is lacking", scale) if x is None else p.measured(x, scale)
        for p, x in values
    ]


def line(study: str, found: Found) -> str:
    """The claims in one line."""
    return "; ".join(f"{c.id} {c.measured} {c.unit} ({c.rule}): {c.verdict}"
                     for c in decide(study, found, "h100"))  # fmt: skip

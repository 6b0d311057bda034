"""A claim of a paper beside what was measured here, and the rule that decides between them.

A recipe states a `Promise` before it measures anything; the verdict follows from the rule alone.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Literal

from jaxml.core import check

Source = Literal["read", "second-hand", "recalled", "none"]
Verdict = Literal["holds", "fails", "not_measured"]


@dataclasses.dataclass(frozen=True)
class Rule:
    """Decides a claim: `text` is what readers see, `holds` what is computed."""

    text: str
    holds: Callable[[float], bool]


def at_most(limit: float, note: str = "") -> Rule:
    """Holds where `measured <= limit`.

    >>> at_most(9).text, at_most(9).holds(9.5)
    ('measured <= 9', False)
    """
    return Rule(f"measured <= {limit:g}{note and f' ({note})'}", lambda x: x <= limit)


def at_least(limit: float, note: str = "") -> Rule:
    """Holds where `measured >= limit`."""
    return Rule(f"measured >= {limit:g}{note and f' ({note})'}", lambda x: x >= limit)


def between(low: float, high: float, note: str = "") -> Rule:
    """Holds where `low <= measured <= high`."""
    return Rule(
        f"{low:g} <= measured <= {high:g}{note and f' ({note})'}", lambda x: low <= x <= high
    )


@dataclasses.dataclass(frozen=True)
class Claim:
    """One row of the report.

    Attributes:
      system: its import name.
      id: short and stable, e.g. `loss-vs-transformer`.
      paper_words: what the paper says, in few words.
      paper: its number as printed, or "direction only".
      paper_source: how we know: "read", "second-hand", "recalled" or "none".
      measured: the value found here; None where not measured.
      spread: standard deviation over seeds or repeats; None where there is one value.
      unit: of `measured`.
      rule: what decides, in words.
      verdict: "holds", "fails" or "not_measured".
      why: a remark: what the value is, what a failure is due to, what to get to measure it.
      scale: at which scale this was run.
    """

    system: str
    id: str
    paper_words: str
    paper: str
    paper_source: Source
    measured: float | None
    spread: float | None
    unit: str
    rule: str
    verdict: Verdict
    why: str
    scale: str

    def to_json(self) -> dict[str, Any]:
        """The row of `results.json`."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class Promise:
    """A claim before it is measured; attributes as in `Claim`."""

    system: str
    id: str
    paper_words: str
    paper: str
    paper_source: Source
    unit: str
    rule: Rule

    def __post_init__(self):
        check.one_of(("read", "second-hand", "recalled", "none"), paper_source=self.paper_source)

    def measured(
        self, value: float, scale: str, spread: float | None = None, why: str = ""
    ) -> Claim:
        """The claim with its verdict; a value that is not finite fails.

        >>> p = Promise("toy", "t", "fast", "direction only", "none", "s", at_most(2))
        >>> p.measured(1.5, "laptop").verdict
        'holds'
        """
        value = float(value)
        holds = math.isfinite(value) and self.rule.holds(value)
        shown = value if math.isfinite(value) else None
        if shown is None:
            why = f"the measured value is {value}. {why}".strip()
        return self._claim(shown, spread, "holds" if holds else "fails", why, scale)

    def missing(self, why: str, scale: str) -> Claim:
        """The claim where it cannot be measured; `why` says what to get."""
        return self._claim(None, None, "not_measured", why, scale)

    def _claim(
        self,
        measured: float | None,
        spread: float | None,
        verdict: Verdict,
        why: str,
        scale: str,
    ) -> Claim:
        return Claim(
            self.system,
            self.id,
            self.paper_words,
            self.paper,
            self.paper_source,
            measured,
            None if spread is None else float(spread),
            self.unit,
            self.rule.text,
            verdict,
            why,
            scale,
        )

"""The page and its numbers: `index.html` and `results.json`, both from the same outcomes."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxml.core import files
from jaxml.report.claim import Claim
from jaxml.report.recipe import Outcome, Recipe

WORDS = {"holds": "holds", "fails": "fails", "not_measured": "not measured"}


@dataclasses.dataclass(frozen=True)
class Part:
    """One system on the page: its recipe, what came out, the seconds it took, a fatal error."""

    recipe: Recipe
    outcome: Outcome
    wall_s: float
    error: str = ""


def number(value: float | None, spread: float | None = None) -> str:
    """A measured value for people: four significant digits, and its spread.

    >>> number(2.0712345, 0.0123), number(None)
    ('2.071 ± 0.012', '-')
    """
    if value is None:
        return "-"
    text = f"{value:.4g}"
    return text if spread is None else f"{text} ± {spread:.2g}"


def results(parts: Sequence[Part], environment: dict[str, Any]) -> dict[str, Any]:
    """The content of `results.json` (see `results.schema.json`)."""
    data = [
        dict(zip(("name", "where", "sha256", "licence"), row, strict=True))
        for part in parts
        for row in part.outcome.data
    ]
    wall_s = round(sum(part.wall_s for part in parts), 1)
    claims = [claim.to_json() for part in parts for claim in part.outcome.claims]
    return {"environment": {**environment, "wall_s": wall_s, "data": data}, "claims": claims}


def render(parts: Sequence[Part], environment: dict[str, Any]) -> str:
    """The page: one file, nothing loaded from elsewhere."""
    import jinja2

    source = Path(__file__).with_name("page.html").read_text()
    engine = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    every = [claim for part in parts for claim in part.outcome.claims]
    return engine.from_string(source).render(
        parts=parts,
        environment=results(parts, environment)["environment"],
        totals={words: _count(every, verdict) for verdict, words in WORDS.items()},
        words=WORDS,
        number=number,
    )


def _count(claims: Sequence[Claim], verdict: str) -> int:
    return sum(claim.verdict == verdict for claim in claims)


def write(parts: Sequence[Part], environment: dict[str, Any], folder: Path) -> Path:
    """Writes `index.html` and `results.json`; returns the page."""
    text = json.dumps(results(parts, environment), indent=1) + "\n"
    files.write_text(folder / "results.json", text)
    files.write_text(folder / "index.html", render(parts, environment))
    return folder / "index.html"

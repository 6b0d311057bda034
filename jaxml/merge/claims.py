"""What the paper claims of merging, and what decides here."""

import statistics
from collections.abc import Sequence

from jaxml.merge.config import METHODS
from jaxml.merge.results import Row
from jaxml.report import claim
from jaxml.report.claim import Claim, Promise, Rule

BEATS = "CCA Merge beats permutations when two networks are averaged"
MANY = "With more networks its lead over permutations grows"
NEAR = "The merged network comes near its parents"
DIRECT = "Averaging without alignment destroys the networks"
LOSES = "From two networks to five CCA Merge loses little"
SPLITS = "Networks trained on different data: CCA Merge is the best merge"
POINTS = "percentage points"


def _promise(id: str, words: str, unit: str, rule: Rule) -> Promise:
    return Promise("merge", id, words, "direction only", "read", unit, rule)


def gaps(rows: Sequence[Row], count: int, a: str, b: str) -> list[float]:
    """Accuracy of method `a` minus that of `b`, for each set of `count` networks."""
    score = {(r.method, r.set): r.accuracy for r in rows if r.count == count}
    return [score[a, s] - score[b, s] for m, s in score if m == a and (b, s) in score]


def _measured(promise: Promise, values: list[float], scale: str, why: str) -> Claim:
    if not values:
        return promise.missing("this run has no such networks or methods", scale)
    spread = statistics.stdev(values) if len(values) > 1 else None
    return promise.measured(statistics.mean(values), scale, spread, why)


def promises(kind: str) -> dict[str, Promise]:
    """The claims that a study of this kind decides, by a short key.

    Args:
      kind: "mlp", "vgg", "resnet", or "80-20" and "classes" for networks of different data.
    """
    lead, near, direct = {
        "mlp": (0.7, -1.8, 60.0),
        "vgg": (10.0, -8.0, 20.0),
        "resnet": (0.0, -100.0, 100.0),
    }.get(kind, (0.0, 0.0, 0.0))
    if kind in ("80-20", "classes"):
        rule = claim.at_least(0.0, "best other merge, paired sets")
        return {"split": _promise(f"split-{kind}", SPLITS, f"{POINTS}, CCA minus next", rule)}
    at = f"{POINTS}, CCA minus permute"
    found = {
        "lead": _promise(f"{kind}-lead-2", BEATS, at, claim.at_least(lead, "n = 2, our mark")),
        "many": _promise(
            f"{kind}-lead-grows",
            MANY,
            f"{POINTS}, lead at the most networks minus lead at 2",
            claim.at_least(0.0),
        ),
        "loses": _promise(
            f"{kind}-loses",
            LOSES,
            f"{POINTS}, CCA at 5 minus at 2",
            claim.at_least(-4.0, "our mark"),
        ),
    }
    if kind != "resnet":
        found["near"] = _promise(
            f"{kind}-near",
            NEAR,
            f"{POINTS}, CCA minus base",
            claim.at_least(near, "n = 2, our mark"),
        )
        found["direct"] = _promise(
            f"{kind}-direct", DIRECT, "% right", claim.at_most(direct, "n = 2, our mark")
        )
    return found


def decide(kind: str, rows: Sequence[Row], scale: str, data: str) -> list[Claim]:
    """The claims of one study, decided by its rows.

    Args:
      kind: as in `promises`.
      rows: scores.
      scale: of the run.
      data: what was measured on, for the remark.
    """
    made, base = promises(kind), _mean(rows, 2, "base")
    about = f"{data}; base {base:.2f} %, ensemble {_mean(rows, 2, 'ensemble'):.2f} %"
    if "split" in made:
        return [_measured(made["split"], _lead_over_best(rows), scale, _methods(rows, 2, data))]
    lead, most = gaps(rows, 2, "cca", "permute"), max(r.count for r in rows)
    few, many = lead, gaps(rows, most, "cca", "permute")
    grows = [statistics.mean(many) - statistics.mean(few)] if many and few and most > 2 else []
    cca = {n: [r.accuracy for r in rows if (r.method, r.count) == ("cca", n)] for n in (2, 5)}
    lost = [statistics.mean(cca[5]) - statistics.mean(cca[2])] if cca[2] and cca[5] else []
    found = [
        _measured(made["lead"], lead, scale, about),
        _measured(made["many"], grows, scale, f"{_methods(rows, most, data)}; n = {most}"),
        _measured(made["loses"], lost, scale, data),
    ]
    if "near" in made:
        near = gaps(rows, 2, "cca", "base")
        direct = [r.accuracy for r in rows if (r.method, r.count) == ("average", 2)]
        found += [_measured(made["near"], near, scale, about)]
        found += [_measured(made["direct"], direct, scale, data)]
    return found


def missing(kind: str, why: str, scale: str) -> list[Claim]:
    """The claims of a study whose data is not here."""
    return [promise.missing(why, scale) for promise in promises(kind).values()]


def _mean(rows: Sequence[Row], count: int, method: str) -> float:
    values = [r.accuracy for r in rows if (r.method, r.count) == (method, count)]
    return statistics.mean(values) if values else float("nan")


def _methods(rows: Sequence[Row], count: int, data: str) -> str:
    names = [m for m in METHODS if any((r.method, r.count) == (m, count) for r in rows)]
    return f"{data}; " + ", ".join(f"{m} {_mean(rows, count, m):.2f}" for m in names)


def _lead_over_best(rows: Sequence[Row]) -> list[float]:
    others = [m for m in METHODS if m != "cca"]
    best = max(others, key=lambda m: _mean(rows, 2, m) if gaps(rows, 2, "cca", m) else -1.0)
    return gaps(rows, 2, "cca", best)

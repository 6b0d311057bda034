"""What of contrastive pruning is promised, and the verdicts of a study's rows."""

import math
import statistics
from collections.abc import Mapping, Sequence

from jaxml.cap.study import Row, mean, paired
from jaxml.report.claim import Claim, Promise, Rule, at_least

TASKS = "on other tasks than here"
KD3, CAP3 = ("kd", "movement", 0.03), ("cap", "movement", 0.03)
KD10, CAP10 = ("kd", "movement", 0.1), ("cap", "movement", 0.1)
HALF = ("structured", 0.5)


def _promise(id: str, words: str, paper: str, source: str, unit: str, rule: Rule) -> Promise:
    return Promise("cap", id, words, paper, source, unit, rule)  # pyright: ignore[reportArgumentType]


NONE = "no such number in the paper"
LAPTOP = {
    p.id: p
    for p in (
        _promise("half-kept", "Half of heads and neurons gone, the model answers almost as before",
                 NONE, "none", "% of the dense model's accuracy",
                 at_least(95, "our mark: CAP, 3 rounds of 40 steps")),
        _promise("losses-fall", "All three contrastive losses fall during pruning",
                 NONE, "none", "smallest relative fall of PrC, SnC and FiC over the run",
                 at_least(0.0, "mean of the last quarter below that of the first")),
        _promise("speed", "The model at half its heads and neurons is faster",
                 NONE, "none", "x, dense over compacted",
                 at_least(1.6, "our mark: removed for real, float32, 32 x 64 tokens")),
    )
}  # fmt: skip
STUDY = {
    p.id: p
    for p in (
        _promise("dense", "The dense encoder is a fair base", NONE, "none",
                 "% of SST-2 dev", at_least(89.5, "our mark")),
        _promise("gain-3", "Contrast helps at 3 % kept", "direction only", "read",
                 "points, CAP minus distillation alone",
                 at_least(1e-9, "mean of paired seeds above 0")),
        _promise("gain-10", "Contrast helps at 10 % kept", "direction only", "read",
                 "points, CAP minus distillation alone",
                 at_least(1e-9, "mean of paired seeds above 0")),
        _promise("gain-grows", "The improvement grows with sparsity", "direction only", "read",
                 "points, gain at 3 % minus gain at 10 %", at_least(1e-9)),
        _promise("keeps-3", "At 97 % sparsity CAP keeps most of the dense model",
                 "99.2 % (QQP), 96.3 % (MNLI) of BERT-base", "read",
                 "% of the dense accuracy", at_least(93, "our mark for SST-2 and MiniLM")),
        _promise("keeps-10", "At 90 % sparsity CAP keeps more", NONE, "none",
                 "% of the dense accuracy", at_least(96.5, "our mark")),
        _promise("order", "Magnitude < movement < CAP at 3 % kept", "direction only", "read",
                 "points, the smaller of the two steps", at_least(1e-9)),
        _promise("ablation", "Every one of PrC, SnC and FiC contributes", NONE, "none",
                 "points, CAP minus the best run without one of them", at_least(1e-9)),
        _promise("probing", "The pruned encoder transfers better", "direction only", "read",
                 "points, CAP minus distillation alone, mean of the probed tasks",
                 at_least(0.0, "frozen encoders at 3 %")),
        _promise("soft-gain-3", "Contrast helps soft movement at 3 % kept", "direction only",
                 "read", "points, CAP minus distillation alone", at_least(1e-9)),
        _promise("half-kept", "Half of heads and neurons gone, CAP keeps the dense accuracy",
                 NONE, "none", "% of the dense model's accuracy", at_least(97, "our mark")),
        _promise("half-gain", "Contrast helps structured pruning by half", "direction only", "read",
                 "points, CAP minus distillation alone", at_least(1e-9)),
        _promise("speed", "The compacted half model is faster", NONE, "none",
                 "x, dense over compacted", at_least(1.6, "our mark")),
    )
}  # fmt: skip
"""Claims of the study on all of SST-2."""


def laptop(rows: Sequence[Row], speedup: float | None, scale: str, why: str = "") -> list[Claim]:
    """Verdicts at laptop scale; `why` says that the real data or encoder is missing."""
    if why:
        return [p.missing(why, scale) for p in LAPTOP.values()]
    dense, found = mean(rows, "dense", "dense", 1.0), mean(rows, "cap", *HALF)
    plain = mean(rows, "kd", *HALF)
    about = (
        f"SST-2 dev: dense {dense:.2f} %, pruned with contrast {found:.2f} %, without "
        f"{plain:.2f} %; {_seeds(rows)}"
    )
    falls = [drop for r in rows if r.arm == "cap" for drop in fall(r.losses).values()]
    return [
        LAPTOP["half-kept"].measured(100 * found / dense, scale, None, about),
        LAPTOP["losses-fall"].measured(min(falls, default=math.nan), scale, None, _falls(rows)),
        LAPTOP["speed"].missing("not timed", scale)
        if speedup is None
        else LAPTOP["speed"].measured(speedup, scale, None, "median of alternating runs"),
    ]


def fall(losses: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Relative fall by module: first quarter of the run against the last, both terms together.

    >>> fall({"pre_unsup": [4.0, 3.0, 2.0, 1.0], "pre_sup": [0.0] * 4})
    {'pre': 0.75}
    """
    found = {}
    for module in ("pre", "snap", "fine"):
        both = [losses[k] for k in (f"{module}_unsup", f"{module}_sup") if k in losses]
        values = [v for v in map(sum, zip(*both, strict=True)) if v != 0.0]
        quarter = max(len(values) // 4, 1)
        if values:
            first, last = statistics.mean(values[:quarter]), statistics.mean(values[-quarter:])
            found[module] = 1 - last / first
    return found


def _falls(rows: Sequence[Row]) -> str:
    names = {"pre": "PrC", "snap": "SnC", "fine": "FiC"}
    parts = [
        f"{names[m]} {100 * f:.0f} %" for r in rows if r.arm == "cap"
        for m, f in fall(r.losses).items()
    ]  # fmt: skip
    return ", ".join(parts) + (
        "; every round prunes further than the last, and a second snapshot lifts the floor of SnC "
        "(its two positives share the probability: log 2)"
    )


def _seeds(rows: Sequence[Row]) -> str:
    num = len({r.seed for r in rows})
    return f"{num} seed{'s' * (num > 1)}"


def study(rows: Sequence[Row], speedup: float | None, scale: str) -> list[Claim]:
    """Verdicts of the study's rows; what has no rows is not measured."""
    dense, about = mean(rows, "dense", "dense", 1.0), _table(rows)
    gain3, gain10 = paired(rows, CAP3, KD3), paired(rows, CAP10, KD10)
    magnitude = paired(rows, KD3, ("kd", "magnitude", 0.03))
    both = len(gain3) > 0 and len(gain10) > 0
    grows = [a - b for a, b in zip(gain3, gain10, strict=False)] if both else []
    order = [min(statistics.mean(gain3), statistics.mean(magnitude))] if gain3 and magnitude else []
    without = [
        paired(rows, CAP3, (f"without {m}", "movement", 0.03)) for m in ("pre", "snap", "fine")
    ]
    ablation = [min(map(statistics.mean, without))] if all(without) else []
    speeds = [] if speedup is None else [speedup]
    half = [100 * mean(rows, "cap", *HALF) / dense] if mean(rows, "cap", *HALF) > 0 else []
    values: dict[str, list[float]] = {
        "dense": [r.test for r in rows if r.arm == "dense"],
        "gain-3": gain3,
        "gain-10": gain10,
        "gain-grows": grows,
        "keeps-3": [100 * r.test / dense for r in rows if r.label == CAP3],
        "keeps-10": [100 * r.test / dense for r in rows if r.label == CAP10],
        "order": order,
        "ablation": ablation,
        "probing": probing(rows),
        "soft-gain-3": paired(rows, ("cap", "soft", 0.03), ("kd", "soft", 0.03)),
        "half-kept": half,
        "half-gain": paired(rows, ("cap", *HALF), ("kd", *HALF)),
        "speed": speeds,
    }
    return [_decided(STUDY[name], found, scale, about) for name, found in values.items()]


def probing(rows: Sequence[Row]) -> list[float]:
    """By seed, the mean over probed tasks of CAP minus distillation alone at 3 %."""
    table = {(r.label, r.seed): r.probes for r in rows if r.probes}
    found = []
    for seed in sorted({r.seed for r in rows}):
        if (CAP3, seed) in table and (KD3, seed) in table:
            ours, theirs = table[CAP3, seed], table[KD3, seed]
            found.append(statistics.mean(ours[t] - theirs[t] for t in ours))
    return found


def _decided(promise: Promise, values: Sequence[float], scale: str, about: str) -> Claim:
    if not values:
        return promise.missing("no such runs in this study; see jaxml.cap.h100 --groups", scale)
    spread = statistics.stdev(values) if len(values) > 1 else None
    each = ", ".join(f"{v:.2f}" for v in values)
    return promise.measured(statistics.mean(values), scale, spread, f"values {each}; {about}")


def _table(rows: Sequence[Row]) -> str:
    labels = list(dict.fromkeys(r.label for r in rows))
    parts = [f"{a} {m} {k:g}: {mean(rows, a, m, k):.2f}" for a, m, k in labels]
    return f"{_seeds(rows)}; " + ", ".join(parts)

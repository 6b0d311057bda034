"""What is promised of data management, and the verdicts on what was measured."""

from collections.abc import Mapping
from typing import Any

from jaxml.report.claim import Claim, Promise, Rule, at_least, at_most, between

_SYSTEM = "curate"
_READ, _NONE = "read", "none"


def _promise(id: str, words: str, paper: str, unit: str, rule: Rule) -> Promise:
    return Promise(
        _SYSTEM, id, words, paper, _NONE if paper == "direction only" else _READ, unit, rule
    )


PLANTED = (
    (
        "recall_90",
        _promise(
            "minhash-90",
            "14 x 8 bands find every pair of Jaccard >= 0.9",
            "direction only",
            "share found",
            at_least(1.0),
        ),
    ),
    (
        "recall_80",
        _promise(
            "minhash-80",
            "and most pairs of Jaccard >= 0.8",
            "direction only",
            "share found",
            at_least(0.85),
        ),
    ),
    (
        "least",
        _promise(
            "minhash-strangers",
            "and link no strangers",
            "direction only",
            "least Jaccard of a link",
            at_least(0.3),
        ),
    ),
)
CHINCHILLA = (
    (
        "objective",
        _promise(
            "chinchilla-objective",
            "Epoch's fit of the 240 runs: objective",
            "0.001018274",
            "",
            at_most(0.0010183),
        ),
    ),
    (
        "ratio",
        _promise(
            "chinchilla-ratio",
            "Tokens per parameter at 5.76e23 FLOP",
            "17.9",
            "",
            between(17.4, 18.4),
        ),
    ),
    (
        "seconds",
        _promise(
            "chinchilla-time",
            "The fit from 4,500 starts takes at most 30 s",
            "direction only",
            "s",
            at_most(30),
        ),
    ),
)
REPETITION = (
    (
        "rd",
        _promise(
            "repetition-rd", "R_D*, from the paper's starts", "15.387756", "", between(15.32, 15.42)
        ),
    ),
    (
        "rn",
        _promise(
            "repetition-rn", "R_N*, from the paper's starts", "5.309743", "", between(5.29, 5.33)
        ),
    ),
    (
        "best",
        _promise(
            "repetition-best",
            "The published pair has the least objective (here of all starts, per 1e-3)",
            "direction only",
            "",
            at_least(15.8258, "its own value"),
        ),
    ),
    (
        "r2",
        _promise(
            "repetition-r2",
            "R2 of the 182 losses at the published pair",
            "0.7722",
            "",
            between(0.770, 0.774),
        ),
    ),
    (
        "plan",
        _promise(
            "plan-tokens",
            "Tokens for 1e22 FLOP with 25e9 different ones",
            "237.34e9",
            "1e9 tokens",
            between(236.5, 238.2),
        ),
    ),
)
MIXING = (
    (
        "5Mix",
        _promise(
            "mixing-error",
            "A mixing law of 70M models predicts runs held out",
            "direction only",
            "nats, mean absolute error",
            at_most(0.03),
        ),
    ),
    (
        "RedPajama",
        _promise(
            "mixing-finite",
            "Its extrapolation to single domains stays sane (RedPajama)",
            "direction only",
            "highest loss, nats",
            at_most(20),
        ),
    ),
)
RESAMPLING = (
    (
        "hits",
        _promise(
            "dsir-hits",
            "DSIR draws from the target's domain (chance: 12 of 60)",
            "direction only",
            "of 60",
            at_least(48),
        ),
    ),
    (
        "auc",
        _promise(
            "classifier-auc",
            "Hashed n-grams tell essays from manuals",
            "direction only",
            "AUC",
            at_least(0.99),
        ),
    ),
)
DOMAINS = (
    (
        "constant",
        _promise(
            "doremi-constant",
            "DoReMi gives a constant domain (20 % before) little weight",
            "direction only",
            "weight",
            at_most(0.03),
        ),
    ),
    (
        "real",
        _promise(
            "doremi-real",
            "and each real domain (10 % before) more",
            "direction only",
            "least weight",
            at_least(0.15),
        ),
    ),
    (
        "gain",
        _promise(
            "doremi-gain",
            "so that every real domain's loss falls",
            "direction only",
            "nats, least fall",
            at_least(0.08),
        ),
    ),
)
EVERY: Mapping[str, tuple[tuple[str, Promise], ...]] = {
    "planted": PLANTED,
    "chinchilla": CHINCHILLA,
    "repetition": REPETITION,
    "mixing": MIXING,
    "resampling": RESAMPLING,
    "domains": DOMAINS,
}
"""Promises by phase, each with the name of the number that decides it."""


def numbers(phase: str, found: Mapping[str, Any]) -> dict[str, float]:
    """The numbers that decide a phase's promises."""
    if phase == "repetition":
        rd, rn, _ = found["paper"]
        best = 1e3 * found["minima"][0][2]
        plan = found["plan_tokens"] / 1e9
        return {"rd": rd, "rn": rn, "best": best, "r2": found["r2"][0], "plan": plan}
    if phase == "mixing":
        return {"5Mix": found["5Mix"]["error"], "RedPajama": found["RedPajama"]["highest"]}
    if phase == "domains":
        falls = [b - a for b, a in zip(found["before"], found["after"], strict=True)]
        alpha = found["alpha"]
        return {"constant": alpha[1], "real": min(alpha[2:]), "gain": min(falls[2:])}
    return {name: found[name] for name, _ in EVERY[phase]}


def _why(phase: str, name: str, found: Mapping[str, Any]) -> str:
    if name == "best":
        rd, rn, _, _ = found["minima"][0]
        return f"the best of all starts is R_D* {rd:.1f}, R_N* {rn:.2f}; the valley is nearly flat"
    if phase == "planted":
        return f"{found['num_very']} pairs >= 0.9, {found['num_near']} >= 0.8, in {found['where']}"
    if name == "5Mix":
        return (
            f"{found['5Mix']['num_fit']} runs fitted; the losses span {found['5Mix']['spread']:.3f}"
        )
    return ""


def decide(phase: str, found: Mapping[str, Any], scale: str) -> list[Claim]:
    """The claims of a phase; `found` with only "missing" gives them as not measured."""
    if "missing" in found:
        return [promise.missing(found["missing"], scale) for _, promise in EVERY[phase]]
    values = numbers(phase, found)
    return [
        promise.measured(values[name], scale, why=_why(phase, name, found))
        for name, promise in EVERY[phase]
    ]

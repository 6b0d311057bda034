"""Everything that is measured on a zoo: verdicts, detectors beside each other, suite times."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxml.inputs.splits import Images
from jaxml.nfard import compare, evaluate, reuse
from jaxml.nfard.access import Answer
from jaxml.nfard.baselines import BASELINES
from jaxml.nfard.config import DetectorConfig
from jaxml.nfard.distance import nf_distance
from jaxml.nfard.evaluate import Evaluation, Row
from jaxml.nfard.score import auc
from jaxml.nfard.zoo import Built

DETECTORS: dict[str, DetectorConfig] = {
    "white": DetectorConfig(access="white"),
    "black": DetectorConfig(),
    "black, D_cos": DetectorConfig(tests=("output",)),
    "black, projected": DetectorConfig(tests=("output_projected",)),
    "labels only": DetectorConfig(tests=("labels_contrast",)),
    "labels only, plain": DetectorConfig(tests=("labels",)),
}
"""Ours by name; the first is white-box."""
HARD_KINDS = ("distill", "steal_probs", "steal_labels")


class Measured(NamedTuple):
    """Evaluations by detector, baselines by name, seconds by suite, AUC of raw probabilities."""

    evaluations: dict[str, Evaluation]
    baselines: dict[str, compare.Result]
    seconds: dict[str, list[float]]
    raw_auc: float


def measure(
    zoo: Built,
    test: Images,
    n_suite: int = 2000,
    n_queries: int = 1000,
    names: tuple[str, ...] = tuple(BASELINES),
    repeats: int = 3,
    say: Callable[[str], None] = print,
) -> Measured:
    """Runs it all: `judge`, then `beside`.

    Args:
      zoo: members.
      test: the pool.
      n_suite: samples of ours (half fit, half measure).
      n_queries: of baselines, and of ours beside them ("black, 1000 queries" with that number).
      names: baselines.
      repeats: of timings; 0 for none.
      say: prints progress.
    """
    judged = judge(zoo, test, n_suite, say)
    return beside(judged, zoo, test, n_queries, names, repeats, say)


def judge(
    zoo: Built, test: Images, n_suite: int = 2000, say: Callable[[str], None] = print
) -> Measured:
    """Our detectors alone, without baselines and times; arguments as in `measure`."""
    suites, known = {}, {}
    base = dataclasses.replace(DETECTORS["white"], n_suite=n_suite)
    for victim in zoo.of("victim"):
        suites[victim.name] = suite = evaluate.suite_of(zoo, victim, test, base)
        known[victim.name] = evaluate.answers(zoo, zoo.entries, test.image, suite.rows)
    found = {}
    for name, cfg in DETECTORS.items():
        sized = dataclasses.replace(cfg, n_suite=n_suite)
        found[name] = evaluate.evaluate_zoo(zoo, test, sized, suites, known)
        say(f"{name}: {found[name].part(counted).score()}")
    return Measured(found, {}, {}, _raw_auc(found["black, D_cos"], known, n_suite // 2))


def beside(
    judged: Measured,
    zoo: Built,
    test: Images,
    n_queries: int = 1000,
    names: tuple[str, ...] = tuple(BASELINES),
    repeats: int = 3,
    say: Callable[[str], None] = print,
) -> Measured:
    """The same with baselines, ours at their number of queries, and seconds of suites."""
    found, others = dict(judged.evaluations), {}
    if names:
        small = dataclasses.replace(DETECTORS["black"], n_suite=n_queries)
        budget = f"black, {n_queries} queries"
        found[budget] = evaluate.evaluate_zoo(zoo, test, small)
        say(f"{budget}: {found[budget].part(counted).score()}")
        others = compare.run_baselines(zoo, test, n_queries, names, say=say)
    for name, result in others.items():
        say(f"{name}: {result.score}")
    seconds = {}
    if repeats:
        ready = "ipguard" in names
        seconds = compare.suite_times(zoo, test, n_queries, repeats, compiled=ready)
    say(f"seconds of suites: {seconds}")
    return Measured(found, others, seconds, judged.raw_auc)


def _raw_auc(ev: Evaluation, known: Mapping[str, Mapping[str, Answer]], half: int) -> float:
    """AUC of D_cos on the probabilities themselves, which is what should not be done."""
    rows = ev.part(counted).rows
    distances = []
    for row in rows:
        v, s = (known[row.victim][name].probs for name in (row.victim, row.suspect))
        assert v is not None and s is not None
        mean = np.mean(ev.calibrations[row.victim].distances["output"])
        distances.append(nf_distance(v[half:], s[half:]).value / mean)
    return auc([row.reuse for row in rows], distances)


def counted(row: Row) -> bool:
    """Pairs of one label set without adaptive attackers: what F1 and AUC are over."""
    return evaluate.same_labels(row) and evaluate.plain(row)


def parts_of(ev: Evaluation) -> dict[str, Evaluation]:
    """The pairs that each score is over."""
    kept: dict[str, Callable[[Row], bool]] = {
        "all": counted,
        "homogeneous": lambda r: counted(r) and evaluate.homogeneous(r),
        "re-trained": lambda r: counted(r) and (not r.reuse or r.kind in HARD_KINDS),
        "stolen labels": lambda r: counted(r) and (not r.reuse or r.kind == "steal_labels"),
        "without stolen labels": lambda r: counted(r) and r.kind != "steal_labels",
    }
    found = {name: ev.part(keep) for name, keep in kept.items()}
    attacked = ev.part(
        lambda r: evaluate.same_labels(r) and _of_the_zoo(r.suspect) and _after_attack(r)
    )
    return found | {"attacked": attacked}


def _of_the_zoo(suspect: str) -> bool:
    return not suspect.startswith(tuple(reuse.BESIDE))


def _after_attack(row: Row) -> bool:
    """Homogeneous kinds with the attacked copies in the place of the one they are made from."""
    return evaluate.homogeneous(row) and row.kind != "ft_all" or row.kind in reuse.ATTACKS


def summary(measured: Measured) -> dict[str, Any]:
    """Plain numbers of everything, fit for JSON."""
    ours = {}
    for name, ev in measured.evaluations.items():
        ours[name] = {
            "scores": {part: _score(e) for part, e in parts_of(ev).items()},
            "tests": {t: s._asdict() for t, s in ev.part(counted).test_scores().items()},
            "kinds": evaluate.by_kind(ev.rows),
            "thresholds": {
                v: {t: x._asdict() for t, x in c.thresholds.items()}
                for v, c in ev.calibrations.items()
            },
            "pairs": [_pair(r) for r in ev.rows],
        }
    theirs = {
        name: {"score": r.score._asdict(), "best_f1": r.best_f1, "pairs": r.rows}
        for name, r in measured.baselines.items()
    }
    return {
        "detectors": ours,
        "baselines": theirs,
        "suite_seconds": measured.seconds,
        "raw_probabilities_auc": measured.raw_auc,
    }


def _score(ev: Evaluation) -> dict[str, Any] | None:
    truth = [r.reuse for r in ev.rows]
    return ev.score()._asdict() if any(truth) and not all(truth) else None


def _pair(row: Row) -> dict[str, Any]:
    found = row.verdict
    return {
        "victim": row.victim,
        "suspect": row.suspect,
        "kind": row.kind,
        "reuse": row.reuse,
        "verdict": found.reuse,
        "p": found.p_value,
        "tests": {f.test: (f.distance, f.threshold, f.p_value) for f in found.tests},
    }


def members(zoo: Built) -> list[dict[str, Any]]:
    """Name, kind, architecture and accuracy of every member, rejected ones too."""
    kept = [
        {
            "name": e.name,
            "kind": e.kind,
            "source": e.source,
            "arch": f"{e.arch.kind}{'' if e.arch.kind == 'mlp' else e.arch.depth}x{e.arch.width:g}",
            "accuracy": e.accuracy,
        }
        for e in zoo.entries
    ]
    return kept + [{"name": n, "accuracy": a, "rejected": True} for n, a in zoo.rejected]


def ratios(seconds: Mapping[str, list[float]]) -> dict[str, float]:
    """How many times longer each suite takes to make than ours, by medians."""
    if not seconds:
        return {}
    ours = float(np.median(seconds["nfard"]))
    return {k: float(np.median(v)) / ours for k, v in seconds.items() if k != "nfard"}

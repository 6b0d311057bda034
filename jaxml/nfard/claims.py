"""What is claimed of the detector, and what decides; the paper's abstract is all that was read."""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxml.nfard import reuse, score
from jaxml.report import claim
from jaxml.report.claim import Claim, Promise, Rule, Source

MARKS: dict[str, tuple[float, ...]] = {
    # white homogeneous, white all, black F1, black AUC, black AUC of D_cos
    "laptop": (0.95, 0.0, 0.90, 0.97, 0.93),
    "h100": (1.0, 0.97, 0.95, 0.98, 0.0),
}
"""Ours, by scale; a mark of 0 makes no claim."""


def _promise(
    id: str, words: str, unit: str, rule: Rule, paper: str = "-", source: Source = "none"
) -> Promise:
    return Promise("nfard", id, words, paper, source, unit, rule)


OUR = "our mark"
ANYWHERE = {
    "same": _promise(
        "black-auc-homogeneous",
        "Black-box: copies that keep the architecture",
        "AUC",
        claim.at_least(0.99, OUR),
    ),
    "deepjudge": _promise(
        "suite-deepjudge",
        "Test suites are made 2 to 99 times faster than before (adversarial seeds)",
        "times",
        claim.at_least(2.0, "DeepJudge's time over ours"),
        "2 to 99",
        "read",
    ),
    "ipguard": _promise(
        "suite-ipguard",
        "Test suites are made 2 to 99 times faster than before (boundary points)",
        "times",
        claim.at_least(20.0, "IPGuard's time over ours, our mark"),
        "2 to 99",
        "read",
    ),
    "quantised": _promise(
        "quantised-distance",
        "Copies in 8 or 16 bits stay at distance zero (D_cos, black-box)",
        "largest distance",
        claim.at_most(0.001, OUR),
    ),
    "attacked": _promise(
        "white-attacked",
        "Reordering and rescaling neurons hides no copy from the white-box detector",
        "F1, attacked minus not",
        claim.at_least(-0.02, OUR),
    ),
    "baselines": _promise(
        "auc-over-baselines",
        "Better than each earlier method at the same number of queries",
        "AUC, ours minus the best baseline's",
        claim.at_least(0.0, OUR),
    ),
    "stolen": _promise(
        "stolen-labels",
        "Stealing by labels alone: weighing by what references disagree with lifts agreement",
        "AUC, weighed minus plain agreement",
        claim.at_least(0.0, OUR),
    ),
    "logs": _promise(
        "logs-over-probabilities",
        "Centred log-probabilities tell more than probabilities",
        "AUC, D_cos of logs minus of probabilities",
        claim.at_least(0.0, OUR),
    ),
    "texts": _promise(
        "pruned-language-models",
        "Text classifiers pruned to half are known as copies, black-box",
        "F1",
        claim.at_least(0.9, OUR),
    ),
}
"""Claims whose marks are those of every scale, by a short key."""


def promises(scale: str) -> dict[str, Promise]:
    """The claims of a scale by a short key."""
    whole, every, black, area, plain = MARKS.get(scale, MARKS["laptop"])
    found = {
        "white": _promise(
            "white-f1",
            "White-box detection is perfect (here: copies that keep the architecture)",
            "F1",
            claim.at_least(whole, OUR),
            "1.0",
            "read",
        ),
        "black": _promise(
            "black-f1",
            "Black-box detection has F1 0.984",
            "F1",
            claim.at_least(black, OUR),
            "0.984",
            "read",
        ),
        "auc": _promise(
            "black-auc", "Black-box distances order suspects", "AUC", claim.at_least(area, OUR)
        ),
        **ANYWHERE,
    }
    if every:
        found["every"] = _promise(
            "white-f1-all", "White-box, every kind of reuse", "F1", claim.at_least(every, OUR)
        )
    if plain:
        found["plain"] = _promise(
            "black-auc-cosine", "D_cos of outputs alone", "AUC", claim.at_least(plain, OUR)
        )
    return found


def missing(scale: str, why: str) -> list[Claim]:
    """The claims where there is no real data."""
    return [p.missing(why, scale) for p in promises(scale).values()]


def decide(
    found: Mapping[str, Any], scale: str, data: str, why: Mapping[str, str] = {}
) -> list[Claim]:
    """The claims, from `study.summary` and the rows `texts` beside it.

    Args:
      found: the summary.
      scale: of the run.
      data: what was measured on, for the remark.
      why: what was not measured, by key.
    """
    values = _values(found)
    return [
        promise.measured(values[key][0], scale, why=f"{data}; {values[key][1]}")
        if key in values
        else promise.missing(why.get(key) or "this run did not measure it", scale)
        for key, promise in promises(scale).items()
    ]


def _values(found: Mapping[str, Any]) -> dict[str, tuple[float, str]]:
    """Each claim's value and remark."""
    ours = found["detectors"]
    white, black = ours["white"]["scores"], ours["black"]["scores"]
    values = {
        "white": (white["homogeneous"]["f1"], _words(white["homogeneous"])),
        "every": (white["all"]["f1"], f"{_words(white['all'])}; wrong: {_wrong(ours['white'])}"),
        "black": (black["all"]["f1"], f"{_words(black['all'])}; wrong: {_wrong(ours['black'])}"),
        "auc": (black["all"]["auc"], "contrast with references"),
        "same": (black["homogeneous"]["auc"], "contrast with references"),
        "attacked": (
            white["attacked"]["f1"] - white["homogeneous"]["f1"],
            f"F1 {white['attacked']['f1']:.3f} with the attacked copies",
        ),
        "plain": (ours["black, D_cos"]["scores"]["all"]["auc"], "no projection, no references"),
        "quantised": (_quantised(ours["black, D_cos"]["pairs"]), "int8 and fp16 of every victim"),
    }
    stolen = {name: one["scores"]["stolen labels"] for name, one in ours.items()}
    if all(stolen.values()):
        lift = stolen["labels only"]["auc"] - stolen["labels only, plain"]["auc"]
        shown = ", ".join(f"{n} {s['auc']:.3f}" for n, s in stolen.items())
        called = f"{stolen['black']['recall']:.0%} called reuse by the black-box detector"
        values["stolen"] = (lift, f"AUC by detector: {shown}; {called}")
    if "raw_probabilities_auc" in found:
        a, b = ours["black, D_cos"]["scores"]["all"]["auc"], found["raw_probabilities_auc"]
        values["logs"] = (a - b, f"{a:.3f} against {b:.3f}")
    return values | _beside_others(found) | _pruned(found.get("texts", ()))


def _pruned(pairs: Sequence[Mapping[str, Any]]) -> dict[str, tuple[float, str]]:
    if not pairs:
        return {}
    scored = score.f1([p["reuse"] for p in pairs], [p["verdict"] for p in pairs])
    copies = sum(p["reuse"] for p in pairs)
    words = f"precision {scored[1]:.3f}, recall {scored[2]:.3f}"
    return {"texts": (scored[0], f"{words}, {copies} copies, {len(pairs) - copies} others")}


def _beside_others(found: Mapping[str, Any]) -> dict[str, tuple[float, str]]:
    values = {}
    budget = next((d for n, d in found["detectors"].items() if n.endswith("queries")), None)
    if found["baselines"] and budget is not None:
        area = {n: b["score"]["auc"] for n, b in found["baselines"].items()}
        mine = budget["scores"]["all"]["auc"]
        shown = ", ".join(f"{n} {a:.3f}" for n, a in area.items())
        values["baselines"] = (mine - max(area.values()), f"ours {mine:.3f}; {shown}")
    times = {n: sorted(s)[len(s) // 2] for n, s in found["suite_seconds"].items() if s}
    for name in ("deepjudge", "ipguard"):
        if name in times:
            spent = f"{times['nfard']:.3g} s against {times[name]:.3g} s"
            values[name] = (times[name] / times["nfard"], spent)
    return values


def _words(scored: Mapping[str, float]) -> str:
    pairs = f"{scored['num_positive']} copies, {scored['num_negative']} others"
    return f"precision {scored['precision']:.3f}, recall {scored['recall']:.3f}, {pairs}"


def _wrong(one: Mapping[str, Any]) -> str:
    """Kinds with wrong verdicts, and how many."""
    count: dict[str, int] = {}
    for pair in one["pairs"]:
        attack = pair["suspect"].startswith((*reuse.ATTACKS, *reuse.BESIDE))
        if pair["verdict"] != pair["reuse"] and not attack and "transfer" not in pair["suspect"]:
            count[pair["kind"]] = count.get(pair["kind"], 0) + 1
    return ", ".join(f"{kind} {n}" for kind, n in count.items()) or "none"


def _quantised(pairs: list[Mapping[str, Any]]) -> float:
    kinds = ("int8", "fp16")
    return max((p["tests"]["output"][0] for p in pairs if p["kind"] in kinds), default=float("nan"))

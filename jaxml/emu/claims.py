"""What of Emu is promised, and the verdicts of studies' rows.

The paper's data (HotelQA) and encoder (LASER) are not to be had, so no number of its tables is
compared: only orderings, on xSID and MTOD.
"""

import statistics
from collections.abc import Mapping, Sequence

from jaxml.emu.rows import Rows
from jaxml.emu.scope import Scope
from jaxml.report.claim import Claim, Promise, Rule, Source, at_least, at_most

SEVEN = ("de", "it", "nl", "tr", "ar", "ja", "zh")
"""Languages of xSID that USE was trained on."""
POOR = ("da", "sr", "kk")
"""Languages of xSID that USE was not trained on and aligns badly."""
FINAL = "guessed"
"""The arm that is meant for use."""
NONE: tuple[str, Source] = ("no such number in the paper", "none")
KNOWN: tuple[str, Source] = ("direction only", "second-hand")
_SEVEN = "mean of de it nl tr ar ja zh to English"
_ELEVEN = "mean of eleven languages to English"


def _above(note: str = "") -> Rule:
    return Rule(f"measured > 0{note and f' ({note})'}", lambda x: x > 0)


_ROWS: tuple[tuple[str, str, tuple[str, Source], str, Rule], ...] = (
    ("mono", "Specialised embeddings find more intents within a language", NONE,
     "points over the original, mean of all languages",
     at_least(2.0, "our mark: L2 softmax and centres")),
    ("mono-targeted", "... and with the targeted discriminator", NONE,
     "points over the original, mean of all languages",
     at_least(2.0, "our mark: targeted discriminator")),
    ("cross", "Labels in English specialise other languages", KNOWN,
     f"points over the original, {_SEVEN}", at_least(1.0, "our mark: L2 softmax and centres")),
    ("cross-targeted", "... and with the targeted discriminator", KNOWN,
     f"points over the original, {_SEVEN}", at_least(1.0, "our mark: targeted discriminator")),
    ("softmax", "A plain softmax loss leaves embeddings worse than the original", KNOWN,
     f"points over the original, {_SEVEN}", Rule("measured < 0", lambda x: x < 0)),
    ("discriminator", "The language discriminator helps", KNOWN,
     "points on Danish to English over the run without it",
     at_least(8.0, "our mark: targeted discriminator")),
    ("poor-languages", "Badly aligned languages rise", NONE,
     "points over the original, the least of da sr kk to English",
     at_least(10.0, "our mark: discriminator and guessed intents")),
    ("no-harm", "... and no well aligned language falls", NONE,
     "points below the original, the largest of the seven languages",
     at_most(1.0, "our mark: discriminator and guessed intents")),
    ("fallen", "... nor do English queries in other languages' galleries", NONE,
     "of eleven languages below the original",
     at_most(2.0, "our mark: discriminator and guessed intents")),
    ("contrastive", "Better than contrastive fine-tuning of the same encoder", NONE,
     f"points over SetFit-style contrast, {_ELEVEN}", _above("same steps and batches")),
    ("logistic", "Better than logistic regression on the frozen embeddings", NONE,
     f"points over it, {_ELEVEN}, nearest neighbour in English", _above()),
    ("scope", "A specialised model knows what it was not asked for", NONE,
     "per cent, AUROC of out-of-scope sentences (CLINC150)", at_least(90.0, "our mark")),
    ("scope-gain", "... better than the original encoder does", NONE,
     "points of AUROC over nearest class means of the original", _above()),
    ("eleven", "All of USE's parameters trained: other languages", NONE,
     f"points over the original, {_ELEVEN}", at_least(3.0, "our mark")),
    ("eleven-e5", "All of E5-small's parameters trained: other languages", NONE,
     f"points over the original, {_ELEVEN}", at_least(4.0, "our mark")),
    ("mono-e5", "... and within a language", NONE,
     "points over the original, mean of all languages", at_least(2.0, "our mark")),
    ("second-set", "The same on a second set (MTOD, Spanish and Thai)", NONE,
     "points over the original, mean of both to English", _above("the original")),
)  # fmt: skip
PROMISES = {
    id: Promise("emu", id, words, known[0], known[1], unit, rule)
    for id, words, known, unit, rule in _ROWS
}
"""By id, in the order of the page."""


def gains(
    rows: Rows, arm: str, languages: Sequence[str], kind: str = "cross", base: str = "original"
) -> list[float]:
    """Points of every run of an arm over a base (of the same seed, or the base's only one)."""
    bases = {r.seed: r for r in rows.of(base)}
    found = []
    for row in rows.of(arm):
        under = bases.get(row.seed, next(iter(bases.values()), None))
        if under is not None:
            found.append(row.mean(kind, languages) - under.mean(kind, languages))
    return found


def _spread(values: Sequence[float]) -> float | None:
    return statistics.stdev(values) if len(values) > 1 else None


def verdicts(
    found: Mapping[str, Rows], scale: str, why: str = "", scopes: Sequence[Scope] = ()
) -> list[Claim]:
    """Claims of studies by name ("CORPUS-ENCODER") and of rejection.

    Args:
      found: rows of "xsid-use", "xsid-e5", "mtod-use", as far as they were run.
      scale: of the recipe.
      why: data or encoder is missing; then nothing is measured.
      scopes: of several seeds.
    """
    if why:
        return [p.missing(why, scale) for p in PROMISES.values()]
    made: dict[str, Claim] = {}
    rows = found.get("xsid-use")
    if rows is not None and rows.of("original"):
        made |= _xsid(rows, scale)
    every_e5 = {"eleven-e5": ("xsid-e5", "cross"), "mono-e5": ("xsid-e5", "mono")}
    big = {"second-set": ("mtod-use", "cross"), **every_e5}
    if scale != "laptop":
        big["eleven"] = ("xsid-use", "cross")
    for name, (task, kind) in big.items():
        if task in found and (others := _languages(found[task])):
            points = gains(found[task], FINAL, others[kind != "mono" :], kind)
            made |= _claim(name, points, scale, _note(found[task]))
    made |= _scope(scopes, scale)
    get = "`jaxml reproduce emu --scale h100` on a GPU" if scale == "laptop" else "not run"
    return [made.get(name) or p.missing(get, scale) for name, p in PROMISES.items()]


def _languages(rows: Rows) -> tuple[str, ...]:
    return tuple(rows.of("original")[0].cross) if rows.of("original") else ()


def _claim(name: str, values: Sequence[float], scale: str, about: str) -> dict[str, Claim]:
    if not values:
        return {}
    mean = statistics.mean(values)
    return {name: PROMISES[name].measured(mean, scale, _spread(values), about)}


def _xsid(rows: Rows, scale: str) -> dict[str, Claim]:
    every = _languages(rows)
    others, about = every[1:], _note(rows)
    measured = {
        "mono": gains(rows, "l2+center", every, "mono"),
        "cross": gains(rows, "l2+center", SEVEN),
        "mono-targeted": gains(rows, "targeted", every, "mono"),
        "cross-targeted": gains(rows, "targeted", SEVEN),
        "softmax": gains(rows, "softmax", SEVEN),
        "discriminator": gains(rows, "targeted", ("da",), base="l2+center"),
        "contrastive": gains(rows, FINAL, others, base="contrastive"),
        "logistic": gains(rows, FINAL, others, base="logistic"),
    }
    found: dict[str, Claim] = {}
    for name, values in measured.items():
        found |= _claim(name, values, scale, about)
    return found | (_by_language(rows, others, scale) if rows.of(FINAL) else {})


def _by_language(rows: Rows, others: Sequence[str], scale: str) -> dict[str, Claim]:
    """Verdicts on the worst of several languages."""
    points = {x: gains(rows, FINAL, (x,)) for x in (*SEVEN, *POOR)}
    mean = {x: statistics.mean(v) for x, v in points.items()}
    told = ", ".join(f"{x} {v:+.1f}" for x, v in mean.items())
    worst, least = min(SEVEN, key=lambda x: mean[x]), min(POOR, key=lambda x: mean[x])
    back = {x: statistics.mean(gains(rows, FINAL, (x,), "back")) for x in others}
    fallen = [f"{x} {v:+.1f}" for x, v in back.items() if v < 0]
    return {
        **_claim("poor-languages", points[least], scale, told),
        **_claim("no-harm", [-v for v in points[worst]], scale, told),
        **_claim("fallen", [len(fallen)], scale, ", ".join(fallen) or "none falls"),
    }


def _scope(scopes: Sequence[Scope], scale: str) -> dict[str, Claim]:
    if not scopes:
        return {}
    caught, kept, right = (
        statistics.mean(getattr(s, n) for s in scopes) for n in ("caught", "kept", "accuracy")
    )
    about = (
        f"{len(scopes)} seeds; with a threshold that keeps 95 % of validation, {kept:.1f} % of "
        f"{scopes[0].num_in} in-scope test sentences are kept ({right:.1f} % rightly answered) "
        f"and {caught:.1f} % of {scopes[0].num_out} others rejected"
    )
    return {
        **_claim("scope", [s.auroc for s in scopes], scale, about),
        **_claim("scope-gain", [s.auroc - s.auroc_before for s in scopes], scale, about),
    }


def _note(rows: Rows) -> str:
    base, final = rows.of("original")[0], rows.of(FINAL)
    others = [x for x in base.cross if x != "en"]
    note = f"; discriminator {final[0].note}; {len(final)} seeds" if final else ""
    return f"original: {base.mean('cross', others):.1f} % to English{note}"

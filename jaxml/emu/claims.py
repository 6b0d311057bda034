"""What of Emu is promised, and the verdicts of a study's rows.

The paper's data (HotelQA) and encoder (LASER) are not to be had, so no number of its tables is
compared: only orderings, on xSID.
"""

import statistics
from collections.abc import Sequence

from jaxml.emu.study import Row, Rows
from jaxml.report.claim import Claim, Promise, Rule, at_least, at_most

SEVEN = ("de", "it", "nl", "tr", "ar", "ja", "zh")
"""Languages of xSID that USE was trained on."""
POOR = ("da", "sr", "kk")
"""Languages of xSID that USE was not trained on and aligns badly."""
NONE = "no such number in the paper"


def _promise(id: str, words: str, paper: str, source: str, unit: str, rule: Rule) -> Promise:
    return Promise("emu", id, words, paper, source, unit, rule)  # pyright: ignore[reportArgumentType]


PROMISES = {
    p.id: p
    for p in (
        _promise("mono", "Specialised embeddings find more intents within a language", NONE,
                 "none", "points over the original, mean of all languages",
                 at_least(2.0, "our mark: L2 softmax and centres")),
        _promise("mono-targeted", "... and with the targeted discriminator", NONE, "none",
                 "points over the original, mean of all languages",
                 at_least(2.0, "our mark: targeted discriminator")),
        _promise("cross", "Labels in English specialise other languages", "direction only",
                 "second-hand", "points over the original, mean of de it nl tr ar ja zh to English",
                 at_least(1.0, "our mark: L2 softmax and centres")),
        _promise("cross-targeted", "... and with the targeted discriminator", "direction only",
                 "second-hand", "points over the original, mean of de it nl tr ar ja zh to English",
                 at_least(1.0, "our mark: targeted discriminator")),
        _promise("softmax", "A plain softmax loss leaves embeddings worse than the original",
                 "direction only", "second-hand",
                 "points over the original, the same seven languages to English",
                 at_most(-1e-9, "below the original")),
        _promise("discriminator", "The language discriminator helps", "direction only",
                 "second-hand", "points on Danish to English over the run without it",
                 at_least(8.0, "our mark: targeted discriminator")),
        _promise("poor-languages", "Badly aligned languages rise", NONE, "none",
                 "points over the original, the least of da sr kk to English",
                 at_least(10.0, "our mark: targeted discriminator")),
        _promise("no-harm", "... and no well aligned language falls", NONE, "none",
                 "points below the original, the largest of the seven languages",
                 at_most(1.0, "our mark: targeted discriminator")),
        _promise("contrastive", "Better than contrastive fine-tuning of the same encoder", NONE,
                 "none", "points over SetFit-style contrast, all eleven languages to English",
                 at_least(1e-9, "same steps and batches")),
        _promise("logistic", "Better than logistic regression on the frozen embeddings", NONE,
                 "none", "points over it, all eleven languages, nearest neighbour in English",
                 at_least(1e-9)),
    )
}  # fmt: skip


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


def verdicts(rows: Rows, scale: str, why: str = "") -> list[Claim]:
    """Claims of a study on xSID with USE; `why` says that data or encoder is missing."""
    if why:
        return [p.missing(why, scale) for p in PROMISES.values()]
    every = tuple(rows.of("original")[0].cross)
    others = every[1:]
    about = _about(rows)
    measured = {
        "mono": gains(rows, "l2+center", every, "mono"),
        "cross": gains(rows, "l2+center", SEVEN),
        "mono-targeted": gains(rows, "targeted", every, "mono"),
        "cross-targeted": gains(rows, "targeted", SEVEN),
        "softmax": gains(rows, "softmax", SEVEN),
        "discriminator": gains(rows, "targeted", ("da",), base="l2+center"),
        "contrastive": gains(rows, "targeted", others, base="contrastive"),
        "logistic": gains(rows, "targeted", others, base="logistic"),
    }
    found = {
        name: PROMISES[name].measured(statistics.mean(x), scale, _spread(x), about)
        if x
        else PROMISES[name].missing("no such run", scale)
        for name, x in measured.items()
    }
    by_language = {x: gains(rows, "targeted", (x,)) for x in (*SEVEN, *POOR)}
    if by_language["da"]:
        mean = {x: statistics.mean(v) for x, v in by_language.items()}
        worst, least = max(SEVEN, key=lambda x: -mean[x]), min(POOR, key=lambda x: mean[x])
        told = ", ".join(f"{x} {v:+.1f}" for x, v in mean.items())
        found["poor-languages"] = PROMISES["poor-languages"].measured(
            mean[least], scale, _spread(by_language[least]), told
        )
        found["no-harm"] = PROMISES["no-harm"].measured(
            -mean[worst], scale, _spread(by_language[worst]), told
        )
    return [found.get(name) or p.missing("no such run", scale) for name, p in PROMISES.items()]


def _about(rows: Rows) -> str:
    base = rows.of("original")[0]
    note = next((r.note for r in rows.of("targeted")), "")
    return (
        f"original: {base.mean('cross', SEVEN):.1f} % for the seven, Danish "
        f"{base.cross['da']:.1f} %; {len(rows.of('targeted'))} seeds; discriminator {note}; n = "
        "500 sentences a language, 250 in Japanese"
    )


def mean_of(rows: Sequence[Row], kind: str, lang: str) -> float:
    """Mean accuracy over runs."""
    return statistics.mean(getattr(r, kind)[lang] for r in rows)

"""What of UniVL is promised on captioned Moving-MNIST, and the verdicts of a study's rows.

The paper's data (HowTo100M, YouCook2, MSR-VTT) is not to be had here, so none of its numbers is
compared: only its directions, and marks of our own.
"""

import statistics
from collections.abc import Callable

from jaxml.report.claim import Claim, Promise, Rule, at_least, at_most
from jaxml.univilm.study import Rows

NONE = "no such number in the paper"
GPU = "needs `python -m jaxml.univilm.h100`, ten minutes of a GPU"


def _promise(
    id: str, words: str, unit: str, rule: Rule, paper: str = NONE, source: str = "none"
) -> Promise:
    return Promise("univilm", id, words, paper, source, unit, rule)  # pyright: ignore[reportArgumentType]


_OURS, _TOLD = (NONE, "none"), ("direction only", "second-hand")
LAPTOP = {
    p.id: p
    for p in (
        _promise("r1", "Words find unseen videos", "R@1 of 200 unseen combinations, %",
                 at_least(40, "our mark, chance 0.5")),
        _promise("r10", "... nearly always among ten", "R@10, %", at_least(88, "our mark")),
        _promise("swapped", "Videos in another order are found by chance alone",
                 "R@1 after swapping, %", at_most(2.5, "chance 0.5")),
        _promise("pretrained-bleu", "Pre-training helps captioning where labels are few",
                 "BLEU-4 over scratch, a tenth of the labels, equal steps, paired seeds",
                 at_least(5, "our mark"), *_TOLD),
        _promise("pretrained-cider", "... by CIDEr-D too", "CIDEr-D over scratch",
                 at_least(0.4, "our mark"), *_TOLD),
        _promise("leak", "Captions are not read where they are written",
                 "tokens that change when references become noise", at_most(0)),
    )
}  # fmt: skip
GPU_PROMISES = {
    p.id: p
    for p in (
        _promise("r1-80", "Fine-tuned retrieval of unseen combinations", "R@1, %",
                 at_least(80, "our mark")),
        _promise("align", "The cross encoder ranks better than two encoders",
                 "R@1 of FT-Align over FT-Joint, points", at_least(0), *_TOLD),
        _promise("exact", "Captions of unseen combinations word for word", "exact, %",
                 at_least(70, "our mark")),
        _promise("cider", "... and by CIDEr-D", "CIDEr-D, at most 10", at_least(9, "our mark")),
        _promise("bag", "Bags of positives beat single ones where narration is misaligned",
                 "R@1 of P = 3 over P = 1, points", at_least(5, "our mark, paired seeds"), *_TOLD),
        _promise("pretrained-r1", "Pre-training helps retrieval where labels are few",
                 "R@1 over scratch, a tenth of the labels, points", at_least(1e-9), *_TOLD),
        _promise("pretrained-b4", "... and captioning", "BLEU-4 over scratch", at_least(1e-9),
                 *_TOLD),
        _promise("enhanced", "EnhancedV helps captions from video alone",
                 "BLEU-4 with it over without, points", at_least(0), *_TOLD),
        _promise("noise", "Captions are not read where they are written (all labels)",
                 "tokens that change when references become noise", at_most(0)),
    )
}  # fmt: skip
ABSENT = {
    p.id: p
    for p in (
        _promise("youcook2", "FT-Align finds clips of YouCook2", "R@1, %",
                 at_least(28.9), "28.9", "read"),
        _promise("youcook2-caption", "Captions of YouCook2 from video and transcript", "CIDEr",
                 at_least(1.81), "1.81", "second-hand"),
        _promise("msrvtt", "FT-Align finds clips of MSR-VTT", "R@1, %", at_least(21.2), "21.2",
                 "second-hand"),
    )
}  # fmt: skip
WHY_ABSENT = (
    "YouCook2 and MSR-VTT features are not distributed with anything; with your own, presets "
    "`youcook2` and `msrvtt` run the protocol. Numbers on Moving-MNIST are not theirs"
)


def _value(rows: Rows, name: str, score: str) -> list[float]:
    return list(rows.of(name, score).values())


def _gain(rows: Rows, name: str, base: str, score: str, base_score: str = "") -> list[float]:
    """Differences seed by seed; a base with one seed is every seed's."""
    mine, theirs = rows.of(name, score), rows.of(base, base_score or score)
    return [mine[s] - theirs[s] for s in mine if s in theirs]


NOTES: dict[str, str] = dict.fromkeys(
    ("r1", "r10"),
    "; where it is wrong, the digits are mostly right and motions or speeds go to the other digit "
    "(seen on unseen training combinations, by which settings were chosen)",
)
"""What is known of a claim beside its value."""

MEASURES: dict[str, Callable[[Rows], list[float]]] = {
    "r1": lambda rows: _value(rows, "joint", "r1"),
    "r10": lambda rows: _value(rows, "joint", "r10"),
    "swapped": lambda rows: _value(rows, "joint", "swapped_r1"),
    "pretrained-bleu": lambda rows: _gain(rows, "caption", "caption-scratch", "bleu4"),
    "pretrained-cider": lambda rows: _gain(rows, "caption", "caption-scratch", "cider"),
    "leak": lambda rows: _value(rows, "caption", "changed"),
    "r1-80": lambda rows: _value(rows, "retrieval-all", "r1"),
    "align": lambda rows: _gain(rows, "align-all", "retrieval-all", "align_r1", "r1"),
    "exact": lambda rows: _value(rows, "caption-all", "exact"),
    "cider": lambda rows: _value(rows, "caption-all", "cider"),
    "bag": lambda rows: _gain(rows, "joint", "joint-p1", "r1"),
    "pretrained-r1": lambda rows: _gain(rows, "retrieval", "retrieval-scratch", "r1"),
    "pretrained-b4": lambda rows: _gain(rows, "caption", "caption-scratch", "bleu4"),
    "enhanced": lambda rows: _gain(rows, "caption", "caption-no-enhanced", "bleu4"),
    "noise": lambda rows: _value(rows, "caption-all", "changed"),
}


def verdicts(rows: Rows, scale: str, why: str = "") -> list[Claim]:
    """The claims of a scale ("laptop", "h100"); `why` says that MNIST is missing.

    Claims of the other scale are not measured, and none is on the paper's own sets.
    """
    on_gpu = scale == "h100"
    mine, other = (GPU_PROMISES, LAPTOP) if on_gpu else (LAPTOP, GPU_PROMISES)
    found = []
    for name, promise in mine.items():
        values = [] if why else MEASURES[name](rows)
        if not values:
            found.append(promise.missing(why or "no such run", scale))
            continue
        spread = statistics.stdev(values) if len(values) > 1 else None
        note = f"{len(values)} seeds" if len(values) > 1 else "one seed"
        note += NOTES.get(name, "")
        found.append(promise.measured(statistics.mean(values), scale, spread, note))
    there = "`jaxml reproduce univilm`" if on_gpu else GPU
    found += [promise.missing(there, scale) for promise in other.values()]
    return found + [promise.missing(WHY_ABSENT, scale) for promise in ABSENT.values()]

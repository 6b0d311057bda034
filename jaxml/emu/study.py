"""An experiment: arms over seeds on one encoder and one corpus, each run a row that is kept.

Nothing here sees a test sentence before it is scored: unlabelled sentences and every choice come
from the validation split, choices from its odd half with the even half as the pool.
"""

import dataclasses
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxml.core import check, files
from jaxml.core.types import PyTree
from jaxml.emu import data, evaluate, guess, train
from jaxml.emu.config import PRESETS, EmuConfig, arms
from jaxml.emu.data import SOURCE, Corpus, Sentences
from jaxml.emu.evaluate import Scores
from jaxml.emu.inputs import Inputs, even, odd
from jaxml.emu.pool import Pool
from jaxml.emu.rows import Row, Rows

ARMS = ("l2+center", "targeted", "guessed", "softmax", "l2", "contrastive", "emu")
MAIN = ARMS[:3]
"""Run first, for every seed: most claims are about them."""
type Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class StudyConfig:
    """What is compared.

    Attributes:
      emu: the specialisation that arms are made of.
      per_class: most labelled sentences of an intent.
      seeds: of runs.
      arms: of `ARMS`.
      gap: points that a language may lie below the source's accuracy, by the encoder as it was and
        on validation, before "targeted" takes it for badly aligned.
      rates: of the encoder, to choose from on validation for all arms; (): that of `emu`.
      lambdas: discriminator weights of "targeted" to choose from on validation.
      anchor: of "targeted", on the other languages.
      lambda_guess: of "guessed", which is "targeted" with guessed intents (see `guess.adapt`) for
        badly aligned languages.
      rounds: of guessing.
      keep: share of guesses that are trained on.
    """

    emu: EmuConfig
    per_class: int = 120
    seeds: tuple[int, ...] = (0, 1, 2)
    arms: tuple[str, ...] = ARMS
    gap: float = 20.0
    rates: tuple[float, ...] = ()
    lambdas: tuple[float, ...] = (0.3, 1.0)
    anchor: float = 1.0
    lambda_guess: float = 0.3
    rounds: int = 2
    keep: float = 0.6

    def __post_init__(self):
        check.positive(per_class=self.per_class, seeds=len(self.seeds), gap=self.gap)
        check.positive(lambdas=len(self.lambdas))
        for arm in self.arms:
            check.one_of(ARMS, arms=arm)


LARGE = StudyConfig(
    PRESETS["h100"], per_class=400, rates=(2e-5, 5e-5, 1e-4), lambdas=(0.1, 0.3, 1.0, 3.0)
)
"""All parameters, up to 400 English sentences of an intent (more than 5,000 in all)."""


def labelled(corpus: Corpus, per_class: int) -> Sentences:
    """The labelled sentences of a study."""
    return data.balanced(corpus.train, per_class, len(corpus.labels))


def poor(scores: Mapping[str, Scores], gap: float) -> tuple[str, ...]:
    """Languages whose queries find the source's intents `gap` points worse than its own do."""
    bar = scores[SOURCE].mono - gap
    return tuple(lang for lang, s in scores.items() if lang != SOURCE and s.cross < bar)


def targeted(
    cfg: EmuConfig, languages: Sequence[str], badly: Sequence[str], lambda_adv: float, anchor: float
) -> EmuConfig:
    """Discriminator on badly aligned languages only, an anchor on all others.

    Without a badly aligned language it is all anchor and no discriminator.
    """
    on = tuple(float(lang in badly) for lang in languages)
    return dataclasses.replace(
        cfg,
        lambda_adv=lambda_adv if badly else 0.0,
        adversary_weights=on,
        anchor=anchor,
        anchor_weights=tuple(1 - x for x in on),
    )


def choose_rate(cfg: StudyConfig, inputs: Inputs, say: Say) -> float:
    """The rate whose L2 softmax with centres is best to the source on validation's odd half."""
    many, found = inputs.pool(even), []
    for rate in cfg.rates:
        emu = dataclasses.replace(cfg.emu, lr=rate, seed=100)
        made = train.fit(inputs.encoder, arms(emu)["l2+center"], many)
        scores = inputs.scores("valid", made.params, odd)
        mean = statistics.mean(s.cross for lang, s in scores.items() if lang != SOURCE)
        found.append((mean, rate))
        say(f"on validation, lr {rate:g}: {mean:.2f} % to the source")
    return max(found)[1] if found else cfg.emu.lr


def choose_weight(cfg: StudyConfig, inputs: Inputs, badly: Sequence[str], say: Say) -> float:
    """The discriminator weight that lifts the badly aligned languages most on validation.

    Weights that cost any other language more than a point there come last.
    """
    before, many = inputs.scores("valid", keep=odd), inputs.pool(even)
    rest = [lang for lang in inputs.corpus.languages[1:] if lang not in badly]
    found = []
    for weight in cfg.lambdas if badly else cfg.lambdas[:1]:
        trial = targeted(cfg.emu, inputs.corpus.languages, badly, weight, cfg.anchor)
        made = train.fit(inputs.encoder, dataclasses.replace(trial, seed=100), many)
        after = inputs.scores("valid", made.params, odd)
        lift = statistics.mean(after[x].cross - before[x].cross for x in badly) if badly else 0.0
        cost = max((before[x].cross - after[x].cross for x in rest), default=0.0)
        found.append((cost <= 1.0, lift, weight))
        say(f"on validation, discriminator {weight:g}: {lift:+.1f} points on {' '.join(badly)}, "
            f"largest loss elsewhere {max(cost, 0.0):.1f}")  # fmt: skip
    return max(found, key=lambda row: row[:2])[2]


def chosen[T](path: Path, name: str, make: Callable[[], T]) -> T:
    """A choice made once: read from a JSON file of choices, or made and written there."""
    known = json.loads(path.read_text()) if path.exists() else {}
    if name not in known:
        known[name] = make()
        files.write_text(path, json.dumps(known, indent=1) + "\n")
    return known[name]


class Plan(NamedTuple):
    """Every arm's configuration, and the badly aligned languages."""

    arms: dict[str, EmuConfig]
    badly: tuple[str, ...] = ()

    def note(self, arm: str) -> str:
        """What was chosen for an arm."""
        if arm not in ("targeted", "guessed"):
            return ""
        return f"weight {self.arms[arm].lambda_adv:g} on {' '.join(self.badly) or 'none'}"


def plan(cfg: StudyConfig, inputs: Inputs, path: Path, say: Say) -> Plan:
    """Configurations, with what is open in them chosen on validation.

    Args:
      cfg: the study.
      inputs: of encoder and corpus.
      path: of the file of choices.
      say: prints progress.
    """
    rate = chosen(path, "lr", lambda: choose_rate(cfg, inputs, say))
    cfg = dataclasses.replace(cfg, emu=dataclasses.replace(cfg.emu, lr=rate))
    made = arms(cfg.emu)
    if not {"targeted", "guessed"} & set(cfg.arms):
        return Plan(made)
    badly = chosen(path, "badly aligned", lambda: poor(inputs.scores("valid"), cfg.gap))
    weight = chosen(path, "discriminator", lambda: choose_weight(cfg, inputs, badly, say))
    languages = inputs.corpus.languages
    aimed = targeted(cfg.emu, languages, badly, weight, cfg.anchor)
    made |= {
        "targeted": aimed,
        "guessed": dataclasses.replace(aimed, lambda_guess=cfg.lambda_guess),
    }
    return Plan(made, tuple(badly))


def run(
    cfg: StudyConfig,
    inputs: Inputs,
    rows: Rows,
    *,
    say: Say = print,
    until: float = float("inf"),
    keep: Callable[[Row, train.Specialised], None] = lambda row, found: None,
) -> list[Row]:
    """Runs what is missing.

    Args:
      cfg: the study.
      inputs: of encoder and corpus.
      rows: done before.
      say: prints progress.
      until: no run is begun after this time of `time.monotonic`.
      keep: is given every specialised encoder.
    """
    if not rows.has("original", 0):
        rows.add(_row("original", 0, inputs, None, 0.0))
        rows.add(_logistic(inputs))
    main, rest = ([a for a in cfg.arms if (a in MAIN) == first] for first in (True, False))
    order = [(a, s) for part in (main, rest) for s in cfg.seeds for a in part]
    missing = [(a, s) for a, s in order if not rows.has(a, s)]
    if not missing:
        return rows.rows
    made = plan(cfg, inputs, rows.path.with_suffix(".choices.json"), say)
    many, aimed = inputs.pool(), dict[int, train.Specialised]()
    for arm, seed in missing:
        if time.monotonic() > until:
            break
        begun = time.monotonic()
        found = _specialised(cfg, made, inputs, many, arm, seed, aimed.pop(seed, None))
        if arm == "targeted" and ("guessed", seed) in missing:
            aimed[seed] = found
        taken = time.monotonic() - begun
        row = _row(arm, seed, inputs, found.params, taken, made.note(arm))
        rows.add(row)
        keep(row, found)
        others = [lang for lang in row.cross if lang != SOURCE]
        say(f"{arm} {seed}: within {row.mean('mono', list(row.mono)):.2f}, to the source "
            f"{row.mean('cross', others):.2f} ({taken:.1f} s)")  # fmt: skip
    return rows.rows


def _specialised(
    cfg: StudyConfig,
    made: Plan,
    inputs: Inputs,
    many: Pool,
    arm: str,
    seed: int,
    first: train.Specialised | None,
) -> train.Specialised:
    """One run; "guessed" goes on from the run of "targeted" with its seed where that is at hand."""
    emu = dataclasses.replace(made.arms[arm], seed=seed)
    if arm != "guessed":
        return train.fit(inputs.encoder, emu, many)
    more = {"rounds": cfg.rounds, "keep": cfg.keep, "first": first}
    return guess.adapt(inputs.encoder, emu, many, made.badly, **more)


def _row(
    arm: str, seed: int, inputs: Inputs, params: PyTree, seconds: float, note: str = ""
) -> Row:
    test = inputs.corpus.test
    made = inputs.embedded("test", params)
    scores = inputs.scored(test, made)
    every = [u[:250] for u in made.values()]
    lang = np.repeat(np.arange(len(every)), [len(x) for x in every])
    kinds = [{k: getattr(s, kind) for k, s in scores.items()} for kind in Scores._fields]
    probe = evaluate.language_probe(np.concatenate(every), lang)
    return Row(arm, seed, kinds[0], kinds[1], kinds[2], kinds[3], probe, seconds, note)


def _logistic(inputs: Inputs) -> Row:
    """Logistic regression on the frozen embeddings; it has no gallery, so all kinds are one."""
    part = {
        lang: (inputs.embed(f"test/{lang}"), sentences.label)
        for lang, sentences in inputs.corpus.test.items()
    }
    found = evaluate.logistic_accuracy(inputs.embed("train"), inputs.train.label, part)
    num = {lang: len(y) for lang, (_, y) in part.items()}
    return Row("logistic", 0, found, found, found, num, float("nan"), 0.0)

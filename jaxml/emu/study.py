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

import numpy as np

from jaxml.core import check
from jaxml.core.types import PyTree
from jaxml.emu import data, evaluate, pool, train
from jaxml.emu.config import EmuConfig, arms
from jaxml.emu.data import SOURCE, Corpus, Sentences
from jaxml.emu.encoder import Encoder
from jaxml.emu.evaluate import Scores

ARMS = ("softmax", "contrastive", "l2", "l2+center", "emu", "targeted")


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
      lambdas: discriminator weights of "targeted" to choose from on validation.
      anchor: of "targeted", on the other languages.
    """

    emu: EmuConfig
    per_class: int = 120
    seeds: tuple[int, ...] = (0, 1, 2)
    arms: tuple[str, ...] = ARMS
    gap: float = 20.0
    lambdas: tuple[float, ...] = (0.3, 1.0)
    anchor: float = 1.0

    def __post_init__(self):
        check.positive(per_class=self.per_class, seeds=len(self.seeds), gap=self.gap)
        check.positive(lambdas=len(self.lambdas))
        for arm in self.arms:
            check.one_of(ARMS, arms=arm)


@dataclasses.dataclass(frozen=True)
class Row:
    """One run: accuracies in per cent by language, and how well a probe tells languages apart."""

    arm: str
    seed: int
    mono: dict[str, float]
    cross: dict[str, float]
    num: dict[str, int]
    probe: float
    seconds: float
    note: str = ""

    def mean(self, kind: str, languages: Sequence[str]) -> float:
        """Mean of "mono" or "cross" over languages."""
        return statistics.mean(getattr(self, kind)[lang] for lang in languages)


class Rows:
    """Rows in memory and in a file of JSON lines."""

    def __init__(self, path: Path):
        self.path, self.rows = path, list[Row]()
        if path.exists():
            lines = path.read_text().splitlines()
            self.rows = [Row(**json.loads(line)) for line in lines if line.endswith("}")]

    def has(self, arm: str, seed: int) -> bool:
        """Whether a run is done."""
        return any((r.arm, r.seed) == (arm, seed) for r in self.rows)

    def add(self, row: Row) -> None:
        """Appends one."""
        self.rows.append(row)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as handle:
            handle.write(json.dumps(dataclasses.asdict(row)) + "\n")

    def of(self, arm: str) -> list[Row]:
        """The rows of one arm."""
        return [r for r in self.rows if r.arm == arm]


class Inputs:
    """Features (or token ids) of a corpus's sentences, made once.

    Attributes:
      encoder: as it is before.
      corpus: the task.
      train: its labelled sentences, as many of each intent as are used.
      cached: whether inputs are features.
      ids: of `train` [n, t], and of every language by split.
    """

    def __init__(
        self,
        encoder: Encoder,
        corpus: Corpus,
        labelled: Sentences,
        trainable: str,
        ids: dict[str, np.ndarray] | None = None,
    ):
        self.encoder, self.corpus, self.train = encoder, corpus, labelled
        self.cached = trainable == "head"
        self._x = dict(tokenised(encoder, corpus, labelled)) if ids is None else dict(ids)
        if self.cached:
            self._x = {name: encoder.features(x) for name, x in self._x.items()}

    def __getitem__(self, name: str) -> np.ndarray:
        """Inputs by "train", or "valid/LANGUAGE", "test/LANGUAGE"."""
        return self._x[name]

    def embed(self, name: str, params: PyTree = None, rows: np.ndarray | None = None) -> np.ndarray:
        """Embeddings of some inputs by the encoder or by other parameters."""
        x = self._x[name] if rows is None else self._x[name][rows]
        if self.cached:
            return pool.head_only(self.encoder, x, params)
        return self.encoder.embed(x, params)

    def pool(self, keep: Callable[[Sentences], np.ndarray] | None = None) -> pool.Pool:
        """What is trained on; `keep` picks among the validation sentences."""
        others = {
            lang: (slice(None) if keep is None else keep(part))
            for lang, part in self.corpus.valid.items()
        }
        original = {lang: self.embed(f"valid/{lang}")[rows] for lang, rows in others.items()}
        num = len(self.corpus.labels)
        means = train.objective.class_means(self.embed("train"), self.train.label, num)
        inputs = {lang: self[f"valid/{lang}"][rows] for lang, rows in others.items()}
        return pool.Pool(self["train"], self.train.label, inputs, original, num, means)

    def scores(
        self,
        split: str,
        params: PyTree = None,
        keep: Callable[[Sentences], np.ndarray] | None = None,
    ) -> dict[str, Scores]:
        """Scores by language on a split, or on part of it."""
        part, made = {}, {}
        for lang, sentences in getattr(self.corpus, split).items():
            rows = (
                np.arange(len(sentences.pid)) if keep is None else np.flatnonzero(keep(sentences))
            )
            part[lang] = sentences.rows(rows)
            made[lang] = self.embed(f"{split}/{lang}", params, rows)
        return evaluate.by_language(made, part, parallel=self.corpus.parallel)


def tokenised(encoder: Encoder, corpus: Corpus, labelled: Sentences) -> dict[str, np.ndarray]:
    """Token ids of everything a study needs, by the names of `Inputs`."""
    found = {"train": encoder.ids(labelled.text)}
    for split in ("valid", "test"):
        for lang, part in getattr(corpus, split).items():
            found[f"{split}/{lang}"] = encoder.ids(part.text)
    return found


def even(part: Sentences) -> np.ndarray:
    """The half of the validation sentences that choices train on."""
    return part.pid % 2 == 0


def odd(part: Sentences) -> np.ndarray:
    """The half that choices are made by."""
    return part.pid % 2 == 1


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


def choose(
    cfg: StudyConfig, inputs: Inputs, badly: Sequence[str], say: Callable[[str], None]
) -> tuple[EmuConfig, str]:
    """The discriminator weight that lifts the badly aligned languages most on validation.

    Weights that cost any other language more than a point there come last.
    """
    before, many = inputs.scores("valid", keep=odd), inputs.pool(even)
    rest = [lang for lang in inputs.corpus.languages[1:] if lang not in badly]
    found = []
    for weight in cfg.lambdas if badly else cfg.lambdas[:1]:
        trial = targeted(cfg.emu, inputs.corpus.languages, badly, weight, cfg.anchor)
        trial = dataclasses.replace(trial, seed=100)
        made = train.fit(inputs.encoder, trial, many)
        after = inputs.scores("valid", made.params, odd)
        lift = statistics.mean(after[x].cross - before[x].cross for x in badly) if badly else 0.0
        cost = max((before[x].cross - after[x].cross for x in rest), default=0.0)
        found.append((cost <= 1.0, lift, trial))
        say(f"on validation, discriminator {weight:g}: {lift:+.1f} points on {' '.join(badly)}, "
            f"largest loss elsewhere {max(cost, 0.0):.1f}")  # fmt: skip
    best = max(found, key=lambda row: row[:2])[2]
    return best, f"weight {best.lambda_adv:g} on {' '.join(badly) or 'none'}"


def run(
    cfg: StudyConfig,
    inputs: Inputs,
    rows: Rows,
    *,
    say: Callable[[str], None] = print,
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
    made = arms(cfg.emu)
    if "targeted" in cfg.arms and not all(rows.has("targeted", s) for s in cfg.seeds):
        badly = poor(inputs.scores("valid"), cfg.gap)
        made["targeted"], note = choose(cfg, inputs, badly, say)
    many = inputs.pool()
    for arm in cfg.arms:
        for seed in cfg.seeds:
            if rows.has(arm, seed) or time.monotonic() > until:
                continue
            begun = time.monotonic()
            found = train.fit(inputs.encoder, dataclasses.replace(made[arm], seed=seed), many)
            taken = time.monotonic() - begun
            row = _row(arm, seed, inputs, found.params, taken)
            if arm == "targeted":
                row = dataclasses.replace(row, note=note)
            rows.add(row)
            keep(row, found)
            others = [lang for lang in row.cross if lang != SOURCE]
            say(f"{arm} {seed}: within {row.mean('mono', list(row.mono)):.2f}, to English "
                f"{row.mean('cross', others):.2f} ({taken:.1f} s)")  # fmt: skip
    return rows.rows


def _row(arm: str, seed: int, inputs: Inputs, params: PyTree, seconds: float) -> Row:
    scores = inputs.scores("test", params)
    every = [inputs.embed(f"test/{lang}", params)[:250] for lang in scores]
    lang = np.repeat(np.arange(len(every)), [len(x) for x in every])
    return Row(
        arm,
        seed,
        {k: s.mono for k, s in scores.items()},
        {k: s.cross for k, s in scores.items()},
        {k: s.num for k, s in scores.items()},
        evaluate.language_probe(np.concatenate(every), lang),
        seconds,
    )


def _logistic(inputs: Inputs) -> Row:
    """Logistic regression on the frozen embeddings; it has no gallery, so both kinds are one."""
    part = {
        lang: (inputs.embed(f"test/{lang}"), sentences.label)
        for lang, sentences in inputs.corpus.test.items()
    }
    found = evaluate.logistic_accuracy(inputs.embed("train"), inputs.train.label, part)
    num = {lang: len(y) for lang, (_, y) in part.items()}
    return Row("logistic", 0, found, found, num, float("nan"), 0.0)


def labelled(corpus: Corpus, per_class: int) -> Sentences:
    """The labelled sentences of a study."""
    return data.balanced(corpus.train, per_class, len(corpus.labels))

"""An experiment: dense models, pruned ones by arm, keep and seed, each a row that is kept.

Rows are lines of a JSON file, so that a study that was stopped goes on with what is missing.
"""

import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from jaxml.cap import evaluate, train
from jaxml.cap.config import CAPConfig, ContrastConfig, PruneConfig, TuneConfig, arms
from jaxml.cap.data import Task
from jaxml.cap.encoder import Encoder
from jaxml.cap.train import Pruned, Teacher
from jaxml.core import check, lines
from jaxml.core.types import PyTree


@dataclasses.dataclass(frozen=True)
class Arm:
    """One kind of run.

    Attributes:
      name: "kd" (no contrast), "cap", or "without MODULE".
      prune: what is pruned.
      probe: whether its encoder is probed on other tasks.
    """

    name: str
    prune: PruneConfig
    probe: bool = False


@dataclasses.dataclass(frozen=True)
class StudyConfig:
    """Arms over seeds.

    Attributes:
      task: the task pruned for.
      tune: training, the same for all arms (structured ones may have other steps a round).
      structured_steps: steps of each structured round.
      contrast: of the arms with contrast.
      arms: in the order they are run, seed by seed within each.
      seeds: of teachers and runs.
      probes: tasks for linear probing of frozen encoders.
      max_len: tokens of a sentence.
      num_train: most training examples.
      num_valid: held out of the training set to choose by.
    """

    task: str
    tune: TuneConfig
    contrast: ContrastConfig
    arms: tuple[Arm, ...]
    seeds: tuple[int, ...] = (0,)
    structured_steps: int = 500
    probes: tuple[str, ...] = ()
    max_len: int = 64
    num_train: int | None = None
    num_valid: int = 500

    def __post_init__(self):
        check.positive(seeds=len(self.seeds), arms=len(self.arms), max_len=self.max_len)
        for arm in self.arms:
            self.run(arm, 0)

    def run(self, arm: Arm, seed: int) -> CAPConfig:
        """The configuration of one run; arms differ in contrast only."""
        tune = self.tune
        if arm.prune.method == "structured":
            tune = dataclasses.replace(tune, steps=self.structured_steps)
        every = arms(CAPConfig(arm.prune, tune, self.contrast, seed=seed))
        check.one_of(every, arm=arm.name)
        return every[arm.name]


@dataclasses.dataclass(frozen=True)
class Row:
    """What came of one run; accuracies in per cent, `kept` shares by what they are of."""

    arm: str
    method: str
    keep: float
    seed: int
    test: float
    valid: float
    f1: float
    kept: dict[str, float]
    steps: int
    seconds: float
    probes: dict[str, float] = dataclasses.field(default_factory=dict)
    losses: dict[str, list[float]] = dataclasses.field(default_factory=dict)

    @property
    def label(self) -> tuple[str, str, float]:
        """Arm, method, keep."""
        return self.arm, self.method, self.keep


class Rows:
    """Rows in memory and in a file."""

    def __init__(self, path: Path):
        self.path, self.rows = path, [Row(**row) for row in lines.read(path)]

    def has(self, arm: str, method: str, keep: float, seed: int) -> bool:
        """Whether a run is done."""
        return any((*r.label, r.seed) == (arm, method, keep, seed) for r in self.rows)

    def add(self, row: Row) -> None:
        """Appends one."""
        self.rows.append(row)
        lines.append(self.path, dataclasses.asdict(row))


type Keep = Callable[[str, Pruned], None]


def run(
    cfg: StudyConfig,
    encoder: Encoder,
    task: Task,
    probes: Mapping[str, Task],
    rows: Rows,
    *,
    say: Callable[[str], None] = print,
    until: float = float("inf"),
    folder: Path | None = None,
    keep: Keep = lambda name, pruned: None,
) -> list[Row]:
    """Runs what is missing; no run is begun after `until` (of `time.monotonic`).

    Args:
      cfg: the study.
      encoder: pre-trained.
      task: of `cfg.task`.
      probes: tasks by name.
      rows: done before.
      say: prints progress.
      until: seconds of `time.monotonic`.
      folder: for phases that go on after an interruption; None: none.
      keep: is given every pruned model.
    """
    teachers: dict[int, Teacher] = {}

    def teacher(seed: int) -> Teacher:
        if seed not in teachers:
            first = cfg.run(cfg.arms[0], seed)
            place = folder and folder / f"dense-{seed}"
            begun = time.monotonic()
            teachers[seed] = found = train.teach(encoder, task, first, place, say)
            if not rows.has("dense", "dense", 1.0, seed):
                scores = _probe(cfg, found.params, encoder, probes, seed)
                taken = time.monotonic() - begun
                rows.add(Row("dense", "dense", 1.0, seed, found.test, found.valid, 0.0, {},
                             cfg.tune.dense_steps, taken, scores))  # fmt: skip
        return teachers[seed]

    for arm in cfg.arms:
        for seed in cfg.seeds:
            label = (arm.name, arm.prune.method, arm.prune.keep)
            if rows.has(*label, seed) or time.monotonic() > until:
                continue
            taught, begun = teacher(seed), time.monotonic()
            name = f"{arm.name}-{arm.prune.method}-{arm.prune.keep:g}-{seed}".replace(" ", "-")
            place = folder and folder / name
            found = train.prune(encoder, task, taught, cfg.run(arm, seed), place, lambda text: None)
            scores = _probe(cfg, found.params, encoder, probes, seed) if arm.probe else {}
            taken = time.monotonic() - begun
            rows.add(Row(*label, seed, found.test, found.valid, found.test_f1,
                         found.sparsity.shares(), found.steps, taken, scores,
                         _losses(found.curve)))  # fmt: skip
            keep(name, found)
            say(f"{name}: validation {found.valid:.2f}, test {found.test:.2f} %, {scores or ''} "
                f"{found.sparsity} ({taken:.1f} s)")  # fmt: skip
    return rows.rows


def _losses(curve: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """Contrastive losses and the others along the run."""
    wanted = ("pre_unsup", "pre_sup", "fine_unsup", "fine_sup", "snap_unsup", "snap_sup")
    found = {name: [row[name] for row in curve if name in row] for name in (*wanted, "kd", "ce")}
    return {name: values for name, values in found.items() if values}


def _probe(
    cfg: StudyConfig, params: PyTree, encoder: Encoder, probes: Mapping[str, Task], seed: int
) -> dict[str, float]:
    key = jax.random.key(seed)
    return {name: evaluate.probe(key, params, encoder.cfg, task) for name, task in probes.items()}


def mean(rows: Sequence[Row], arm: str, method: str, keep: float) -> float:
    """Mean test accuracy over seeds; NaN without any."""
    found = [r.test for r in rows if r.label == (arm, method, keep)]
    return statistics.mean(found) if found else float("nan")


def paired(
    rows: Sequence[Row], one: tuple[str, str, float], other: tuple[str, str, float]
) -> list[float]:
    """Differences in test accuracy (one minus other) for the seeds that both have."""
    table = {(r.label, r.seed): r.test for r in rows}
    seeds = sorted({r.seed for r in rows})
    both = [s for s in seeds if (one, s) in table and (other, s) in table]
    return [table[one, s] - table[other, s] for s in both]


def choose(
    cfg: StudyConfig,
    encoder: Encoder,
    task: Task,
    weights: Sequence[ContrastConfig],
    rates: Sequence[float],
    arm: Arm,
    seed: int,
    say: Callable[[str], None] = print,
    path: Path | None = None,
) -> tuple[StudyConfig, list[tuple[str, float]]]:
    """The study with the learning rate, then the contrast, that do best on validation.

    The rate is chosen without contrast. `seed` should be none of the study's own. What was tried is
    kept in the lines of `path`, so that a second call goes on.
    """
    table: list[tuple[str, float]] = []
    taught: list[Teacher] = []
    known = {} if path is None else {row["label"]: row["valid"] for row in lines.read(path)}

    def score(trial: StudyConfig, name: str, label: str) -> float:
        chosen = dataclasses.replace(arm, name=name)
        if label not in known:
            if not taught:
                taught.append(train.teach(encoder, task, cfg.run(arm, seed), None, say))
            run = trial.run(chosen, seed)
            found = train.prune(encoder, task, taught[0], run, None, lambda text: None)
            known[label] = found.valid
            if path is not None:
                lines.append(path, {"label": label, "valid": found.valid})
        table.append((label, known[label]))
        say(f"tried on validation: {label} {known[label]:.2f} %")
        return known[label]

    def with_rate(rate: float) -> StudyConfig:
        return dataclasses.replace(cfg, tune=dataclasses.replace(cfg.tune, lr=rate))

    best = {rate: score(with_rate(rate), "kd", f"kd, lr {rate:g}") for rate in rates}
    cfg = with_rate(max(best, key=lambda rate: best[rate]))
    found = []
    for contrast in weights:
        trial = dataclasses.replace(cfg, contrast=contrast)
        label = f"{contrast.reduction} {contrast.weight_unsup:g}/{contrast.weight_sup:g}"
        found.append((score(trial, "cap", f"cap, {label}"), trial))
    return max(found, key=lambda pair: pair[0])[1] if found else cfg, table

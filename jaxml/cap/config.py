"""What a pruning run is made of: contrast, pruning, distillation, lengths."""

import dataclasses
from typing import Literal

from jaxml.core import check

Method = Literal["structured", "magnitude", "movement", "soft"]
Reduction = Literal["mean", "reference"]
MODULES = ("pre", "snap", "fine")
"""The banks: the pre-trained encoder (PrC), earlier pruned ones (SnC), the tuned one (FiC)."""


@dataclasses.dataclass(frozen=True)
class ContrastConfig:
    """The contrastive losses (arXiv 2112.07198, eq. 1).

    The published program's weights (0.1 and 10, or 0.3 and 3) belong to `reduction="reference"`,
    which divides twice by the number of positives; under "mean" they would be far too strong.

    Attributes:
      tau: temperature of the cosines.
      weight_unsup: of the terms whose positives are the same example.
      weight_sup: of the terms whose positives have the same label; 0: labels are not needed.
      extra: further examples drawn as candidates, shared out over a bank's representations.
      reduction: "mean" (the paper: mean over anchors) or "reference" (the published program).
      modules: which banks take part.
    """

    tau: float = 0.1
    weight_unsup: float = 0.1
    weight_sup: float = 0.1
    extra: int = 4096
    reduction: Reduction = "mean"
    modules: tuple[str, ...] = MODULES

    def __post_init__(self):
        check.types(self)
        check.positive(tau=self.tau)
        check.at_least(0, weight_unsup=self.weight_unsup, weight_sup=self.weight_sup)
        check.at_least(0, extra=self.extra)
        check.one_of(("mean", "reference"), reduction=self.reduction)
        for module in self.modules:
            check.one_of(MODULES, module=module)


@dataclasses.dataclass(frozen=True)
class PruneConfig:
    """What is pruned, how far and when.

    Attributes:
      method: "structured" removes heads and feed-forward neurons by first-order importance; the
        others mask single weights: by size, by learned scores (top-k), or by learned scores
        against a threshold with a penalty on their sigmoids.
      keep: share of what is pruned that stays at the end, in (0, 1].
      rounds: structured: steps of equal size. Otherwise: snapshots during the run.
      scope: of the ranking of single weights: each "matrix" by itself, or "global".
      threshold: "soft" only: the sigmoid a score must pass at the end; None: the one, the same for
        all matrices, at which `keep` of the weights survive.
      penalty: "soft" only: final weight of the mean sigmoid.
      warmup: share of the steps before the threshold begins to move.
      cooldown: share of the steps after it has arrived.
      min_heads: heads that every layer keeps.
      calibration: structured: training examples that importance is summed over; None: all.
      start: structured: prune the "pre"-trained encoder (as published) or the "fine"-tuned one.
    """

    method: Method = "movement"
    keep: float = 0.1
    rounds: int = 4
    scope: Literal["matrix", "global"] = "matrix"
    threshold: float | None = None
    penalty: float = 1.0
    warmup: float = 0.1
    cooldown: float = 0.3
    min_heads: int = 1
    calibration: int | None = None
    start: Literal["pre", "fine"] = "pre"

    def __post_init__(self):
        check.types(self)
        check.one_of(("structured", "magnitude", "movement", "soft"), method=self.method)
        check.positive(keep=self.keep, rounds=self.rounds, min_heads=self.min_heads)
        check.between(0, 1, keep=self.keep, warmup=self.warmup, cooldown=self.cooldown)
        check.at_least(0, penalty=self.penalty)
        if self.warmup + self.cooldown >= 1:
            raise ValueError(
                "warmup + cooldown must be < 1, so that the threshold can move; "
                f"got warmup={self.warmup}, cooldown={self.cooldown}."
            )
        if self.threshold is not None:
            check.between(0, 1, threshold=self.threshold)

    @property
    def percents(self) -> tuple[float, ...]:
        """Structured: cumulative percentages removed, e.g. 16.7, 33.3, 50 for three rounds."""
        return tuple(100 * (1 - self.keep) * (k + 1) / self.rounds for k in range(self.rounds))


@dataclasses.dataclass(frozen=True)
class TuneConfig:
    """How weights are trained.

    Attributes:
      batch_size: b.
      dense_steps: of the fine-tuning that makes the teacher.
      steps: of the pruned model: in each round (structured), or in all.
      lr: of the weights; linear warm-up over a tenth, linear decay to 0.
      dense_lr: of the fine-tuning.
      score_lr: of the scores.
      weight_decay: decoupled.
      dropout: of the representation before the classifier, and inside the encoder.
      weight_ce: of the cross-entropy.
      weight_kd: of the distillation; weights as published.
      temperature: of the distillation.
      dtype: of the computation.
      group: steps whose examples are sorted by length together; batches of short sentences are
        then computed at half the length. 1: none are.
    """

    batch_size: int = 32
    dense_steps: int = 1000
    steps: int = 1000
    lr: float = 5e-5
    dense_lr: float = 5e-5
    score_lr: float = 1e-2
    weight_decay: float = 0.01
    dropout: float = 0.1
    weight_ce: float = 0.1
    weight_kd: float = 0.9
    temperature: float = 2.0
    dtype: Literal["float32", "bfloat16"] = "float32"
    group: int = 1

    def __post_init__(self):
        check.types(self)
        check.positive(group=self.group)
        check.positive(batch_size=self.batch_size, lr=self.lr, dense_lr=self.dense_lr)
        check.positive(dense_steps=self.dense_steps, steps=self.steps, score_lr=self.score_lr)
        check.positive(temperature=self.temperature)
        check.at_least(0, weight_ce=self.weight_ce, weight_kd=self.weight_kd)
        check.at_least(0, weight_decay=self.weight_decay)
        check.between(0, 1, dropout=self.dropout)


@dataclasses.dataclass(frozen=True)
class CAPConfig:
    """A whole run: dense tuning, then pruning with or without contrast.

    Attributes:
      prune: what is removed.
      tune: how it is trained.
      contrast: None: distillation alone, the baseline.
      align: what represents a sentence: the "mean" of its tokens or the pooled first one ("cls").
      seed: of heads, dropout, order and candidates.
    """

    prune: PruneConfig = PruneConfig()  # noqa: RUF009
    tune: TuneConfig = TuneConfig()  # noqa: RUF009
    contrast: ContrastConfig | None = ContrastConfig()  # noqa: RUF009
    align: Literal["mean", "cls"] = "mean"
    seed: int = 0

    def __post_init__(self):
        check.types(self)
        check.at_least(0, seed=self.seed)


def arms(cfg: CAPConfig) -> dict[str, CAPConfig]:
    """The run with its contrast, without any, and without each of the modules.

    Raises:
      ValueError: the run has no contrast.
    """
    if cfg.contrast is None:
        raise ValueError("contrast must be configured to make arms of it; got contrast=None.")
    every = {"cap": cfg, "kd": dataclasses.replace(cfg, contrast=None)}
    for module in cfg.contrast.modules:
        rest = tuple(m for m in cfg.contrast.modules if m != module)
        contrast = dataclasses.replace(cfg.contrast, modules=rest)
        every[f"without {module}"] = dataclasses.replace(cfg, contrast=contrast)
    return every


def check_comparable(*runs: CAPConfig) -> None:
    """Raises ValueError unless runs differ in their contrast alone: equal steps, data and KD."""
    first = dataclasses.replace(runs[0], contrast=None)
    for run in runs[1:]:
        if (other := dataclasses.replace(run, contrast=None)) != first:
            raise ValueError(
                f"compared runs must differ in contrast only; got {first} and {other}."
            )


_LAPTOP = TuneConfig(16, 100, 40, 5e-5, 1e-4, group=8)
PRESETS: dict[str, CAPConfig] = {
    "tiny": CAPConfig(
        PruneConfig("structured", 0.5, 2, calibration=16, start="fine"),
        TuneConfig(8, 4, 3, 1e-3, 1e-3),
        ContrastConfig(extra=16),
    ),
    "laptop": CAPConfig(
        PruneConfig("structured", 0.5, 3, calibration=128, start="fine"),
        _LAPTOP,
        ContrastConfig(extra=1024),
    ),
    "h100": CAPConfig(
        PruneConfig("movement", 0.03, 4),
        TuneConfig(64, 2000, 3000, 1e-4, 5e-5, dtype="bfloat16"),
    ),
    "paper": CAPConfig(
        PruneConfig("structured", 0.1, 9),
        TuneConfig(16, 12_630, 8_420, 2e-5, 2e-5, temperature=1.0),
        ContrastConfig(0.1, 0.3, 3.0, reduction="reference"),
        align="cls",
    ),
}
"""Runs by name. `paper` has the published settings of SST-2 (steps: 2 epochs a round; 3 dense
ones, the usual fine-tuning); the others are ours, made for a sentence encoder of 22.7M
parameters."""

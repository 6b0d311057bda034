"""`jaxml dp train`, `account`, `audit` and `table`."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import jax
import tyro

from jaxml.core import check, config
from jaxml.dp import audit as auditing
from jaxml.dp import claims, gating, ledger, pictures, privacy, release, study
from jaxml.dp import train as training
from jaxml.dp.config import NUM_GATES, PRESETS, ConvexReLUConfig, NoisyCGDConfig
from jaxml.dp.data import load


def of_preset(preset: str | None) -> Callable[..., None]:
    """The command `train` with the defaults of a preset."""
    name = "laptop" if preset is None else preset
    check.one_of(PRESETS, preset=name)

    def train(
        folder: Annotated[Path, tyro.conf.Positional],
        /,
        preset: str = "laptop",
        data: str = "mnist",
        data_path: Path | None = None,
        num_train: int | None = None,
        num_gates: int = NUM_GATES[name],
        seed: int | None = None,
        trials: int = 1,
        cfg: Annotated[NoisyCGDConfig, tyro.conf.arg(name="")] = PRESETS[name],
    ) -> None:
        """Trains a private classifier, or goes on with a run that was stopped.

        Args:
          folder: of the release: model.safetensors, model.json, report.json. While it trains it
            also holds private checkpoints.
          preset: settings (tiny, laptop, h100, paper); other flags change single ones.
          data: a labelled image set (`jaxml data list`).
          data_path: where it lies.
          num_train: training images; all by default.
          num_gates: P.
          seed: of gates and noise. Without one they come from the operating system; with one,
            whoever knows it can take the noise away, and the report says so.
          trials: trainings on these data that were compared, this one among them.
          cfg: the training.
        """
        found = load(data, data_path).data
        found = found.first(num_train or len(found.label))
        model = ConvexReLUConfig(found.x.shape[1], int(found.label.max()) + 1, num_gates)
        key = None if seed is None else jax.random.key(seed)
        done = training.train_noisy_cgd(key, found.x, found.label, model, cfg, folder=folder)
        if done.report is None:
            print(f"stopped; the same command goes on in {folder}.")
            return
        done = done._replace(report=done.report.tuned(trials))
        release.save(folder, model, done)
        right = gating.accuracy(done.v, done.u, found.test_x, found.test_label)
        print(f"{right:.2f} % of {len(found.test_label)} test images right")
        print(done.report.text() if done.report else "")

    return train


train = of_preset(None)
train.of_preset = of_preset  # pyright: ignore[reportFunctionMemberAccess]


def account(
    num_examples: int = 60_000,
    target_eps: float | None = None,
    num_classes: int = 10,
    trials: int = 1,
    ledger_file: Path | None = None,
    cfg: Annotated[NoisyCGDConfig, tyro.conf.arg(name="")] = PRESETS["paper"],  # noqa: B008
) -> None:
    """Prints what a training costs by every accountant that covers it.

    Args:
      num_examples: n.
      target_eps: find the noise for this epsilon first.
      num_classes: K; flat clipping of three or more is heuristic.
      trials: trainings on the same data that are compared.
      ledger_file: add the release to this ledger and print all of them.
      cfg: the training.
    """
    model = ConvexReLUConfig(1, num_classes, 1)
    num_batches = privacy.num_batches_of(num_examples, cfg.batch_size)
    if target_eps is not None:
        sigma = privacy.calibrate_noise(
            target_eps,
            cfg.delta,
            contraction=privacy.check_contraction(cfg, model),
            num_batches=num_batches,
            epochs=cfg.epochs,
            adjacency=cfg.adjacency,
        )
        cfg = dataclasses.replace(cfg, noise_multiplier=sigma)
    report = privacy.hidden_state(cfg, model, num_examples).tuned(trials)
    print(report.text())
    try:
        sampled = pictures.sampled_epsilon(cfg.noise_multiplier, num_batches, cfg.epochs, cfg.delta)
        print(f"  DP-SGD on Poisson samples of the same size (another training): {sampled:.4g}")
    except ImportError as error:
        print(f"  DP-SGD on Poisson samples: {error}")
    if ledger_file is not None:
        book = ledger.load(ledger_file).add(report)
        book.save(ledger_file)
        print(book.text(cfg.delta))


def audit(
    data: str = "mnist",
    data_path: Path | None = None,
    num_train: int = 4000,
    num_canaries: int = 1000,
    num_gates: int = 8,
    seed: int = 0,
    cfg: Annotated[NoisyCGDConfig, tyro.conf.arg(name="")] = NoisyCGDConfig(  # noqa: B008
        noise_multiplier=0.5, epochs=10
    ),
) -> int:
    """Audits one training with canaries; exit status 1 if it shows more than was claimed.

    Args:
      data: a labelled image set.
      data_path: where it lies.
      num_train: training images, canaries included.
      num_canaries: m.
      num_gates: P.
      seed: of everything.
      cfg: the training.
    """
    found = load(data, data_path).data.first(num_train)
    model = ConvexReLUConfig(found.x.shape[1], int(found.label.max()) + 1, num_gates)
    key = jax.random.key(seed)
    got = auditing.one_run(key, found.x, found.label, model, cfg, num_canaries=num_canaries)
    print(f"{got.correct} of {got.guesses} guesses right about {got.num_canaries} canaries")
    print(f"epsilon is at least {got.eps_lower:.3f} ({got.confidence:.0%}); claimed is "
          f"{got.eps_claimed:.3f} (zero_out, delta {cfg.delta:g})")  # fmt: skip
    return int(got.eps_lower > got.eps_claimed)


def table(paths: Annotated[tuple[Path, ...], tyro.conf.Positional], /) -> None:
    """Prints accuracies, settings and decided claims of finished studies.

    Args:
      paths: JSON files that `python -m jaxml.dp.gpu` wrote.
    """
    for path in paths:
        record = json.loads(path.read_text())
        cfg = config.from_dict(study.StudyConfig, record["config"])
        tuning, scores = ([study.Score(**r) for r in record[k]] for k in ("tuning", "scores"))
        print(f"\n{record['data']} on {record['device']}")
        for shown in (
            pictures.accuracies(record["data"], cfg, scores),
            pictures.grids(record["data"], cfg, tuning),
        ):
            print("\n".join("  ".join(c.ljust(14) for c in row) for row in
                            [shown.columns, *shown.rows]))  # fmt: skip
        for decided in claims.of_study(record["data"], cfg, scores, "h100"):
            value = "-" if decided.measured is None else f"{decided.measured:.2f}"
            print(f"{decided.verdict:<9} {decided.paper_words}: {value} ({decided.rule})")

"""An experiment: train base networks, merge sets of them by every method, score the results."""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from jaxml.core import check, storage
from jaxml.core.types import PyTree
from jaxml.inputs.splits import Batches, Images, Splits
from jaxml.merge import evaluate, merging, repair, selection, train
from jaxml.merge.config import METHODS, MergeConfig
from jaxml.merge.covariance import Moments
from jaxml.merge.network import Network, logits
from jaxml.merge.results import Curve, Results, Row, summary
from jaxml.merge.splits import SPLITS, Split, class_sets, split_rows
from jaxml.merge.train import TrainConfig

type Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class StudyConfig:
    """One experiment.

    Attributes:
      train: how base networks are trained.
      num_models: k, base networks in all.
      counts: numbers of networks merged, n.
      num_sets: sets of n networks, disjoint as far as k reaches.
      methods: of merging.
      gammas: relative regularisations of `cca`, of which held-out images choose.
      choose: for "each" set of networks anew, or on the "first" set of n for all of them.
      num_train: training images.
      num_held_out: further training images, to choose on.
      num_align: training images that features and batch statistics are taken from.
      align_batch: at a time.
      split: who trains on what; other than "none", n = 2 only and sets are trained separately.
      curve_points: of the interpolation between two networks; 0: none.
      zipit_most: most networks that `zipit` merges (it needs all pairs).
    """

    train: TrainConfig
    num_models: int = 10
    counts: tuple[int, ...] = (2, 3, 5)
    num_sets: int = 3
    methods: tuple[str, ...] = METHODS
    gammas: tuple[float, ...] = selection.GAMMAS
    choose: Literal["each", "first"] = "each"
    num_train: int = 20_000
    num_held_out: int = 2_000
    num_align: int = 10_000
    align_batch: int = 1_000
    split: Split = "none"
    curve_points: int = 11
    zipit_most: int = 5

    def __post_init__(self):
        check.positive(num_train=self.num_train, num_held_out=self.num_held_out)
        check.between(1, self.num_train, num_align=self.num_align)
        check.positive(num_sets=self.num_sets, align_batch=self.align_batch)
        check.one_of(SPLITS, split=self.split)
        check.one_of(("each", "first"), choose=self.choose)
        for method in self.methods:
            check.one_of(METHODS, method=method)
        for count in self.counts:
            check.between(2, self.num_models, count=count)
        if self.split != "none" and (self.counts != (2,) or self.num_models < 2 * self.num_sets):
            raise ValueError(
                f"split {self.split!r} needs counts=(2,) and num_models >= 2 * num_sets; "
                f"got counts={self.counts}, num_models={self.num_models}."
            )


def sets(num_models: int, count: int, num_sets: int) -> list[list[int]]:
    """Sets of `count` networks: disjoint while there are enough, then from other starts.

    >>> sets(4, 2, 3)
    [[0, 1], [2, 3], [1, 2]]
    """
    whole = num_models // count
    starts = [i * count for i in range(whole)]
    starts += [(i * count // 2 + 1) % num_models for i in range(num_sets)]
    chosen = list(dict.fromkeys(starts))[:num_sets]
    return [[(start + i) % num_models for i in range(count)] for start in chosen]


def base_networks(
    cfg: StudyConfig,
    images: Images,
    folder: Path,
    seed: int = 0,
    say: Say = print,
    minutes: float | None = None,
) -> list[PyTree]:
    """Trains the base networks, or reads them where an earlier run left them.

    Raises:
      ValueError: fewer networks learned than are merged, or of networks of different data any
        did not.
    """
    path = folder / f"base-{cfg.split}-{seed}.npz"
    if path.exists():
        stacked = storage.load(path)
        stacked.setdefault("state", {})
        number = len(jax.tree.leaves(stacked["params"])[0])
        return train.Trained(stacked, np.zeros((number, 1))).split()
    seeds = [1000 * seed + k for k in range(cfg.num_models)]
    rows = None
    if cfg.split != "none":
        pairs = [split_rows(cfg.split, images.label, 2, seed + s) for s in range(cfg.num_sets)]
        rows, seeds = [r for pair in pairs for r in pair], seeds[: 2 * cfg.num_sets]
    trained = _learned(cfg, train.train(cfg.train, images, seeds, rows, say, minutes), say)
    storage.save(path, jax.tree.map(np.asarray, trained.variables))
    return trained.split()


def _learned(cfg: StudyConfig, trained: train.Trained, say: Say) -> train.Trained:
    """Without networks that diverged, or whose loss is still that of guessing after five epochs."""
    last, classes = trained.losses[:, -1], cfg.train.arch.num_classes
    good = np.isfinite(last)
    if trained.losses.shape[1] >= 5:
        good &= np.nan_to_num(last, nan=np.inf) < 0.99 * np.log(classes)
    lost, needed = np.flatnonzero(~good), max(cfg.counts)
    if len(lost) and (good.sum() < needed or cfg.split != "none"):
        raise ValueError(f"training failed for networks {lost.tolist()}; lower train.lr.")
    if len(lost):
        say(f"networks {lost.tolist()} did not learn and are left out.")
    kept = jax.tree.map(lambda leaf: leaf[good], trained.variables)
    return train.Trained(kept, trained.losses[good])


class _Bench:
    """What every set shares: data, base networks with fresh statistics, their logits."""

    def __init__(self, cfg: StudyConfig, data: Splits, models: list[PyTree], seed: int):
        self.cfg, self.data, self.seed = cfg, data, seed
        self.network: Network = train.build(cfg.train.arch).network
        size, augmented = cfg.align_batch, cfg.train.augmented
        some = data.train.rows(slice(cfg.num_align))
        self.align = list(Batches(some, size, augmented, seed, keep_rest=False))
        self.held_out, self.test = (list(Batches(x, size)) for x in (data.held_out, data.test))
        if self.network.batch_statistics is not None:
            models = [repair.reset_batch_stats(self.network, m, self.align) for m in models]
        self.models = models
        self.base = np.stack([logits(self.network, m, self.test) for m in models])
        self.gamma: dict[int, MergeConfig] = {}

    def classes(self, index: int) -> list[list[int]] | None:
        if self.cfg.split != "classes":
            return None
        return class_sets(int(self.data.train.label.max()) + 1, 2, self.seed + index)

    def score(self, found: np.ndarray, index: int) -> dict[str, Any]:
        """Accuracy; for disjoint classes the joint one and that per task."""
        label, classes = self.data.test.label, self.classes(index)
        if classes is None:
            return {
                "accuracy": evaluate.accuracy(found, label),
                "loss": evaluate.cross_entropy(found, label),
            }
        joint = evaluate.joint_probabilities(found, classes)
        return {
            "accuracy": evaluate.accuracy(joint, label),
            "per_task": evaluate.per_task_accuracy(found, label, classes),
        }

    def held_out_score(self, index: int) -> Callable[[PyTree], float]:
        def score(variables: PyTree) -> float:
            found, classes = logits(self.network, variables, self.held_out), self.classes(index)
            found = found if classes is None else evaluate.joint_probabilities(found, classes)
            return evaluate.accuracy(found, self.data.held_out.label)

        return score


def run(
    cfg: StudyConfig, data: Splits, models: list[PyTree], seed: int = 0, say: Say = print
) -> Results:
    """Merges every set of networks by every method and scores what comes out on the test images.

    Args:
      cfg: the experiment.
      data: images; `held_out` alone decides on gamma.
      models: the base networks.
      seed: of views of the training images, and of the class sets.
      say: prints progress.
    """
    bench = _Bench(cfg, data, models, seed)
    results = Results([], [], {}, {}, {"align": 0.0, "covariance": 0.0})
    for count in cfg.counts:
        for index, members in enumerate(sets(len(models), count, cfg.num_sets)):
            results.rows.extend(_references(bench, members, count, index))
            results.rows.extend(_merged(bench, members, count, index, results))
        say(f"n={count}: {summary(results.rows, count)}")
    return results


def _references(bench: _Bench, members: list[int], count: int, index: int) -> list[Row]:
    """The mean of the base networks, and their ensemble."""
    scores = [bench.score(bench.base[k], index) for k in members]
    mean = {key: float(np.mean([s[key] for s in scores])) for key in scores[0]}
    classes = bench.classes(index)
    if classes is None:
        joined = bench.score(evaluate.ensemble_logits(bench.base[members]), index)
    else:
        together = evaluate.ensemble_of_classes(bench.base[members], classes)
        joined = {"accuracy": evaluate.accuracy(together, bench.data.test.label)}
    return [Row("base", count, index, **mean), Row("ensemble", count, index, **joined)]


def _merged(
    bench: _Bench, members: list[int], count: int, index: int, results: Results
) -> list[Row]:
    cfg, network, rows = bench.cfg, bench.network, []
    models = [bench.models[k] for k in members]
    wanted = [m for m in cfg.methods if m != "zipit" or count <= cfg.zipit_most]
    start = time.monotonic()
    pairs = "all" if "zipit" in wanted else "reference"
    moments = merging.feature_moments(network, models, bench.align, pairs)
    results.seconds["covariance"] += time.monotonic() - start
    for method in wanted:
        start = time.monotonic()
        merge_cfg, found = _one(bench, models, method, moments, count, index, results)
        results.seconds["align"] += time.monotonic() - start
        score = bench.score(logits(network, found.variables, bench.test), index)
        gamma = merge_cfg.gamma if method == "cca" else None
        rows.append(Row(method, count, index, gamma=gamma, **score))
        if count == 2 and index == 0:
            if method == "cca":
                results.diagnostics.update(found.diagnostics)
            if cfg.curve_points and method in ("average", "permute", "weights", "cca"):
                results.curves.append(_curve(bench, models, method, found))
    return rows


def _one(
    bench: _Bench,
    models: list[PyTree],
    method: str,
    moments: dict[str, Moments],
    count: int,
    index: int,
    results: Results,
) -> tuple[MergeConfig, merging.MergeResult]:
    cfg: Any = MergeConfig(method=method, seed=bench.seed)  # pyright: ignore[reportArgumentType]
    if method in ("average", "weights"):
        return cfg, merging.merge(bench.network, models, bench.align, cfg)
    if method == "cca" and (bench.cfg.choose == "each" or count not in bench.gamma):
        chosen = selection.choose(
            bench.network,
            models,
            bench.align,
            selection.gammas(cfg, bench.cfg.gammas),
            bench.held_out_score(index),
            moments,
        )
        bench.gamma[count] = chosen.cfg
        seen = results.held_out.setdefault(count, {})
        for candidate, score in chosen.scores.items():
            seen.setdefault(candidate.gamma, []).append(score)
        return chosen.cfg, chosen.result
    cfg = bench.gamma[count] if method == "cca" else cfg
    alignments = merging.alignments_from_moments(bench.network, moments, cfg)
    return cfg, merging.finish(bench.network, models, bench.align, cfg, alignments)


def _curve(bench: _Bench, models: list[PyTree], method: str, found: merging.MergeResult) -> Curve:
    """Between the reference and the aligned other network, statistics anew at every point."""
    from jaxml.merge.basis import apply_alignment

    network = bench.network
    a, b = (
        apply_alignment(network.spec, m, one)
        for m, one in zip(models, found.alignments, strict=True)
    )
    accuracies: list[float] = []

    def loss(variables: PyTree) -> float:
        if network.batch_statistics is not None:
            variables = repair.reset_batch_stats(network, variables, bench.align)
        values = logits(network, variables, bench.test)
        accuracies.append(evaluate.accuracy(values, bench.data.test.label))
        return evaluate.cross_entropy(values, bench.data.test.label)

    ts, losses = evaluate.curve(a, b, loss, bench.cfg.curve_points)
    return Curve(method, ts, losses, accuracies, evaluate.barrier(losses))

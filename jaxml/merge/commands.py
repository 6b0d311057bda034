"""`jaxml merge run`, `train` and `table`."""

import importlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import numpy as np
import tyro
from rich.console import Console

from jaxml.core import check, files, storage, tree
from jaxml.core.types import PyTree
from jaxml.inputs import splits as images
from jaxml.merge import (
    basis,
    claims,
    evaluate,
    merging,
    pictures,
    repair,
    selection,
)
from jaxml.merge import network as networks
from jaxml.merge import train as training
from jaxml.merge.config import METHODS, MergeConfig, Method
from jaxml.merge.network import Network, logits
from jaxml.merge.results import Row
from jaxml.merge.train import TrainConfig
from jaxml.models.arch import arch_of
from jaxml.report import figure


def run(
    models: Annotated[tuple[Path, ...], tyro.conf.Positional],
    /,
    out: Annotated[Path, tyro.conf.arg(aliases=("-o",))] = Path("merged.safetensors"),
    method: Method = "cca",
    gamma: float | None = None,
    spec: Literal["auto", "mlp", "vgg", "resnet"] = "auto",
    apply: str | None = None,
    train_apply: str | None = None,
    data: str = "fashion_mnist",
    data_path: Path | None = None,
    num_align: int = 10_000,
    num_held_out: int = 5_000,
    batch_size: int = 500,
    repair_by: Literal["bn_reset", "rescale", "none"] = "bn_reset",
    reference: int = 0,
    report: Path | None = None,
    seed: int = 0,
) -> None:
    """Merges networks of one architecture and says how base, ensemble and merge do.

    The architecture is read off the arrays (an MLP, VGG or ResNet as `jaxml.models` lays them
    out). For any other network name its function with --apply: its feature spaces are then read
    off its trace.

    Args:
      models: two or more files (.safetensors, .npz) or orbax folders.
      out: the merged network; the suffix says how it is written.
      method: cca, permute, weights, zipit, ot or average.
      gamma: relative regularisation of cca; by default chosen on held-out training images.
      spec: auto, or the architecture that the arrays must be of.
      apply: `module:function`, `(variables, images [b, y, x, c]) -> logits`, evaluating.
      train_apply: `module:function`, `(variables, images) -> variables` with moved statistics; for
        networks with batch norm under --apply.
      data: a labelled image set (`jaxml data list`).
      data_path: where it lies, if not where it is looked for; or an npz of images.
      num_align: training images that features are taken from.
      num_held_out: training images, from the end of the set, to choose gamma on.
      batch_size: images at a time.
      repair_by: bn_reset, rescale (REPAIR) or none.
      reference: index of the network whose basis is kept.
      report: a folder for numbers and the picture of the barrier.
      seed: of weight matching.
    """
    if len(models) < 2:
        raise ValueError(f"models must be at least two files; got {len(models)}.")
    check.one_of(METHODS, method=method)
    loaded = [storage.load(path) for path in models]
    check.between(0, len(loaded) - 1, reference=reference)
    loaded = [loaded[reference], *loaded[:reference], *loaded[reference + 1 :]]
    splits = _images(data, data_path, num_held_out)
    if apply is None:
        network, loaded = _network(spec, loaded, splits)
    else:
        network = _named(apply, train_apply, loaded[0], splits)
    align = list(images.Batches(splits.train.rows(slice(num_align)), batch_size))
    test = list(images.Batches(splits.test, batch_size))
    cfg = MergeConfig(method, 0.1 if gamma is None else gamma, repair=repair_by, seed=seed)
    result, cfg = _merged(network, loaded, align, cfg, gamma, splits, batch_size)
    storage.save(out, result.variables, {"merged_by": method, "gamma": f"{cfg.gamma:g}"})
    label = splits.test.label
    scores = _scores(network, loaded, result.variables, test, label)
    say = Console()
    chosen = f", gamma {cfg.gamma:g}" if method == "cca" else ""
    say.print(f"{len(loaded)} networks merged by {method}{chosen} into {out}")
    for name, score in scores.items():
        say.print(f"  {name:<10} {score:6.2f} % of {len(label)} test images")
    if report is not None:
        _report(network, loaded, result, align, test, label, scores, report, method)
        say.print(f"numbers and picture: {report}")


def _scores(
    network: Network, loaded: list[PyTree], merged: PyTree, test: list[Any], label: np.ndarray
) -> dict[str, float]:
    """Accuracies in percent of every network, of their ensemble and of the merge."""
    base = np.stack([logits(network, one, test) for one in loaded])
    scores = {f"base {i}": evaluate.accuracy(one, label) for i, one in enumerate(base)}
    scores["ensemble"] = evaluate.accuracy(evaluate.ensemble_logits(base), label)
    scores["merged"] = evaluate.accuracy(logits(network, merged, test), label)
    return scores


def _images(dataset: str, path: Path | None, num_held_out: int) -> images.Splits:
    if path is not None and path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            num = len(arrays["train_label"])
        return images.load_npz(path, num - num_held_out, num_held_out)
    from jaxml.inputs import source

    num = dict(source.dataset(dataset).splits)["train"]
    check.between(1, num - 1, num_held_out=num_held_out)
    return images.load(dataset, num - num_held_out, num_held_out, path)


def _named(
    apply: str, train_apply: str | None, variables: PyTree, splits: images.Splits
) -> Network:
    """A network of functions named on the command line."""

    def found(name: str) -> Any:
        module, _, function = name.partition(":")
        try:
            return getattr(importlib.import_module(module), function)
        except (ImportError, AttributeError, ValueError) as error:
            raise ValueError(f"apply must be module:function; got {name!r} ({error}).") from None

    x = next(iter(images.Batches(splits.train.rows(slice(2)), 2)))
    train_fn = None if train_apply is None else found(train_apply)
    return networks.of_function(found(apply), variables, x, train_fn=train_fn)


def _network(
    arch: str, loaded: list[PyTree], splits: images.Splits
) -> tuple[Network, list[PyTree]]:
    """The architecture of the arrays, and the arrays as its variables."""
    loaded = [one if "params" in one else {"params": one} for one in loaded]
    for one in loaded:
        one.setdefault("state", {})
    params = loaded[0]["params"]
    found = arch_of(params, splits.train.image.shape[1:])
    if arch not in ("auto", found.kind):
        raise ValueError(f"spec must be that of the arrays, {found.kind}; got spec={arch!r}.")
    built = training.build(found)
    made = jax.eval_shape(lambda: built.init(jax.random.key(0)))
    for i, one in enumerate(loaded):
        tree.check_match(one, made, f"model {i}")
    return built.network, loaded


def _merged(
    network: Network,
    loaded: list[PyTree],
    align: list,
    cfg: MergeConfig,
    gamma: float | None,
    splits: images.Splits,
    batch_size: int,
) -> tuple[merging.MergeResult, MergeConfig]:
    if cfg.method != "cca" or gamma is not None:
        return merging.merge(network, loaded, align, cfg), cfg
    held_out = list(images.Batches(splits.held_out, batch_size))

    def score(variables: PyTree) -> float:
        return evaluate.accuracy(logits(network, variables, held_out), splits.held_out.label)

    chosen = selection.choose(network, loaded, align, selection.gammas(cfg), score)
    return chosen.result, chosen.cfg


def _report(
    network: Network,
    loaded: list[PyTree],
    result: merging.MergeResult,
    align: list,
    test: list,
    label: np.ndarray,
    scores: dict[str, float],
    folder: Path,
    method: str,
) -> None:
    """Scores, diagnostics and the loss between the first two networks, aligned and not."""
    pairs = list(zip(loaded, result.alignments, strict=True))[:2]
    a, b = (basis.apply_alignment(network.spec, one, bases) for one, bases in pairs)

    def loss(variables: PyTree) -> float:
        if network.batch_statistics is not None:
            variables = repair.reset_batch_stats(network, variables, align)
        return evaluate.cross_entropy(logits(network, variables, test), label)

    curves = {
        "no alignment": evaluate.curve(loaded[0], loaded[1], loss),
        pictures.NAMES[method]: evaluate.curve(a, b, loss),
    }
    drawn = figure.lines(
        "barrier",
        "Loss between the first two networks",
        "",
        curves,
        x="share of the second network",
        y="test loss, nats",
    )
    about = {
        "scores": scores,
        "diagnostics": result.diagnostics,
        "curves": {name: {"t": ts, "loss": values} for name, (ts, values) in curves.items()},
        "barriers": {name: evaluate.barrier(values) for name, (_, values) in curves.items()},
    }
    head = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
    svg = drawn.svg.replace("<svg ", head, 1).replace("currentColor", "#333333")
    files.write_text(folder / "barrier.svg", svg + "\n")
    files.write_text(folder / "merge.json", json.dumps(about, indent=1) + "\n")


def train(
    folder: Annotated[Path, tyro.conf.Positional],
    /,
    num_models: int = 2,
    data: str = "fashion_mnist",
    data_path: Path | None = None,
    num_train: int = 20_000,
    seed: int = 0,
    cfg: Annotated[TrainConfig, tyro.conf.arg(name="")] = TrainConfig(over="unroll"),  # noqa: B008
) -> None:
    """Trains base networks from different seeds, all at once: model0.safetensors and so on.

    Args:
      folder: where they go.
      num_models: how many.
      data: a labelled image set (`jaxml data list`).
      data_path: where it lies.
      num_train: training images.
      seed: of the first network; the others count on.
      cfg: architecture and training.
    """
    check.positive(num_models=num_models)
    splits = images.load(data, num_train, 0, data_path)
    say = Console()
    seeds = list(range(seed, seed + num_models))
    trained = training.train(cfg, splits.train, seeds, say=say.print)
    for i, variables in enumerate(trained.split()):
        storage.save(folder / f"model{i}.safetensors", variables)
    say.print(f"{num_models} networks lie in {folder}; merge them with `jaxml merge run`.")


def table(paths: Annotated[tuple[Path, ...], tyro.conf.Positional], /) -> None:
    """Prints the methods' accuracies and the decided claims of finished studies.

    Args:
      paths: JSON files that `python -m jaxml.merge.cifar` wrote.
    """
    for path in paths:
        found = json.loads(path.read_text())
        rows = [Row(**row) for row in found["rows"]]
        split = found["config"]["split"]
        kind = found["config"]["train"]["arch"]["kind"] if split == "none" else split
        shown = pictures.accuracies(found["name"], rows)
        print(f"\n{found['name']} on {found['device']}\n" + "  ".join(shown.columns))
        for row in shown.rows:
            print("  ".join(cell.ljust(18) for cell in row))
        for decided in claims.decide(kind, rows, "h100", found["name"]):
            value = "-" if decided.measured is None else f"{decided.measured:.2f}"
            print(f"{decided.verdict:<13} {decided.paper_words}: {value} ({decided.rule})")

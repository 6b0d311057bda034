"""The study on CIFAR, from one file of images: `python -m jaxml.merge.cifar --help`.

Needs jax, numpy, flax and scipy only. Base networks stay in `--cache`, so that a second call goes
on where the first was stopped; scores are written after every count.
"""

import argparse
import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import jax

from jaxml.core import files
from jaxml.inputs import splits as data
from jaxml.inputs.packed import join
from jaxml.merge import claims, study
from jaxml.merge.results import Curve, Results, Row
from jaxml.merge.splits import SPLITS
from jaxml.merge.train import ArchConfig, TrainConfig
from jaxml.report import environment
from jaxml.report.progress import BEGUN


def study_config(
    arch: str,
    *,
    num_models: int = 10,
    counts: tuple[int, ...] = (2, 3, 4, 5),
    num_sets: int = 4,
    epochs: int = 100,
    split: str = "none",
    width: float | None = None,
    over: str = "map",
    classes: int = 10,
) -> study.StudyConfig:
    """The published recipe: VGG11 or ResNet20, SGD with peak 0.08 or 0.5, batches of 500.

    Args:
      arch: "vgg" (VGG11, no norm) or "resnet" (ResNet20).
      num_models: base networks.
      counts: numbers of networks merged.
      num_sets: sets of each.
      epochs: of training (200 in the paper).
      split: see `splits.split_rows`.
      width: multiplier; 1 for vgg, 4 for resnet by default.
      over: see `TrainConfig`.
      classes: of the data.
    """
    vgg = arch == "vgg"
    width = (1.0 if vgg else 4.0) if width is None else width
    network = ArchConfig(arch, 11 if vgg else 20, width, num_classes=classes, image=(32, 32, 3))  # pyright: ignore[reportArgumentType]
    train = TrainConfig(
        network,
        epochs,
        batch_size=500,
        lr=0.08 if vgg else 0.5,
        warmup=5.0,
        augmented=True,
        dtype="bfloat16",
        over=over,  # pyright: ignore[reportArgumentType]
    )
    return study.StudyConfig(
        train,
        num_models=num_models,
        counts=counts,
        num_sets=num_sets,
        gammas=(1e-2, 1e-1, 1.0, 10.0, 100.0),
        choose="first",
        num_train=48_000,
        num_held_out=2_000,
        num_align=20_000,
        align_batch=500,
        split=split,  # pyright: ignore[reportArgumentType]
        curve_points=11,
    )


def record(cfg: study.StudyConfig, results: Results, about: dict[str, object]) -> str:
    """Everything measured, as JSON."""
    return json.dumps(
        {
            **about,
            "config": dataclasses.asdict(cfg),
            "rows": [row._asdict() for row in results.rows],
            "curves": [curve._asdict() for curve in results.curves],
            "held_out": {str(n): scores for n, scores in results.held_out.items()},
            "diagnostics": results.diagnostics,
            "seconds": results.seconds,
        },
        indent=1,
    )


def main(words: list[str] | None = None) -> None:
    """Trains, merges, writes `NAME.json` into `--out`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="npz, or a folder of WebP shards")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--cache", type=Path, default=Path("/tmp/merge-base"))
    parser.add_argument("--arch", choices=("vgg", "resnet"), default="vgg")
    parser.add_argument("--width", type=float)
    parser.add_argument("--models", type=int, default=10)
    parser.add_argument("--counts", type=int, nargs="+", default=[2, 3, 4, 5])
    parser.add_argument("--sets", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--minutes", type=float, help="of training: as many epochs as fit")
    parser.add_argument("--stop", type=float, default=60.0, help="minutes; no count begins later")
    parser.add_argument("--split", choices=SPLITS, default="none")
    parser.add_argument("--over", choices=("vmap", "map", "unroll"), default="map")
    parser.add_argument("--train", type=int, default=48_000, help="training images")
    parser.add_argument("--held-out", type=int, default=2_000)
    parser.add_argument("--align", type=int, default=20_000, help="images features are taken from")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(words)
    jax.config.update("jax_compilation_cache_dir", str(args.cache / "compiled"))
    path = join(args.data) if args.data.is_dir() else args.data
    splits = data.load_npz(path, args.train, args.held_out)
    cfg = study_config(
        args.arch,
        num_models=args.models,
        counts=tuple(args.counts),
        num_sets=args.sets,
        epochs=args.epochs,
        split=args.split,
        width=args.width,
        over=args.over,
        classes=int(splits.train.label.max()) + 1,
    )
    cfg = dataclasses.replace(
        cfg, num_train=args.train, num_held_out=args.held_out, num_align=args.align
    )
    _measure(cfg, splits, args)


def _measure(cfg: study.StudyConfig, splits: data.Splits, args: argparse.Namespace) -> None:
    arch = cfg.train.arch
    name = f"{arch.kind}{arch.depth}x{arch.width:g}-{cfg.split}"
    seen, path = environment.describe(), args.out / f"{name}.json"
    gathered, about = _earlier(path, cfg)
    models = study.base_networks(
        cfg, splits.train, args.cache / name, args.seed, _say, args.minutes
    )
    about["train_s"] = about.get("train_s") or time.monotonic() - BEGUN
    kept = ("device", "versions", "date", "commit", "command")
    about |= {"name": name, "num_test": len(splits.test.label), "num_models": len(models)}
    about |= {key: seen[key] for key in kept}
    kind = arch.kind if cfg.split == "none" else cfg.split
    for count in cfg.counts:
        if any(row.count == count for row in gathered.rows):
            continue
        if time.monotonic() - BEGUN > 60 * args.stop:
            _say("the time is over; call again with the same --out and --cache.")
            return
        # One count at a time, so that what is done is written if the time runs out.
        one = study.run(dataclasses.replace(cfg, counts=(count,)), splits, models, args.seed, _say)
        gathered.rows.extend(one.rows)
        gathered.curves.extend(one.curves)
        gathered.held_out.update(one.held_out)
        gathered.diagnostics.update(one.diagnostics)
        for phase, seconds in one.seconds.items():
            gathered.seconds[phase] = gathered.seconds.get(phase, 0.0) + seconds
        decided = claims.decide(kind, gathered.rows, "h100", f"{splits.name}, {name}")
        about["claims"] = [c.to_json() for c in decided]
        about["wall_s"] = time.monotonic() - BEGUN
        files.write_text(path, record(cfg, gathered, about))


def _earlier(path: Path, cfg: study.StudyConfig) -> tuple[Results, dict[str, Any]]:
    """What an earlier call with the same configuration wrote, or nothing."""
    if path.exists():
        known = json.loads(path.read_text())
        if known["config"] == json.loads(json.dumps(dataclasses.asdict(cfg))):
            held_out = {
                int(n): {float(g): s for g, s in scores.items()}
                for n, scores in known["held_out"].items()
            }
            found = Results(
                [Row(**row) for row in known["rows"]],
                [Curve(**curve) for curve in known["curves"]],
                held_out,
                known["diagnostics"],
                known["seconds"],
            )
            return found, {"train_s": known["train_s"]}
    return Results([], [], {}, {}, {}), {}


def _say(text: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True)


if __name__ == "__main__":
    main()

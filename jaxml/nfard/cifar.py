"""The zoo on complete CIFAR-10, from one file of images: `python -m jaxml.nfard.cifar --help`.

Needs jax, numpy, flax and scipy only. Members stay in `--cache`: a second call goes on where the
first was stopped, and measures once every member is there (with `--partial` at the end of the time,
if victims, references and one of every kind are there).
"""

import argparse
import dataclasses
import json
import time
from pathlib import Path

import jax

from jaxml.core import files
from jaxml.inputs import packed, splits
from jaxml.models.arch import ArchConfig
from jaxml.nfard import claims, study, zoo
from jaxml.nfard.train import TrainConfig
from jaxml.report import environment

IMAGE = (32, 32, 3)
ARCHS = (
    ArchConfig("vgg", 11, 1.0, batch_norm=True, image=IMAGE),
    ArchConfig("resnet", 20, 2.0, image=IMAGE),
)


def zoo_config(epochs: int = 40, batch_size: int = 500, copies: int = 2) -> zoo.ZooConfig:
    """Two victims, a VGG11 and a ResNet20 of double width; ours, no published zoo is known.

    Victims train on 32,000 images, whoever reuses them on 16,000 others.
    """
    train = TrainConfig(
        epochs,
        batch_size,
        lr=0.1,
        augmented=True,
        dtype="bfloat16",
        chunk=32,
        over="loop",
    )
    return zoo.ZooConfig(
        ARCHS,
        victims=(0, 1),
        train=train,
        num_victim_rows=32_000,
        num_reuse_rows=16_000,
        copies=copies,
        same=6,
        other_half=4,
        references=8,
        references_half=3,
    )


def passes(cfg: zoo.ZooConfig) -> float:
    """Epochs of `num_victim_rows` that one epoch setting costs, per architecture."""
    whole = len(cfg.victims) / 2 + cfg.same + cfg.references
    fresh = cfg.other_half + 3 * cfg.copies * len(cfg.victims) / 2
    return whole + fresh * cfg.num_reuse_rows / cfg.num_victim_rows + cfg.references_half / 2


def fitting(cfg: zoo.ZooConfig, data: splits.Splits, minutes: float, cache: Path) -> int:
    """How many epochs fit, by a pass of each architecture; remembered, so that calls agree."""
    path = cache / "epochs.json"
    if path.exists():
        return json.loads(path.read_text())["epochs"]
    seconds = []
    for arch in cfg.archs:
        one = dataclasses.replace(cfg, archs=(arch, arch), victims=(0,), same=0, other_half=0)
        maker = dataclasses.replace(one, references=0, references_half=0, kinds=())
        times = []
        for epochs in (1, 4):
            train = dataclasses.replace(cfg.train, epochs=epochs)
            begun = time.monotonic()
            zoo.train_alone(dataclasses.replace(maker, train=train), data)
            times.append(time.monotonic() - begun)
        seconds.append(times[1] / 4)
        _say(f"{arch.kind}: {seconds[-1]:.2f} s an epoch, compiled in {times[0]:.0f} s")
    epochs = int(60 * minutes / (passes(cfg) * sum(seconds)))
    epochs = max(12, min(epochs, cfg.train.epochs))
    files.write_text(path, json.dumps({"epochs": epochs, "seconds": seconds}))
    return epochs


def main(words: list[str] | None = None) -> int:
    """Builds, measures, writes `zoo.json` and `nfard-cifar.json` into `--out`; 3: call again."""
    args = _arguments(words)
    begun = time.monotonic()
    if not args.tiny:
        jax.config.update("jax_compilation_cache_dir", str(args.cache / "compiled"))
    path = packed.join(args.data) if args.data.is_dir() else args.data
    cfg = _tiny() if args.tiny else zoo_config(args.epochs, copies=args.copies)
    rows = cfg.num_victim_rows + cfg.num_reuse_rows
    data = zoo.shuffled(splits.load_npz(path, rows, 0 if args.tiny else 2000), args.seed)
    args.cache.mkdir(parents=True, exist_ok=True)
    if args.fit:
        epochs = fitting(cfg, data, args.fit, args.cache)
        cfg = dataclasses.replace(cfg, train=dataclasses.replace(cfg.train, epochs=epochs))
    _say(f"{cfg.train.epochs} epochs, {len(zoo.orders(cfg))} members and attacks")
    whole, deadline = True, begun + 60 * args.minutes
    try:
        built = zoo.build_zoo(cfg, data, args.seed, args.cache, _say, deadline)
    except zoo.OutOfTimeError as error:
        if not args.partial or error.built is None:
            _say(f"{error} Call again with the same --cache.")
            return 3
        built, whole = error.built, False
        _say(f"{error} What is there is judged.")
    seen = environment.describe()
    about = {
        **{name: seen[name] for name in ("device", "versions", "date", "commit", "command")},
        "whole": whole,
        "config": dataclasses.asdict(cfg),
        "members": study.members(built),
    }

    def write(measured: study.Measured) -> None:
        found = study.summary(measured)
        words = f"{data.name}, {len(built.entries)} members, {cfg.train.epochs} epochs"
        decided = claims.decide(found, "h100", words, {"texts": "pruned texts are the laptop's"})
        record = {"claims": [c.to_json() for c in decided], "wall_s": time.monotonic() - begun}
        record = {**about, **record, **found}
        files.write_text(args.out / "nfard-cifar.json", json.dumps(record, indent=0) + "\n")

    sizes = (40, 20) if args.tiny else (2000, 1000)
    judged = study.judge(built, data.test, sizes[0], _say)
    write(judged)
    measured = study.beside(judged, built, data.test, sizes[1], repeats=args.repeats, say=_say)
    write(measured)
    _say(f"ratios of suite times: {study.ratios(measured.seconds)}")
    return 0


def _arguments(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="npz, or a folder of WebP shards")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--cache", type=Path, default=Path("/tmp/nfard-zoo"))
    parser.add_argument("--epochs", type=int, default=60, help="at most")
    parser.add_argument("--fit", type=float, help="minutes of all training, decides the epochs")
    parser.add_argument("--minutes", type=float, default=8.0, help="no member begins after these")
    parser.add_argument("--partial", action="store_true", help="then judge what there is")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--copies", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=1, help="of timings")
    parser.add_argument("--tiny", action="store_true", help="smallest sizes: does it run?")
    return parser.parse_args(words)


def _tiny() -> zoo.ZooConfig:
    archs = tuple(
        dataclasses.replace(a, width=w) for a, w in zip(ARCHS, (0.0625, 0.25), strict=True)
    )
    archs = (archs[0], dataclasses.replace(archs[1], depth=8))
    small = zoo_config(2, batch_size=16, copies=1)
    train = dataclasses.replace(small.train, chunk=2, dtype="float32")
    return dataclasses.replace(
        small, archs=archs, train=train, num_victim_rows=64, num_reuse_rows=32, same=1,
        other_half=1, references=3, references_half=1, min_accuracy=0.0,
    )  # fmt: skip


def _say(text: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())

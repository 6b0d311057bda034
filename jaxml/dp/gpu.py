"""The study from a bare command line: `python -m jaxml.dp.gpu --data mnist.npz --out FOLDER`.

Needs jax, numpy, scipy, optax, flax and orbax. DP-SGD's noise multipliers come from dp-accounting,
which a GPU machine may lack: `--plan` writes them elsewhere, `--noise` reads them. Phases stay in
`--cache`, so that a second call goes on where the first was stopped.
"""

import argparse
import dataclasses
import json
import time
from pathlib import Path

import jax
import numpy as np

from jaxml.core import files
from jaxml.dp import audit, study
from jaxml.dp.config import ConvexReLUConfig, NoisyCGDConfig
from jaxml.dp.data import Data, rows_of
from jaxml.dp.study import StudyConfig
from jaxml.inputs import packed
from jaxml.report import environment
from jaxml.report.progress import BEGUN, say


def _arguments(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--data", type=Path, help="npz, or a folder of CIFAR-10 WebP shards")
    add("--out", type=Path, required=True, help="folder of the results")
    add("--cache", type=Path, default=Path("/tmp/dp-study"))
    add("--noise", type=Path, help="what --plan wrote")
    add("--plan", action="store_true", help="write noise.json for --num-train and leave")
    add("--num-train", type=int, help="default: all training images")
    add("--num-held-out", type=int, default=10_000)
    add("--gates", type=int, default=128)
    add("--hidden", type=int, default=200)
    add("--batch-size", type=int, default=1000)
    add("--epochs", type=int, default=400)
    add("--seeds", type=int, default=5)
    add("--seed", type=int, default=0)
    add("--epsilons", type=float, nargs="+", default=[0.5, 1.0, 1.34, 2.0, 4.62, 8.0])
    add("--tuned-at", type=float, nargs="+", default=[1.34, 4.62])
    add("--methods", nargs="+", default=list(study.METHODS), choices=list(study.METHODS))
    add("--clip-mode", default="envelope", choices=("envelope", "flat", "lipschitz"))
    add("--matmul", default="tf32", choices=("tf32", "highest"))
    add("--audit", type=int, default=0, help="also audit one training with so many canaries")
    add("--audit-only", action="store_true", help="and nothing else")
    add("--audit-sigma", type=float, default=1.0)
    add("--audit-epochs", type=int, default=20)
    return parser.parse_args(words)


def _config(args: argparse.Namespace, num_train: int) -> StudyConfig:
    training = NoisyCGDConfig(
        args.batch_size, args.epochs, clip_mode=args.clip_mode, matmul=args.matmul
    )
    return StudyConfig(
        training,
        args.gates,
        args.hidden,
        tuple(args.epsilons),
        tuple(args.tuned_at),
        num_seeds=args.seeds,
        num_train=num_train,
        num_held_out=args.num_held_out,
        methods=tuple(args.methods),
    )


def main(words: list[str] | None = None) -> None:
    """Parses the flags; plans, or studies and audits."""
    args = _arguments(words)
    if args.plan:
        cfg = _config(args, args.num_train or 60_000)
        path = args.out / f"noise-{cfg.num_train}.json"
        files.write_text(path, json.dumps(study.noise_table(cfg), indent=0) + "\n")
        say(f"wrote {path.name}")
        return
    path = packed.join(args.data) if args.data.is_dir() else args.data
    arrays = packed.load(path)
    num = args.num_train or len(arrays["train_label"])
    train_x, test_x = (rows_of(arrays[f"{s}_image"]) for s in ("train", "test"))
    train_y, test_y = (arrays[f"{s}_label"].astype(np.int32) for s in ("train", "test"))
    data = Data(train_x[:num], train_y[:num], test_x, test_y)
    cfg, name = _config(args, num), path.stem
    noise = json.loads(args.noise.read_text()) if args.noise else None
    say(f"{name}: {num} training images, {jax.devices()[0].device_kind}, jax {jax.__version__}")
    seen = environment.describe()
    kept = ("device", "versions", "date", "commit", "command")
    about = {"data": name, **{key: seen[key] for key in kept}}
    if args.audit:
        _audit(args, data, name, about)
    if args.audit_only:
        return
    folder = args.cache / f"{name}-{args.clip_mode}"
    tuning, found = study.study(cfg, data, folder, seed=args.seed, noise=noise, say=say)
    record = {
        **about,
        "wall_s": time.monotonic() - BEGUN,
        "config": dataclasses.asdict(cfg),
        "tuning": [s._asdict() for s in tuning],
        "scores": [s._asdict() for s in found],
    }
    files.write_text(args.out / f"{name}.json", json.dumps(record, indent=0) + "\n")
    for method in cfg.methods:
        for eps in cfg.epsilons:
            mean, spread = study.summary(found, method, eps)
            say(f"{name} {method} eps {eps:g}: {mean:.2f} +- {spread:.2f} %")
    say("done")


def _audit(args: argparse.Namespace, data: Data, name: str, about: dict) -> None:
    model = ConvexReLUConfig(data.x.shape[1], int(data.label.max()) + 1, args.gates)
    training = NoisyCGDConfig(
        args.batch_size, args.audit_epochs, noise_multiplier=args.audit_sigma, matmul=args.matmul
    )
    found = audit.one_run(
        jax.random.key(args.seed), data.x, data.label, model, training, num_canaries=args.audit
    )
    record = {**about, "sigma": args.audit_sigma, "epochs": args.audit_epochs}
    record |= dataclasses.asdict(found)
    files.write_text(args.out / f"{name}-audit.json", json.dumps(record, indent=1) + "\n")
    say(f"audit: {found}")


if __name__ == "__main__":
    main()

"""The study of spec 8(c) from a bare command line: `python -m jaxml.cap.h100 DATA OUT ...`.

Needs jax, numpy, optax, flax, orbax and safetensors. DATA holds the encoder's folder `encoder`
(config.json, model.safetensors, in float16 if need be) and one npz a task; `--pack` makes it.
Call it again with the same OUT to go on.
"""

import argparse
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxml.cap import claims, data, speed, study
from jaxml.cap import encoder as encoders
from jaxml.cap.config import ContrastConfig, PruneConfig, TuneConfig
from jaxml.cap.encoder import Encoder
from jaxml.cap.importance import Masks
from jaxml.cap.study import Arm, StudyConfig
from jaxml.core import config, files, tree
from jaxml.core.types import PyTree
from jaxml.models import bert_weights
from jaxml.report import environment
from jaxml.report.progress import BEGUN, say

PROBES = {"mrpc": 96, "qnli_dev": 96, "cola": 32}
"""Tasks of the probing and their lengths in tokens."""


def unstructured(keep: float, *names: str, method: str = "movement") -> tuple[Arm, ...]:
    """Arms of one method and share; the first two are probed."""
    prune = PruneConfig(method, keep, 4)  # pyright: ignore[reportArgumentType]
    return tuple(Arm(name, prune, probe=name in ("kd", "cap")) for name in names)


ABLATIONS = ("without pre", "without snap", "without fine")
GROUPS: dict[str, tuple[Arm, ...]] = {
    "main": (
        *unstructured(0.03, "kd", "cap"),
        *unstructured(0.1, "kd", "cap"),
        *unstructured(0.03, "kd", method="magnitude"),
    ),
    "ablation": unstructured(0.03, *ABLATIONS),
    "soft": unstructured(0.03, "kd", "cap", method="soft"),
    "structured": tuple(
        Arm(name, PruneConfig("structured", 0.5, 5, calibration=8192, start="fine"))
        for name in ("kd", "cap")
    ),
}
"""Arms by the name of their group on the command line."""
WEIGHTS = (
    *(ContrastConfig(weight_unsup=w, weight_sup=w) for w in (0.03, 0.1, 0.3)),
    ContrastConfig(weight_unsup=0.1, weight_sup=10.0, reduction="reference"),
)
"""Contrasts to choose from on validation; the last is the published one."""


def base(groups: tuple[str, ...] = tuple(GROUPS), seeds: int = 3) -> StudyConfig:
    """The study on all of SST-2."""
    return StudyConfig(
        task="sst2",
        tune=TuneConfig(64, 1500, 2500, 1e-4, 5e-5, dtype="bfloat16"),
        contrast=ContrastConfig(),
        arms=tuple(arm for name in groups for arm in GROUPS[name]),
        seeds=tuple(range(seeds)),
        structured_steps=500,
        probes=tuple(PROBES),
        max_len=64,
        num_valid=2000,
    )


def pack(folder: Path, model: Path | None = None) -> None:
    """Writes DATA: the tokenised tasks, the encoder in float16 with the embeddings they use."""
    cfg = base()
    found = encoders.load(model)
    assert found.folder is not None
    tokenize, used = data.wordpiece(found.folder), np.zeros(0, np.int64)
    for name, length in {cfg.task: cfg.max_len, **PROBES}.items():
        task = data.load(name, tokenize, max_len=length, num_valid=_num_valid(name, cfg))
        data.save(folder / f"{name}.npz", task)
        used = np.unique(np.concatenate([used, *(part.ids.reshape(-1) for part in task[1:4])]))
    params = tree.cast(found.params, jnp.float16)
    params = _with_words(params, lambda table: table[used])
    few = dataclasses.replace(found.cfg, vocab_size=len(used))
    bert_weights.save(folder / "encoder", few, params)
    with files.aside(folder / "tokens.npz") as part, part.open("wb") as out:
        np.savez(out, used=used, vocab_size=found.cfg.vocab_size)


def _num_valid(name: str, cfg: StudyConfig) -> int:
    return cfg.num_valid if name == cfg.task else 500


def unpack(folder: Path) -> Encoder:
    """The encoder of DATA in float32; embeddings of tokens that no task uses are zero."""
    few, params = bert_weights.load(folder / "encoder")
    with np.load(folder / "tokens.npz", allow_pickle=False) as stored:
        used, vocab_size = stored["used"], int(stored["vocab_size"])
    empty = jnp.zeros((vocab_size, few.width))
    params = tree.cast(params, jnp.float32)
    params = _with_words(params, lambda table: empty.at[used].set(table))
    cfg = dataclasses.replace(few, vocab_size=vocab_size)
    return Encoder(cfg, params, folder / "encoder")


def _with_words(params: PyTree, change: Callable[[Any], Any]) -> PyTree:
    """Parameters with another table of word embeddings."""
    embed = params["embed"]
    return {**params, "embed": {**embed, "word": jax.tree.map(change, embed["word"])}}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("data", type=Path)
    add("out", type=Path)
    add("--pack", action="store_true", help="write DATA instead of running")
    add("--groups", nargs="*", default=["main", "ablation"], choices=tuple(GROUPS))
    add("--seeds", type=int, default=3)
    add("--steps", type=int, help="of an unstructured run")
    add("--round-steps", type=int, help="of a structured round")
    add("--dense-steps", type=int)
    add("--choose", action="store_true", help="choose rate and contrast on validation first")
    add("--rates", type=float, nargs="*", default=[1e-4, 2e-4])
    add("--train", type=int, help="training examples (default: all)")
    add("--minutes", type=float, default=8.0, help="no run is begun later than this")
    add("--dtype", choices=("float32", "bfloat16"), default="bfloat16")
    return parser.parse_args()


def _configured(args: argparse.Namespace) -> StudyConfig:
    cfg = base(tuple(args.groups), args.seeds)
    tune = dataclasses.replace(
        cfg.tune,
        steps=args.steps or cfg.tune.steps,
        dense_steps=args.dense_steps or cfg.tune.dense_steps,
        dtype=args.dtype,
    )
    return dataclasses.replace(
        cfg, tune=tune, structured_steps=args.round_steps or cfg.structured_steps
    )


def main() -> None:
    """Parses the flags, runs the study, writes rows.jsonl and cap-study.json to OUT."""
    args = _arguments()
    if args.pack:
        pack(args.data)
        return
    cfg, until = _configured(args), BEGUN + 60 * args.minutes
    jax.config.update("jax_compilation_cache_dir", "/tmp/jax-cache")
    say(f"{jax.devices()}, jax {jax.__version__}")
    encoder, task = unpack(args.data), data.read(args.data / f"{cfg.task}.npz")
    if args.train is not None:
        task = task._replace(train=task.train.rows(slice(args.train)))
    probes = {name: data.read(args.data / f"{name}.npz") for name in cfg.probes}
    cfg = _chosen(cfg, args, encoder, task)
    rows = study.Rows(args.out / "rows.jsonl")
    study.run(
        cfg, encoder, task, probes, rows, say=say, until=until,
        keep=lambda name, found: _speed(args.out, encoder, name, found, args.dtype),
    )  # fmt: skip
    config.save(cfg, args.out / "study.json")
    _write(args.out, rows.rows, cfg)
    say(f"{len(rows.rows)} rows in {args.out}")


def _chosen(
    cfg: StudyConfig, args: argparse.Namespace, encoder: Encoder, task: data.Task
) -> StudyConfig:
    """The study with the rate and contrast that do best on validation, if that was asked for."""
    chosen = args.out / "chosen.json"
    if not chosen.exists() and not args.choose:
        return cfg
    if not chosen.exists():
        arm, tried = Arm("cap", PruneConfig("movement", 0.03, 4)), args.out / "choosing.jsonl"
        cfg, table = study.choose(cfg, encoder, task, WEIGHTS, args.rates, arm, 100, say, tried)
        record = {"contrast": dataclasses.asdict(cfg.contrast), "lr": cfg.tune.lr, "table": table}
        files.write_text(chosen, json.dumps(record, indent=1) + "\n")
    picked = json.loads(chosen.read_text())
    contrast = config.from_dict(ContrastConfig, picked["contrast"])
    tune = dataclasses.replace(cfg.tune, lr=picked["lr"])
    return dataclasses.replace(cfg, contrast=contrast, tune=tune)


def _write(out: Path, rows: list[study.Row], cfg: StudyConfig) -> None:
    """All rows, how the settings were chosen, and the claims, as one file."""
    seen, chosen = environment.describe(), out / "chosen.json"
    times = [json.loads(p.read_text()) for p in sorted(out.glob("speed-cap-structured*.json"))]
    speedup = times[0]["dense"]["ms"] / times[0]["compact"]["ms"] if times else None
    record = {
        **{name: seen[name] for name in ("device", "versions", "date", "commit", "command")},
        "config": dataclasses.asdict(cfg),
        "chosen": json.loads(chosen.read_text()) if chosen.exists() else None,
        "claims": [c.to_json() for c in claims.study(rows, speedup, "h100")],
        "rows": [dataclasses.asdict(row) for row in rows],
    }
    files.write_text(out / "cap-study.json", json.dumps(record, indent=0) + "\n")


def _speed(out: Path, encoder: Encoder, name: str, found: study.Pruned, dtype: str) -> None:
    """Times the first compacted model of each structured arm."""
    if not name.endswith("-0") or not isinstance(found.masks, Masks):
        return
    times = speed.inference(
        found.trained,
        encoder.cfg,
        found.masks,
        batch=256,
        length=64,
        dtype=dtype,
        repeats=15,
    )
    record = {
        kind: {"ms": 1e3 * t.median, "spread_ms": 1e3 * t.spread} for kind, t in times.items()
    }
    files.write_text(out / f"speed-{name}.json", json.dumps(record, indent=1) + "\n")
    say(f"{name}: compact {times['dense'].median / times['compact'].median:.2f} x dense speed")


if __name__ == "__main__":
    main()

"""The study with all parameters trained, from a bare command line: `python -m jaxml.emu.h100`.

    python -m jaxml.emu.h100 DATA --pack --encoder use --corpora xsid mtod   # CPU, once
    python -m jaxml.emu.h100 DATA OUT --minutes 8
    python -m jaxml.emu.h100 OUT emu.json --record                           # CPU, from rows

Needs jax, numpy, optax, flax, orbax, safetensors and scipy. DATA is a folder of `bundle`. Every
finished run is a line in OUT; call it again with the same OUT to go on.
"""

import argparse
import dataclasses
import json
import statistics
import time
from pathlib import Path
from typing import Any

import jax

from jaxml.core import config, files
from jaxml.emu import bundle, claims, study
from jaxml.emu.rows import Rows
from jaxml.report import environment
from jaxml.report.progress import BEGUN, say

KEPT = ("device", "platform", "versions", "commit", "date", "command")


def _arguments() -> argparse.Namespace:
    parser, base = argparse.ArgumentParser(description=__doc__), study.LARGE
    add = parser.add_argument
    add("data", type=Path)
    add("out", type=Path, nargs="?", default=Path("."))
    add("--pack", action="store_true", help="write DATA instead of running")
    add("--record", action="store_true", help="write OUT, a file, from the rows in DATA")
    add("--encoder", choices=("use", "e5"), default="use", help="with --pack")
    add("--corpora", nargs="+", choices=("xsid", "mtod", "toy"), default=["xsid"])
    add("--per-class", type=int, default=base.per_class, help="with --pack")
    add("--arms", nargs="*", default=base.arms, choices=study.ARMS)
    add("--rates", type=float, nargs="*", default=base.rates)
    add("--trainable", choices=("head", "top", "all"), default=base.emu.trainable)
    add("--steps", type=int, default=base.emu.steps)
    add("--seeds", type=int, default=len(base.seeds))
    add("--minutes", type=float, default=8.0, help="no run is begun later than this")
    return parser.parse_args()


def _configured(args: argparse.Namespace) -> study.StudyConfig:
    emu = dataclasses.replace(study.LARGE.emu, steps=args.steps, trainable=args.trainable)
    return dataclasses.replace(
        study.LARGE, emu=emu, arms=tuple(args.arms), rates=tuple(args.rates),
        seeds=tuple(range(args.seeds)),
    )  # fmt: skip


def _run(args: argparse.Namespace) -> None:
    """The studies of every corpus in DATA, one after the other."""
    jax.config.update("jax_compilation_cache_dir", "/tmp/jax-cache")
    say(f"{jax.devices()}, jax {jax.__version__}")
    cfg, encoder = _configured(args), bundle.encoder(args.data)
    for corpus in bundle.corpora(args.data):
        name = f"{corpus}-{encoder.name}"
        rows = Rows(args.out / f"{name}.jsonl")
        found = environment.describe()
        about = {"environment": {k: found[k] for k in KEPT}, "study": config.to_dict(cfg)}
        files.write_text(rows.path.with_suffix(".study.json"), json.dumps(about, indent=1) + "\n")
        inputs = bundle.inputs(args.data, encoder, corpus, args.trainable)
        say(f"{name}: {len(inputs.train.label)} labelled sentences, {len(rows.rows)} rows done")
        begun = time.monotonic()
        study.run(cfg, inputs, rows, say=say, until=BEGUN + 60 * args.minutes)
        say(f"{name}: {len(rows.rows)} rows in {time.monotonic() - begun:.0f} s")


def table(rows: Rows) -> dict[str, Any]:
    """Mean and standard deviation over seeds by arm, kind of accuracy and language."""
    return {
        arm: {
            "seeds": len(rows.of(arm)),
            **{
                kind: {lang: _spread([getattr(r, kind)[lang] for r in rows.of(arm)])
                       for lang in rows.rows[0].mono}
                for kind in ("mono", "cross", "back")
            },
        }
        for arm in dict.fromkeys(r.arm for r in rows.rows)
    }  # fmt: skip


def _spread(values: list[float]) -> list[float]:
    return [round(x, 2) for x in (statistics.mean(values), statistics.pstdev(values))]


def record(folder: Path) -> dict[str, Any]:
    """What is committed: claims, tables, choices and every run of the studies in a folder.

    Raises:
      FileNotFoundError: there is none.
    """
    found = {p.stem: Rows(p) for p in sorted(folder.rglob("*.jsonl"))}
    if not found:
        raise FileNotFoundError(f"{folder} holds no rows of a study (*.jsonl).")
    studies = {}
    for name, rows in found.items():
        about = json.loads(rows.path.with_suffix(".study.json").read_text())
        path = rows.path.with_suffix(".choices.json")
        studies[name] = {
            **about, "choices": json.loads(path.read_text()) if path.exists() else {},
            "table": table(rows), "runs": [dataclasses.asdict(r) for r in rows.rows],
        }  # fmt: skip
    judged = [c for c in claims.verdicts(found, "h100") if c.verdict != "not_measured"]
    return {"claims": [c.to_json() for c in judged], "studies": studies}


def main() -> None:
    """Packs, runs, or writes the record."""
    args = _arguments()
    if args.pack:
        bundle.pack(args.data, args.encoder, args.corpora, args.per_class)
    elif args.record:
        files.write_text(args.out, json.dumps(record(args.data), indent=1) + "\n")
    else:
        _run(args)


if __name__ == "__main__":
    main()

"""The study with all parameters trained, from a bare command line: `python -m jaxml.emu.h100`.

Needs jax, numpy, optax, flax, orbax, safetensors and scipy. DATA holds an encoder with only the
word rows that its corpus uses, in float16, and the corpus as token ids; `--pack` makes it. Call it
again with the same OUT to go on.
"""

import argparse
import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxml.core import config, files, tree, weights
from jaxml.emu import data, e5, study, use
from jaxml.emu import model as models
from jaxml.emu.data import Corpus, Sentences
from jaxml.emu.encoder import Encoder, compact
from jaxml.emu.inputs import Inputs, tokenised
from jaxml.inputs.source import Provenance
from jaxml.report import environment
from jaxml.report.progress import BEGUN, say


def pack(folder: Path, encoder: str, corpus: str, per_class: int) -> None:
    """Writes DATA."""
    found, task = models.encoder_named(encoder), data.load(corpus)
    used = study.labelled(task, per_class)
    ids = tokenised(found, task, used)
    small, renumbered = compact(found, *ids.values())
    leaves = tree.flatten(tree.cast(small.params, jnp.float16))
    weights.write(folder / "weights.safetensors", leaves)
    arrays = {f"ids/{n}": x for n, x in zip(ids, renumbered, strict=True)}
    parts = {"train": used}
    for split in ("valid", "test"):
        parts |= {f"{split}/{lang}": s for lang, s in getattr(task, split).items()}
    for name, part in parts.items():
        arrays |= {f"label/{name}": part.label, f"pid/{name}": part.pid}
    with files.aside(folder / "corpus.npz") as aside, aside.open("wb") as out:
        np.savez_compressed(out, **{k.replace("/", "|"): x for k, x in arrays.items()})  # pyright: ignore[reportArgumentType]
    about = {
        "encoder": encoder, "corpus": corpus, "labels": task.labels, "languages": task.languages,
        "parallel": task.parallel, "max_len": found.max_len, "sha256": task.provenance.sha256,
    }  # fmt: skip
    files.write_text(folder / "about.json", json.dumps(about, indent=1) + "\n")


def unpack(folder: Path, trainable: str = "all") -> Inputs:
    """Encoder and corpus of DATA, in float32."""
    about = json.loads((folder / "about.json").read_text())
    flat = weights.read(folder / "weights.safetensors")
    params = tree.unflatten({n: jnp.asarray(x, jnp.float32) for n, x in flat.items()})
    with np.load(folder / "corpus.npz", allow_pickle=False) as kept:
        arrays = {name.replace("|", "/"): kept[name] for name in kept}

    def sentences(name: str) -> Sentences:
        label = arrays[f"label/{name}"]
        return Sentences(("",) * len(label), label, arrays[f"pid/{name}"])

    parts = [
        {lang: sentences(f"{split}/{lang}") for lang in about["languages"]}
        for split in ("valid", "test")
    ]
    name = about["corpus"]
    provenance = Provenance(name, "packed", about["sha256"], 0, "see the data set")
    corpus = Corpus(
        name, tuple(about["labels"]), sentences("train"), parts[0], parts[1], provenance,
        about["parallel"],
    )  # fmt: skip
    ids = {n.removeprefix("ids/"): x for n, x in arrays.items() if n.startswith("ids/")}
    encoder = _encoder(about["encoder"], params, about["max_len"])
    return Inputs(encoder, corpus, corpus.train, trainable, ids)


def _encoder(name: str, params: dict, max_len: int) -> Encoder:
    if name == "use":
        return use.assemble(params, None, max_len=max_len)
    cfg = e5.bert_config(params["body"])
    return e5.of_bert(name, cfg, params["body"], None, max_len, e5.LANGUAGES)


def _arguments() -> argparse.Namespace:
    parser, base = argparse.ArgumentParser(description=__doc__), study.LARGE
    add = parser.add_argument
    add("data", type=Path)
    add("out", type=Path)
    add("--pack", action="store_true", help="write DATA instead of running")
    add("--encoder", choices=("use", "e5"), default="use", help="with --pack")
    add("--corpus", choices=("xsid", "mtod", "toy"), default="xsid", help="with --pack")
    add("--per-class", type=int, default=base.per_class, help="with --pack")
    add("--arms", nargs="*", default=base.arms, choices=study.ARMS)
    add("--rates", type=float, nargs="*", default=base.rates)
    add("--trainable", choices=("head", "top", "all"), default=base.emu.trainable)
    add("--steps", type=int, default=base.emu.steps)
    add("--seeds", type=int, default=len(base.seeds))
    add("--minutes", type=float, default=8.0, help="no run is begun later than this")
    return parser.parse_args()


def main() -> None:
    """Parses the flags, runs the study, writes its rows, choices and settings to OUT."""
    args = _arguments()
    if args.pack:
        pack(args.data, args.encoder, args.corpus, args.per_class)
        return
    say(f"{jax.devices()}, jax {jax.__version__}")
    inputs = unpack(args.data, args.trainable)
    emu = dataclasses.replace(study.LARGE.emu, steps=args.steps, trainable=args.trainable)
    cfg = dataclasses.replace(
        study.LARGE, emu=emu, arms=tuple(args.arms), rates=tuple(args.rates),
        seeds=tuple(range(args.seeds)),
    )  # fmt: skip
    path = args.out / f"{inputs.corpus.name}-{inputs.encoder.name}.jsonl"
    about = {"environment": environment.describe(), "study": config.to_dict(cfg)}
    files.write_text(path.with_suffix(".study.json"), json.dumps(about, indent=1) + "\n")
    rows = study.Rows(path)
    study.run(cfg, inputs, rows, say=say, until=BEGUN + 60 * args.minutes)
    say(f"{len(rows.rows)} rows in {args.out}")


if __name__ == "__main__":
    main()

"""Quality and ablations at 40M parameters, from a bare command line: `python -m jaxml.tnl.h100`.

    python -m jaxml.tnl.h100 --pack tokens.npz          # where the corpus is
    python -m jaxml.tnl.h100 tokens.npz OUT --minutes 8

Needs jax, numpy, optax and flax. Learning rates are chosen on validation documents; test documents
are scored once per finished run. Every run is a line of OUT/quality.jsonl; called again with the
same OUT, only runs that are missing are made.
"""

import argparse
import dataclasses
import json
import math
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxml.core import check, config, files, lines, rng
from jaxml.report import environment
from jaxml.report.progress import say
from jaxml.tnl import model, objective, softmax
from jaxml.tnl.config import PRESETS, TNLConfig, same_size
from jaxml.tnl.corpus import Corpus, CorpusConfig, load
from jaxml.tnl.language_model import LanguageModel
from jaxml.train import optim, state, step
from jaxml.train.optim import OptimConfig

ARMS: dict[str, Callable[[TNLConfig], TNLConfig]] = {
    "tnl": lambda cfg: cfg,
    "no decay": lambda cfg: dataclasses.replace(cfg, decay_rule="none"),
    "no LRPE": lambda cfg: dataclasses.replace(cfg, lrpe_layers=()),
    "LRPE in every layer": lambda cfg: dataclasses.replace(
        cfg, lrpe_layers=tuple(range(cfg.num_layers))
    ),
    "no gate": lambda cfg: dataclasses.replace(cfg, gate=False),
}
"""The model and what is taken from it; beside them the Transformer of its size."""


@dataclasses.dataclass(frozen=True)
class Study:
    """What is trained, and how.

    Attributes:
      preset: of the model.
      seq_len: tokens per row.
      rows: per update.
      steps: updates of a run.
      lrs: learning rates, the best on validation is kept, for TNL and Transformer each.
      seeds: runs of TNL and Transformer at that rate; ablations take TNL's rate and one seed.
      batches: of an evaluation, at most.
    """

    preset: str = "40m"
    seq_len: int = 1024
    rows: int = 64
    steps: int = 500
    lrs: tuple[float, ...] = (1e-3, 2e-3, 4e-3)
    seeds: int = 3
    batches: int = 1000

    def __post_init__(self):
        check.positive(seq_len=self.seq_len, rows=self.rows, steps=self.steps, seeds=self.seeds)


@dataclasses.dataclass(frozen=True)
class Tokens:
    """Token ids of each split, and how many ids there are."""

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray
    vocab_size: int

    def windows(self, split: str, cfg: Study) -> dict[str, np.ndarray]:
        """Stacked evaluation batches of a split."""
        corpus: Any = self
        return Corpus.windows(corpus, split, cfg.seq_len, cfg.rows, cfg.batches)

    def batches(self, cfg: Study, seed: int) -> Iterator[dict[str, np.ndarray]]:
        """Training batches: windows in a new order every epoch, the same for every model."""
        num = (len(self.train) - 1) // cfg.seq_len
        check.at_least(cfg.rows, windows=num)
        epoch = 0
        while True:
            order = np.random.default_rng((seed, epoch)).permutation(num)
            for i in range(0, num - cfg.rows + 1, cfg.rows):
                start = order[i : i + cfg.rows, None] * cfg.seq_len + np.arange(cfg.seq_len)
                here, after = self.train[start], self.train[start + 1]
                yield {"inputs": here.astype(np.int32), "targets": after.astype(np.int32)}
            epoch += 1


def pack(path: Path, name: str, vocab_size: int) -> None:
    """Writes a corpus as token ids of a BPE trained on its training split."""
    corpus = load(CorpusConfig(name=name, tokens="bpe", vocab_size=vocab_size))
    with files.aside(path) as aside, aside.open("wb") as out:
        np.savez_compressed(
            out,
            train=corpus.train,
            val=corpus.val,
            test=corpus.test,
            vocab_size=np.int64(corpus.tokenizer.vocab_size),
        )
    say(f"{name}: {len(corpus.train)} training tokens, {corpus.tokenizer.vocab_size} ids")


def unpack(path: Path) -> Tokens:
    """The token ids of `pack`."""
    with np.load(path, allow_pickle=False) as kept:
        return Tokens(kept["train"], kept["val"], kept["test"], int(kept["vocab_size"]))


def models(cfg: Study, vocab_size: int) -> dict[str, LanguageModel]:
    """Every arm by name, the Transformer first after TNL."""
    base = PRESETS[cfg.preset]
    base = dataclasses.replace(base, vocab_size=-(-vocab_size // 128) * 128)
    made = {name: model.language_model(change(base)) for name, change in ARMS.items()}
    rest = {name: lm for name, lm in made.items() if name != "tnl"}
    return {"tnl": made["tnl"], "transformer": softmax.language_model(same_size(base)), **rest}


class Trainer:
    """One model's compiled step, shared by its rates and seeds."""

    def __init__(self, lm: LanguageModel, cfg: Study):
        self.lm, self.cfg = lm, cfg
        self.optim = OptimConfig(
            warmup_steps=min(50, cfg.steps // 10), total_steps=cfg.steps, weight_decay=0.1
        )
        self.decayed = optim.matrices(lm.declared)
        self.step = step.make_step(objective.loss_fn(lm), optim.make(self.optim, self.decayed))
        self.init = jax.jit(lm.init)

    def run(self, tokens: Tokens, lr: float, seed: int) -> tuple[Any, list[float]]:
        """Parameters after a training, and its loss every 10 updates."""
        key = jax.random.key(seed)
        made = optim.make(dataclasses.replace(self.optim, lr=lr), self.decayed)
        now = state.create(key, self.init(rng.fold(key, "init")), made)
        kept = []
        batches = tokens.batches(self.cfg, seed)
        for i in range(self.cfg.steps):
            now, metrics = self.step(now, next(batches))
            if i % 10 == 9:
                kept.append(metrics["loss"])
        return now.params, [float(x) for x in kept]


@dataclasses.dataclass
class Log:
    """Finished runs of one study, one line each; what is there is not run again."""

    path: Path
    study: str
    rows: list[dict[str, Any]]

    @classmethod
    def of(cls, path: Path, cfg: Study) -> "Log":
        """Reads what is there of runs of the same length and shape."""
        study = config.fingerprint(dataclasses.replace(cfg, lrs=(), seeds=1))
        found = lines.read(path)
        return cls(path, study, [row for row in found if row.get("study", study) == study])

    def find(self, arm: str, lr: float, seed: int) -> dict[str, Any] | None:
        """The run, if it is finished."""
        wanted = (arm, lr, seed)
        return next((r for r in self.rows if (r["arm"], r["lr"], r["seed"]) == wanted), None)

    def add(self, row: dict[str, Any]) -> None:
        """Appends a run."""
        row = {**row, "study": self.study}
        self.rows.append(row)
        lines.append(self.path, row)


def study(
    cfg: Study, tokens: Tokens, log: Log, until: float, say: Callable[[str], None] = say
) -> None:
    """All runs that are missing; no model is begun after `until` on the monotonic clock."""
    every = models(cfg, tokens.vocab_size)
    windows: dict[str, Any] = {split: tokens.windows(split, cfg) for split in ("val", "test")}

    def measured(trainer: Trainer, arm: str, lr: float, seed: int) -> dict[str, Any]:
        if found := log.find(arm, lr, seed):
            return found
        begun = time.monotonic()
        params, curve = trainer.run(tokens, lr, seed)
        losses = {s: objective.evaluate(trainer.lm, params, w) for s, w in windows.items()}
        row = {
            "arm": arm, "lr": lr, "seed": seed, **losses, "seconds": time.monotonic() - begun,
            "num_params": trainer.lm.num_params(), "curve": curve,
        }  # fmt: skip
        log.add(row)
        say(f"{arm} lr {lr:g} seed {seed}: val {losses['val']:.4f} test {losses['test']:.4f}")
        return row

    chosen: dict[str, float] = {}
    for arm, lm in every.items():
        if time.monotonic() > until:
            say(f"no time for {arm}")
            return
        trainer = Trainer(lm, cfg)
        if arm in ("tnl", "transformer"):
            tried = {lr: measured(trainer, arm, lr, 0)["val"] for lr in cfg.lrs}
            chosen[arm] = min(tried, key=lambda lr: tried[lr])
        for seed in range(cfg.seeds if arm in chosen else 1):
            measured(trainer, arm, chosen.get(arm, chosen["tnl"]), seed)


def summary(log: Log) -> dict[str, Any]:
    """Test losses of every arm at the rate that validation chose, and the paired difference."""
    best = {}
    for arm in dict.fromkeys(row["arm"] for row in log.rows):
        first = [r for r in log.rows if r["arm"] == arm and r["seed"] == 0]
        lr = min(first, key=lambda r: r["val"])["lr"]
        mine = {r["seed"]: r["test"] for r in log.rows if r["arm"] == arm and r["lr"] == lr}
        best[arm] = {"lr": lr, "test": mine, "mean": statistics.mean(mine.values())}
    found: dict[str, Any] = {"arms": best}
    if {"tnl", "transformer"} <= set(best):
        both = best["tnl"]["test"], best["transformer"]["test"]
        gaps = [both[0][seed] - both[1][seed] for seed in both[0] if seed in both[1]]
        found["tnl minus transformer"] = gaps
    return found


def main(words: list[str] | None = None) -> None:
    """From the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("tokens", type=Path)
    parser.add_argument("out", type=Path, nargs="?", default=Path("."))
    parser.add_argument("--pack", metavar="CORPUS", help="write TOKENS from a corpus instead")
    parser.add_argument("--vocab-size", type=int, default=16_384)
    parser.add_argument("--minutes", type=float, default=8.0)
    for field in dataclasses.fields(Study):
        kind = float if field.name == "lrs" else type(field.default)
        nargs = "+" if field.name == "lrs" else None
        name = "--" + field.name.replace("_", "-")
        parser.add_argument(name, type=kind, default=field.default, nargs=nargs)
    args = parser.parse_args(words)
    if args.pack:
        pack(args.tokens, args.pack, args.vocab_size)
        return
    given = {f.name: getattr(args, f.name) for f in dataclasses.fields(Study)}
    cfg = Study(**{**given, "lrs": tuple(given["lrs"])})
    run(cfg, args.tokens, args.out, 60 * args.minutes)
    say("done")


def run(
    cfg: Study,
    tokens: Path,
    out: Path,
    seconds: float = math.inf,
    say: Callable[[str], None] = say,
) -> None:
    """Makes the runs that OUT/quality.jsonl lacks, and writes OUT/quality.json."""
    until = time.monotonic() + seconds
    out.mkdir(parents=True, exist_ok=True)
    about = environment.describe()
    log = Log.of(out / "quality.jsonl", cfg)
    study(cfg, unpack(tokens), log, until, say)
    kept = {name: about[name] for name in ("device", "versions", "date", "commit", "command")}
    record = {**kept, "config": dataclasses.asdict(cfg), **summary(log)}
    files.write_text(out / "quality.json", json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()

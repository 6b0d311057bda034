"""Quality: TNL and a Transformer of its size, trained alike on the same tokens."""

import dataclasses
import json
import statistics
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxml.core import check
from jaxml.report import claim
from jaxml.report.claim import Claim, Promise
from jaxml.report.recipe import Context
from jaxml.tnl import objective
from jaxml.tnl import train as training
from jaxml.tnl.corpus import Corpus
from jaxml.tnl.generate import generate

NAMES = {"tnl": "TNL", "transformer": "Transformer"}

LOSS = Promise(
    "tnl",
    "loss-vs-transformer",
    "TNL reaches a lower loss than a Transformer of its size",
    "2.248 against 2.362 nats (385M parameters, 100K updates)",
    "read",
    "nats, TNL minus Transformer",
    claim.at_most(0.0, "test loss, each the best of the same learning rates on validation"),
)


ABSOLUTE = Promise(
    "tnl",
    "loss",
    "A TNL of three layers of width 64 learns to spell",
    "no such run in the paper",
    "none",
    "nats per character",
    claim.at_most(2.12, "our own mark: validation, tiny Shakespeare, 600 updates"),
)


@dataclasses.dataclass(frozen=True)
class QualityConfig:
    """How the two architectures are compared.

    Attributes:
      train: the run that both share.
      lrs: learning rates; each architecture keeps its best on validation.
      num_seeds: runs at the best rate, with different initialisation and data order.
      sample_tokens: length of the text shown.
    """

    train: training.TrainConfig
    lrs: tuple[float, ...]
    num_seeds: int
    sample_tokens: int

    def __post_init__(self):
        check.positive(num_seeds=self.num_seeds, sample_tokens=self.sample_tokens)


def _trained(cfg: QualityConfig, context: Context, name: str, lr: float, seed: int) -> Any:
    folder = context.folder / f"{name}-lr{lr:g}-seed{seed}"
    chosen = dataclasses.replace(
        cfg.train,
        architecture=name,
        seed=seed,
        optim=dataclasses.replace(cfg.train.optim, lr=lr),
    )
    return training.train(chosen, folder), folder


def _losses(cfg: QualityConfig, lm: Any, params: Any, corpus: Corpus, split: str) -> float:
    rows, most = cfg.train.batch_size, cfg.train.eval_batches
    windows = corpus.windows(split, cfg.train.seq_len, rows, most)
    return objective.evaluate(lm, params, windows)


@dataclasses.dataclass(frozen=True)
class Quality:
    """One architecture's runs: validation loss by rate, test losses at the best, curve, text."""

    by_rate: dict[float, float]
    best: float
    test: tuple[float, ...]
    num_params: int
    curve: tuple[list[float], list[float]]
    text: str


def measure(cfg: QualityConfig, context: Context, name: str) -> tuple[Quality, Corpus]:
    """Trains one architecture at every rate, the best one on further seeds too."""
    runs: dict[float, Any] = {}
    for lr in cfg.lrs:
        (lm, params, corpus), folder = _trained(cfg, context, name, lr, context.seed)
        val = _losses(cfg, lm, params, corpus, "val")
        runs[lr] = (val, lm, params, folder)
        context.say(f"{NAMES[name]} lr {lr:g}: validation {val:.3f} nats")
    best = min(runs, key=lambda lr: runs[lr][0])
    _, lm, params, folder = runs[best]
    test = [_losses(cfg, lm, params, corpus, "test")]
    for seed in range(context.seed + 1, context.seed + cfg.num_seeds):
        (_, other, _), _ = _trained(cfg, context, name, best, seed)
        test.append(_losses(cfg, lm, other, corpus, "test"))
    context.say(f"{NAMES[name]}: test {test} nats at lr {best:g}")
    prompt = corpus.tokenizer.encode("\n")
    key = jax.random.key(context.seed)
    ids = jnp.asarray(np.asarray(prompt, np.int32)[None])
    drawn = generate(
        lm, params, ids, key, num_tokens=cfg.sample_tokens, temperature=0.8, top_p=0.95
    )
    text = corpus.tokenizer.decode(np.asarray(drawn[0]))
    lines = [json.loads(row) for row in (folder / "metrics.jsonl").read_text().splitlines()]
    curve = ([row["step"] for row in lines], [row["loss"] for row in lines])
    rates = {lr: found[0] for lr, found in runs.items()}
    return Quality(rates, best, tuple(test), lm.num_params(), curve, text), corpus


def absolute(tnl: Quality, corpus: Corpus, scale: str) -> Claim:
    """The validation loss itself, where the text is the one that the mark is for."""
    name = corpus.provenance.name
    if name != "tiny_shakespeare":
        return ABSOLUTE.missing(
            f"this run read {name}; set JAXML_DATA to a folder with tiny_shakespeare", scale
        )
    return ABSOLUTE.measured(tnl.by_rate[tnl.best], scale, None, f"learning rate {tnl.best:g}")


def compare(tnl: Quality, softmax: Quality, scale: str) -> Claim:
    """The claim on the loss: means of paired seeds on the test split."""
    gaps = [a - b for a, b in zip(tnl.test, softmax.test, strict=True)]
    spread = statistics.stdev(gaps) if len(gaps) > 1 else None
    losses = f"TNL {statistics.mean(tnl.test):.3f}, Transformer {statistics.mean(softmax.test):.3f}"
    why = (
        f"{losses} nats per token on the test split, mean of {len(gaps)} seeds, at "
        f"{tnl.num_params / 1e3:.0f}K parameters and the same tokens in the same order; "
        "the paper's models and data are far larger"
    )
    return LOSS.measured(statistics.mean(gaps), scale, spread, why)

"""Training tokens per second of TNL beside jax-linear-attention's trainer with lightning layers.

    python benchmarks/tnl-training.py OUT.json [--preset 385m] [--remat full] ...

The peer (jax-linear-attention, Apache-2.0, with equinox) is imported where it can be; otherwise its
columns stay empty. It needs no environment of its own: both run in one process, in alternation, on
the same random tokens, with AdamW in float32, products in bfloat16 and logits never held whole. Its
layers have the shape of ours but no rotary code and one norm more (with weights).

    python benchmarks/tnl-training.py OUT.json --curves tokens.npz --preset 40m --steps 300

trains both on the same batches of a text (see `jaxml.tnl.h100 --pack`) with the same optimiser, by
several seeds, and compares the mean of the last 50 losses.
"""

import argparse
import dataclasses
import importlib.util
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import optax

from jaxml.report import timing
from jaxml.report.timing import Row
from jaxml.tnl import h100, model, throughput
from jaxml.tnl.config import PRESETS, TNLConfig

GOAL = 1.2


class Peer:
    """A jax-linear-attention model in training, with the calls of `throughput.Trainee`."""

    name = "jax-linear-attention"

    def __init__(self, cfg: TNLConfig, remat: str, optimizer: Any = None, seed: int = 0):
        import equinox as eqx  # pyright: ignore[reportMissingImports]
        from jla.models import config  # pyright: ignore[reportMissingImports]
        from jla.models.lm import build_model  # pyright: ignore[reportMissingImports]
        from jla.training import optimizers, step  # pyright: ignore[reportMissingImports]

        heads, width = cfg.num_heads, cfg.head_dim
        shape = config.ModelConfig(
            vocab_size=cfg.vocab_size,
            d_model=cfg.width,
            n_layers=cfg.num_layers,
            d_ff=cfg.glu_width,
            attention=config.AttentionConfig(heads, heads, width),
            linear_attention=config.LinearAttentionConfig(
                heads, heads, width, width, conv_size=0, qk_l2norm=False
            ),
            layer_types=("lightning",) * cfg.num_layers,
            compute_dtype=cfg.dtype,
            remat=remat,
        )
        self.model = build_model(shape, key=jax.random.key(seed))
        if optimizer is None:
            optimizer = optimizers.create_optimizer(lr=1e-4, weight_decay=0.1, max_grad_norm=1.0)
        self.opt_state = optimizer.init(eqx.filter(self.model, eqx.is_inexact_array))
        loss = step.lm_loss(step.LossConfig(compute_dtype=cfg.dtype))
        self.train = step.build_train_step(optimizer, loss)
        self.key = jax.random.key(1)
        self.bytes, self.loss = 0, math.nan

    def compile(self, batch: Any) -> None:
        """Its step compiles at its first call for a shape."""

    def seconds(self, batch: Any) -> float:
        """Of one update."""
        theirs = {"input_ids": batch["inputs"][None], "labels": batch["targets"][None]}
        begun = time.perf_counter()
        self.model, self.opt_state, metrics, self.key = self.train(
            self.model, self.opt_state, theirs, self.key
        )
        self.loss = float(metrics["loss"])
        if math.isnan(self.loss):
            raise RuntimeError("the peer's loss is not a number.")
        return time.perf_counter() - begun


def peer(cfg: TNLConfig, remat: str, *how: Any) -> Peer | None:
    """The peer, if it can be imported."""
    found = all(importlib.util.find_spec(name) for name in ("jla", "equinox"))
    return Peer(cfg, remat, *how) if found else None


def measure(
    cfg: TNLConfig, preset: str, lengths: list[int], tokens: int, repeats: int, peer_remat: str
) -> list[Row]:
    """Tokens per second of both at every length, and their ratio."""
    ours = throughput.trainee("TNL", model.language_model(cfg))
    other, rows = peer(cfg, peer_remat), []
    programs = throughput.compiled_steps([ours], lengths, tokens)
    for length in lengths:
        batch = throughput.random_batch(ours.lm, tokens // length, length)
        both: list[Any] = [ours] if other is None else [ours, other]
        ours.use(programs.pop((ours.name, length)))
        for one in both:
            one.seconds(batch)
        seconds: dict[str, list[float]] = {one.name: [] for one in both}
        for _ in range(repeats):
            for one in both:
                seconds[one.name].append(one.seconds(batch))
        rates = {name: tokens / statistics.median(s) for name, s in seconds.items()}
        case = f"{preset} N{length} B{tokens // length}"
        row = Row(case, "tokens_s", "/s", rates["TNL"])
        if other is not None:
            theirs = rates[other.name]
            ratio = rates["TNL"] / theirs
            row = dataclasses.replace(
                row, peer=other.name, peer_value=theirs, ratio=ratio, goal=GOAL
            )
        rows.append(row)
        print(timing.table([row]), flush=True)
    return rows


def curves(
    study: h100.Study, tokens: h100.Tokens, say: Callable[[str], None] = print, seeds: int = 3
) -> list[Row]:
    """Mean of the last 50 losses of both, a row a seed: equal batches, optimiser and shape."""
    ids = -(-tokens.vocab_size // 128) * 128
    full = dataclasses.replace(PRESETS[study.preset], vocab_size=ids, lrpe_layers=(), remat="full")
    warm = optax.warmup_constant_schedule(0.0, 1e-3, min(50, study.steps // 4))
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(warm, 0.9, 0.95))
    lm, made = model.language_model(full), []
    for seed in range(seeds):
        ours = throughput.trainee("TNL", lm, optimizer, seed)
        other = peer(full, "full", optimizer, seed)
        both: list[Any] = [ours] if other is None else [ours, other]
        losses: dict[str, list[float]] = {one.name: [] for one in both}
        for index, batch in zip(range(study.steps), tokens.batches(study, seed), strict=False):
            on_device = jax.tree.map(jax.numpy.asarray, batch)
            for one in both:
                if index == 0:
                    one.compile(on_device)
                one.seconds(on_device)
                losses[one.name].append(one.loss)
        means = {name: statistics.mean(found[-50:]) for name, found in losses.items()}
        row = Row(
            f"{study.preset} seed {seed}, {study.steps} updates", "last_loss", "nats", means["TNL"]
        )
        if other is not None:
            row = dataclasses.replace(row, peer=other.name, peer_value=means[other.name])
        made.append(row)
        say(timing.table([row]))
    return made


def rows(smoke: bool) -> list[Row]:
    """The smallest size on any device; the real ones are run by name, on a GPU."""
    cfg = dataclasses.replace(PRESETS["tiny"], lrpe_layers=())
    return measure(cfg, "tiny", [64] if smoke else [64, 256], 512, 1 if smoke else 5, "none")


def main() -> None:
    """Parses the flags, measures, writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("out", type=Path)
    add("--preset", default="385m", choices=sorted(PRESETS))
    add("--tokens", type=int, default=131_072)
    add("--lengths", type=int, nargs="+", default=[2048, 16_384, 131_072])
    add("--repeats", type=int, default=5)
    add("--remat", choices=("none", "full", "dots"), default="full")
    add("--peer-remat", choices=("none", "full", "dots"), default="full")
    add("--curves", type=Path, metavar="TOKENS", help="compare losses on these instead")
    add("--steps", type=int, default=300, help="with --curves")
    add("--rows", type=int, default=64, help="with --curves, of 1,024 tokens")
    add("--seeds", type=int, default=3, help="with --curves")
    args = parser.parse_args()
    if args.curves is not None:
        study = h100.Study(args.preset, rows=args.rows, steps=args.steps)
        found = curves(study, h100.unpack(args.curves), seeds=args.seeds)
        timing.write(args.out, found)
        return
    cfg = dataclasses.replace(PRESETS[args.preset], remat=args.remat)
    size = args.lengths, args.tokens, args.repeats
    timing.write(args.out, measure(cfg, args.preset, *size, args.peer_remat))


if __name__ == "__main__":
    main()

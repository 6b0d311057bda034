"""Timings: a compacted model beside the dense one, and a step with contrast beside one without."""

import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxml.cap import compaction, phases, steps
from jaxml.cap import encoder as encoders
from jaxml.cap.bank import Bank
from jaxml.cap.config import CAPConfig
from jaxml.cap.count import kernels
from jaxml.cap.data import Task
from jaxml.cap.encoder import Encoder
from jaxml.cap.importance import Masks
from jaxml.core import tree, weights
from jaxml.core.types import PyTree
from jaxml.models import bert
from jaxml.models.bert import BertConfig
from jaxml.report import timing
from jaxml.report.recipe import Table


def inference(
    params: PyTree,
    cfg: BertConfig,
    masks: Masks,
    *,
    batch: int = 32,
    length: int = 64,
    repeats: int = 7,
    dtype: str = "float32",
) -> dict[str, timing.Timing]:
    """Times of "dense", "masked" and "compact" encoders on the same tokens, in alternation."""
    ids = np.random.default_rng(0).integers(1, cfg.vocab_size, (batch, length)).astype(np.int32)
    made, sizes = compaction.compact(params, cfg, masks)
    dense = jax.jit(functools.partial(bert.apply, cfg=cfg, dtype=dtype))
    small = jax.jit(functools.partial(compaction.apply, cfg=sizes, dtype=dtype))
    return timing.alternate(
        {
            "dense": lambda: dense(params, ids_bt=ids),
            "masked": lambda: dense(params, ids_bt=ids, head_mask=masks.heads, ffn_mask=masks.ffn),
            "compact": lambda: small(made, ids_bt=ids),
        },
        repeats=repeats,
        warmups=2,
    )


def even_masks(cfg: BertConfig, share: float) -> Masks:
    """A share of the heads and neurons of every layer removed, for timing."""
    heads = jnp.arange(cfg.num_heads) >= int(share * cfg.num_heads)
    ffn = jnp.arange(cfg.hidden) >= int(share * cfg.hidden)
    layers = cfg.num_layers
    return Masks(*(jnp.tile(m.astype(jnp.float32)[None], (layers, 1)) for m in (heads, ffn)))


def training_steps(
    encoder: Encoder, task: Task, runs: dict[str, CAPConfig], *, repeats: int = 15
) -> dict[str, timing.Timing]:
    """Times of one training step of every run (structured or gradual), in alternation."""
    return timing.alternate(
        {name: _stepper(encoder, task, cfg) for name, cfg in runs.items()},
        repeats=repeats,
        warmups=3,
    )


def _stepper(encoder: Encoder, task: Task, cfg: CAPConfig) -> Any:
    run = phases.Run(cfg, encoder.cfg, task, None, print)
    num, width, key = len(task.train.label), encoder.cfg.width, jax.random.key(0)
    reps = jax.random.normal(key, (num, 1, width), jnp.float16)
    label = jnp.asarray(task.train.label)
    bank = Bank(reps, label)
    logits = np.zeros((num, task.num_classes), np.float32)
    taught = phases.Teacher({}, logits, {"pre": bank, "fine": bank}, 0.0, 0.0, [])
    room = max(cfg.prune.rounds - 1, 1)
    snap = Bank(jnp.tile(reps, (1, room, 1)), label, jnp.int32(room))
    plan = steps.plan_of(cfg, encoder.cfg)
    params = encoders.classifier(key, encoder, task.num_classes)
    fixed = {**run.fixed(taught, snap), "train": run.examples}
    if plan.method == "structured":
        fixed["masks"] = even_masks(encoder.cfg, 0.5)
    else:
        fixed["end"] = jnp.float32(cfg.prune.keep)
        params["scores"] = jax.tree.map(jnp.zeros_like, kernels(encoder.params))
    if plan.method == "magnitude":
        del params["scores"]
    rows, step = run.rows(room), steps.compiled(plan)
    now = [phases.begin(plan, params, key)]

    def once() -> Any:
        now[0], metrics = step(now[0], {**next(rows), **fixed})
        return metrics["loss"]

    return once


def table(times: dict[str, timing.Timing], encoder: Encoder, masks: Masks) -> Table:
    """The timings beside the counts of parameters."""
    made, _ = compaction.compact(encoder.params, encoder.cfg, masks)
    sizes = {"dense": encoder.params, "masked": encoder.params, "compact": made}
    rows = tuple(
        (
            name,
            f"{tree.num_elements(sizes[name]):,}",
            f"{1e3 * t.median:.1f} ± {1e3 * t.spread:.1f}",
            f"{times['dense'].median / t.median:.2f}",
        )
        for name, t in times.items()
    )
    caption = "One batch of 32 x 64 tokens. Masks alone save nothing; removing does."
    return Table("Inference", ("model", "parameters", "ms", "x dense"), rows, caption)


def save_masks(path: Path, masks: Masks) -> None:
    """Writes masks of heads and neurons."""
    weights.write(path, masks._asdict())


def load_masks(path: Path) -> Masks:
    """Reads them."""
    return Masks(**weights.read(path))

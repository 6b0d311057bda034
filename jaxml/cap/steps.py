"""The training step of a run: which parameters, which loss, which optimiser."""

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxml.cap import encoder as encoders
from jaxml.cap import masks as weight_masks
from jaxml.cap.bank import draw_extra
from jaxml.cap.config import MODULES, CAPConfig, ContrastConfig, TuneConfig
from jaxml.cap.count import kernels, with_kernels
from jaxml.cap.objective import cap_loss
from jaxml.core.types import Array, Key, PyTree
from jaxml.inputs.order import Order, generator
from jaxml.models.bert import BertConfig
from jaxml.train import optim, step
from jaxml.train.optim import OptimConfig
from jaxml.train.step import Loss


@dataclasses.dataclass(frozen=True)
class Plan:
    """All that a compiled step depends on; runs that differ in other things share it.

    Attributes:
      model: the encoder, with the dropout of the run.
      tune: batch size, rates, weights of the loss.
      contrast: None: none. Which modules count, and how much, comes with the batch.
      align: what represents a sentence.
      method: "dense", "structured", or of single weights.
      total: steps of the schedule.
      span: steps of the threshold before and after it moves.
      scope: of the ranking of single weights.
      fixed: the final level is a sigmoid's threshold, not a share.
      penalty: of the scores' sigmoids.
    """

    model: BertConfig
    tune: TuneConfig
    contrast: ContrastConfig | None
    align: Literal["mean", "cls"]
    method: str
    total: int
    span: tuple[int, int] = (0, 0)
    scope: Literal["matrix", "global"] = "matrix"
    fixed: bool = False
    penalty: float = 0.0


def plan_of(cfg: CAPConfig, model: BertConfig, dense: bool = False) -> Plan:
    """The plan of a run's pruning, or of the dense fine-tuning before it."""
    model = encoders.without_dropout(model, cfg.tune.dropout)
    if dense:
        lr = dataclasses.replace(cfg.tune, lr=cfg.tune.dense_lr)
        return Plan(model, lr, None, cfg.align, "dense", cfg.tune.dense_steps)
    prune, total = cfg.prune, cfg.tune.steps
    contrast = cfg.contrast and dataclasses.replace(
        cfg.contrast, modules=MODULES, weight_unsup=1.0, weight_sup=1.0
    )
    plan = Plan(model, cfg.tune, contrast, cfg.align, prune.method, total)
    if prune.method == "structured":
        return plan
    span = (int(prune.warmup * total), int(prune.cooldown * total))
    soft = prune.method == "soft"
    return dataclasses.replace(
        plan,
        span=span,
        scope=prune.scope,
        fixed=soft and prune.threshold is not None,
        penalty=prune.penalty if soft else 0.0,
    )


def level(plan: Plan, number: Any, end: Any) -> Array:
    """Where the schedule stands after `number` steps: the share kept, or the threshold."""
    return weight_masks.cubic_threshold(
        number, plan.total, 0.0 if plan.fixed else 1.0, end, *plan.span
    )


def loss_fn(plan: Plan) -> Any:
    """`(params, batch, key, extra) -> Loss`, for `make_step`.

    The batch holds `index` [b], `number` [] (steps done), `extra` by module, and what does not
    change from step to step: `train` (all examples), and for pruning `teacher` logits, `banks`,
    `weights` by module, `masks` (structured) or `end` (the schedule's final level).
    """

    def value(params: PyTree, batch: Any, key: Key | None, extra: PyTree) -> Loss:
        del extra
        found = terms(plan, params, batch, key)
        return Loss(found[0], metrics=found[1])

    return value


def terms(
    plan: Plan, params: PyTree, batch: Any, key: Key | None, masks: Any = None
) -> tuple[Array, dict[str, Array]]:
    """The loss and its parts; `masks` (of heads and neurons) replace those of the batch."""
    index = batch["index"]
    ids, types, label = (jnp.take(x, index, axis=0) for x in batch["train"])
    tree, more = _masked(plan, params, batch)
    reps = encoders.represent(
        tree, plan.model, ids, types,
        align=plan.align, key=key, rate=plan.tune.dropout, dtype=plan.tune.dtype,
        masks=batch.get("masks") if masks is None else masks,
    )  # fmt: skip
    rows = {"label": label, "index": index}
    if "teacher" in batch:
        rows["teacher"] = jnp.take(batch["teacher"], index, axis=0)
    if plan.contrast is not None:
        rows |= {name: batch[name] for name in ("banks", "extra", "weights")}
    found = cap_loss(reps, encoders.classify(params, reps), rows, plan.tune, plan.contrast)
    return found.value + plan.penalty * more.get("penalty", 0.0), found.parts | more


def _masked(plan: Plan, params: PyTree, batch: Any) -> tuple[PyTree, dict[str, Array]]:
    """Encoder parameters as the step sees them, and metrics of the masks."""
    tree = params["encoder"]
    if plan.method in ("dense", "structured"):
        return tree, {}
    weights, scores = kernels(tree), params.get("scores", {})
    now = level(plan, batch["number"], batch["end"])
    kept = weight_masks.score_masks(
        plan.method, jax.lax.stop_gradient(weights), jax.lax.stop_gradient(scores), now,
        scope=plan.scope, fixed_threshold=plan.fixed,
    )  # fmt: skip
    more = {"level": now, "kept": _share(kept)}
    if plan.method == "magnitude":
        cut = jax.tree.map(lambda w, m: w * m.astype(w.dtype), weights, kept)
    else:
        cut = jax.tree.map(weight_masks.straight_through, weights, scores, kept)
        if plan.penalty:
            more["penalty"] = weight_masks.score_penalty(scores)
    return with_kernels(tree, cut), more


def _share(masks: dict[str, Array]) -> Array:
    total = sum(m.size for m in masks.values())
    return sum(jnp.sum(m, dtype=jnp.float32) for m in masks.values()) / jnp.float32(total)


def optimizer(plan: Plan) -> optax.GradientTransformation:
    """One clipping of all gradients; AdamW for weights, Adam for scores, one linear schedule."""
    tune = plan.tune
    weights = OptimConfig(
        lr=tune.lr, schedule="linear", warmup_steps=plan.total // 10, total_steps=plan.total,
        final_lr_ratio=0.0, b2=0.999, weight_decay=tune.weight_decay, clip_norm=None,
    )  # fmt: skip
    scores = dataclasses.replace(weights, lr=tune.score_lr, weight_decay=0.0)

    def labels(params: PyTree) -> PyTree:
        return {
            name: jax.tree.map(functools.partial(_kind, name), part)
            for name, part in params.items()
        }

    kinds: Any = {"weights": optim.make(weights), "scores": optim.make(scores)}
    return optax.chain(optax.clip_by_global_norm(1.0), optax.partition(kinds, labels))


def _kind(name: str, leaf: Array) -> str:
    del leaf
    return "scores" if name == "scores" else "weights"


def compiled(plan: Plan) -> step.Step:
    """The jitted step of a plan; plans that differ in learning rates only share it.

    Rates are arrays of the optimiser's state (see `optim.RateState`).
    """
    rates = {"lr": 1.0, "dense_lr": 1.0, "score_lr": 1.0, "dense_steps": 1, "steps": 1}
    return _compiled(dataclasses.replace(plan, tune=dataclasses.replace(plan.tune, **rates)))


@functools.lru_cache(maxsize=32)
def _compiled(plan: Plan) -> step.Step:
    return step.make_step(loss_fn(plan), optimizer(plan))


class Rows(Iterator[dict[str, Any]]):
    """What changes from step to step: examples, further candidates by module, the number.

    With `group` > 1 the examples of so many steps are sorted by length among themselves, so that
    a batch is of one kind of length; which batch comes when is drawn.

    Args:
      lengths: tokens of each example, int [n].
      batch_size: examples of a step.
      seed: of everything drawn.
      extra: number of further candidates by module.
      group: steps whose examples are sorted together.
    """

    def __init__(
        self,
        lengths: np.ndarray,
        batch_size: int,
        seed: int,
        extra: dict[str, int],
        group: int = 1,
    ):
        self.order, self.size, self.seed = Order(len(lengths), seed), batch_size, seed
        self.lengths, self.extra, self.group, self.number = lengths, extra, group, 0

    def __next__(self) -> dict[str, Any]:
        window, place = divmod(self.number, self.group)
        many = self.group * self.size
        _, rows = self.order.at(np.arange(window * many, (window + 1) * many))
        if self.group > 1:
            rows = rows[np.argsort(self.lengths[rows], kind="stable")]
            place = generator(self.seed, "group", window).permutation(self.group)[place]
        index = rows[place * self.size : (place + 1) * self.size]
        drawn = {
            name: draw_extra(generator(self.seed, name, self.number), self.order.size, num)
            for name, num in self.extra.items()
        }
        self.number += 1
        return {
            "index": index.astype(np.int32),
            "extra": drawn,
            "number": np.int32(self.number - 1),
        }

    def get_state(self) -> dict[str, int]:
        """Steps taken."""
        return {"number": self.number}

    def set_state(self, state: dict[str, int]) -> None:
        """Goes there."""
        self.number = state["number"]

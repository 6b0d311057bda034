"""Training: the dense teacher, then rounds of pruning (structured) or gradual masking.

With a folder, every phase goes on where it was stopped: steps from their checkpoints, and what a
phase starts from (parameters, masks, banks) from a file written before it.
"""

import dataclasses
import functools
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxml.cap import encoder as encoders
from jaxml.cap import evaluate, steps
from jaxml.cap import masks as weight_masks
from jaxml.cap.bank import Bank, empty
from jaxml.cap.compaction import fold_masks
from jaxml.cap.config import CAPConfig
from jaxml.cap.count import Sparsity, kernels, sparsity
from jaxml.cap.data import Task
from jaxml.cap.encoder import Encoder
from jaxml.cap.importance import Masks, first_order_importance, full_masks, structured_step
from jaxml.cap.phases import Run, Say, Teacher
from jaxml.core import rng
from jaxml.core.types import PyTree


class Pruned(NamedTuple):
    """A pruned model.

    Attributes:
      params: `encoder` (dense shapes, what was removed is zero) and `head`.
      masks: of heads and neurons, or of single weights by kernel.
      sparsity: counts.
      valid: accuracy in per cent.
      test: likewise.
      test_f1: F1 of class 1 in per cent.
      steps: updates made.
      curve: metrics by step.
      trained: the encoder before removed weights were zeroed (what `compact` takes).
    """

    params: PyTree
    masks: Masks | dict[str, Any]
    sparsity: Sparsity
    valid: float
    test: float
    test_f1: float
    steps: int
    curve: list[dict[str, float]]
    trained: PyTree


def teach(
    encoder: Encoder,
    task: Task,
    cfg: CAPConfig,
    folder: Path | None = None,
    say: Say = print,
    mesh: Mesh | None = None,
) -> Teacher:
    """Fine-tunes the dense encoder and fills the banks of the pre-trained and the tuned one.

    Arguments as in `prune`.
    """
    key = jax.random.key(cfg.seed)
    first = encoders.classifier(key, encoder, task.num_classes)
    plan = steps.plan_of(cfg, encoder.cfg, dense=True)
    run = Run(cfg, encoder.cfg, task, folder, say, mesh=mesh)
    pre = run.answers(first)
    now = run.begin(plan, first, rng.fold(key, "dense"))
    now = run.fit("dense", plan, now, run.rows(), plan.total, {})
    fine = run.answers(now.params)
    label = jnp.asarray(task.train.label)
    reps = {"pre": pre.reps, "fine": fine.reps}
    banks = {n: Bank(jnp.asarray(x, jnp.float16)[:, None], label) for n, x in reps.items()}
    valid, test = (run.score(now.params, part) for part in (task.valid, task.test))
    say(f"dense: validation {valid:.2f} %, test {test:.2f} %")
    return Teacher(now.params, fine.logits, banks, valid, test, run.curve)


def prune(
    encoder: Encoder,
    task: Task,
    teacher: Teacher,
    cfg: CAPConfig,
    folder: Path | None = None,
    say: Say = print,
    mesh: Mesh | None = None,
) -> Pruned:
    """Prunes by the configured method, with the teacher's answers and, if configured, contrast.

    Args:
      encoder: pre-trained.
      task: the one that the teacher was tuned on.
      teacher: from `teach`.
      cfg: the run.
      folder: of this run, to go on in; None: nothing is written.
      say: prints progress.
      mesh: splits batches and banks over its `data` axis, which must divide the batch; parameters
        are on every device.

    Raises:
      ValueError: an impossible pruning (see `structured_step`), or a batch that does not divide.
      FolderInUseError: another process writes to the folder.
    """
    run = Run(cfg, encoder.cfg, task, folder, say, mesh=mesh)
    grow = _structured if cfg.prune.method == "structured" else _gradual
    params, masks = grow(run, encoder, teacher)
    folded = {**params, "encoder": fold_masks(params["encoder"], masks)}
    said = run.answers(folded, task.test).logits
    found = Pruned(
        {name: folded[name] for name in ("encoder", "head")},
        masks,
        sparsity(params["encoder"], encoder.cfg, masks),
        run.score(folded, task.valid),
        evaluate.accuracy(said, task.test.label),
        evaluate.f1(said, task.test.label),
        run.done,
        run.curve,
        params["encoder"],
    )
    say(f"{cfg.prune.method}: {found.sparsity}; valid {found.valid:.2f}, test {found.test:.2f} %")
    return found


def _snapshots(run: Run, room: int) -> Bank:
    label = jnp.asarray(run.task.train.label)
    return empty(len(label), max(room, 1), run.model.width, label)


def _structured(run: Run, encoder: Encoder, teacher: Teacher) -> tuple[PyTree, Masks]:
    cfg, key = run.cfg, jax.random.key(run.cfg.seed)
    plan = steps.plan_of(cfg, encoder.cfg)
    percents = cfg.prune.percents
    params = teacher.params
    if cfg.prune.start == "pre":
        params = encoders.classifier(key, encoder, run.task.num_classes)
    masks = full_masks(encoder.cfg.num_layers, encoder.cfg.num_heads, encoder.cfg.hidden)
    snap = _snapshots(run, len(percents) - 1)
    for number, percent in enumerate(percents):
        now_masks, now_snap, now_params = masks, snap, params

        def start() -> PyTree:
            return _round(run, plan, teacher, now_params, now_masks, now_snap, number)  # noqa: B023

        begun = run.kept(f"start{number}", start)
        params, masks = begun["params"], Masks(begun["heads"], begun["ffn"])
        snap = dataclasses.replace(snap, reps=begun["snap"], count=jnp.int32(number))
        rows = run.rows(snap.reps.shape[1])
        fixed = {**run.fixed(teacher, snap), "masks": masks}
        now = run.begin(plan, params, rng.fold(key, "round", number))
        now = run.fit(f"round{number}", plan, now, rows, plan.total, fixed)
        params = now.params
        if number + 1 < len(percents):  # the last one is scored by `prune`
            folded = {**params, "encoder": fold_masks(params["encoder"], masks)}
            valid = run.score(folded, run.task.valid)
            run.say(f"round {number + 1}, {percent:.0f} % removed: validation {valid:.2f} %")
    return params, masks


def _round(
    run: Run,
    plan: steps.Plan,
    teacher: Teacher,
    params: PyTree,
    masks: Masks,
    snap: Bank,
    number: int,
) -> PyTree:
    """What a round starts from: importance by the banks so far, then a snapshot, then new masks.

    The snapshot is of the model before the new masks; before the first round there is none to
    take, as the bank of the pre-trained encoder is that model's.
    """
    percents = (0.0, *run.cfg.prune.percents)
    importance = _importance(run, plan, teacher, params, masks, snap)
    after = structured_step(
        importance, masks, percents[number + 1],
        before=percents[number], min_heads=run.cfg.prune.min_heads,
    )  # fmt: skip
    if number > 0 and run.cfg.contrast is not None:
        folded = {**params, "encoder": fold_masks(params["encoder"], masks)}
        snap = snap.append(jnp.asarray(run.answers(folded).reps))
    return {"params": params, "heads": after.heads, "ffn": after.ffn, "snap": snap.reps}


def _importance(
    run: Run, plan: steps.Plan, teacher: Teacher, params: PyTree, masks: Masks, snap: Bank
) -> Masks:
    num, size = len(run.task.train.label), run.cfg.tune.batch_size
    used = min(run.cfg.prune.calibration or num, num) // size * size
    index = np.arange(used, dtype=np.int32).reshape(-1, size)
    rows = run.rows(snap.reps.shape[1])
    extra = [next(rows)["extra"] for _ in index]
    batches = {"index": run.placed(index), "extra": jax.tree.map(lambda *x: np.stack(x), *extra)}
    fixed = {**run.fixed(teacher, snap), "train": run.examples}
    return _importance_of(plan, params, masks, batches, fixed)


@functools.partial(jax.jit, static_argnums=0)
def _importance_of(
    plan: steps.Plan, params: PyTree, masks: Masks, batches: PyTree, fixed: PyTree
) -> Masks:
    def loss(masks: Masks, batch: PyTree) -> Any:
        return steps.terms(plan, params, {**batch, **fixed}, None, masks)[0]

    return first_order_importance(loss, masks, batches)


def _gradual(run: Run, encoder: Encoder, teacher: Teacher) -> tuple[PyTree, dict[str, Any]]:
    cfg, key = run.cfg, jax.random.key(run.cfg.seed)
    plan = steps.plan_of(cfg, encoder.cfg)
    params = encoders.classifier(key, encoder, run.task.num_classes)
    if cfg.prune.method != "magnitude":
        params["scores"] = jax.tree.map(jnp.zeros_like, kernels(encoder.params))
    end = cfg.prune.threshold if plan.fixed else cfg.prune.keep
    snap = _snapshots(run, cfg.prune.rounds - 1)
    rows = run.rows(snap.reps.shape[1])
    now = run.begin(plan, params, rng.fold(key, "prune"))
    for number in range(cfg.prune.rounds):
        if number > 0 and cfg.contrast is not None:
            at, held = steps.level(plan, int(now.step), end), snap
            folded, snap_so_far = _folded(plan, now.params, at), held

            def grown() -> PyTree:
                reps = jnp.asarray(run.answers(folded).reps)  # noqa: B023
                return {"snap": snap_so_far.append(reps).reps}  # noqa: B023

            snap = dataclasses.replace(
                snap, reps=run.kept(f"snap{number}", grown)["snap"], count=jnp.int32(number)
            )
        until = plan.total * (number + 1) // cfg.prune.rounds
        fixed = {**run.fixed(teacher, snap), "end": jnp.float32(end)}
        now = run.fit("prune", plan, now, rows, until, fixed)
        run.say(f"segment {number + 1} of {cfg.prune.rounds}: {until} steps")
    final = _masks_at(plan, now.params, end)
    return now.params, final


def _masks_at(plan: steps.Plan, params: PyTree, at: Any) -> dict[str, Any]:
    return weight_masks.score_masks(
        plan.method, kernels(params["encoder"]), params.get("scores", {}), at,
        scope=plan.scope, fixed_threshold=plan.fixed,
    )  # fmt: skip


def _folded(plan: steps.Plan, params: PyTree, at: Any) -> PyTree:
    masks = _masks_at(plan, params, at)
    return {**params, "encoder": fold_masks(params["encoder"], masks)}

"""Training: the dense teacher, then rounds of pruning (structured) or gradual masking.

With a folder, every phase goes on where it was stopped: steps from their checkpoints, and what a
phase starts from (parameters, masks, banks) from a file written before it.
"""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxml.cap import encoder as encoders
from jaxml.cap import evaluate, steps
from jaxml.cap import masks as weight_masks
from jaxml.cap.bank import Bank, empty
from jaxml.cap.compaction import fold_masks
from jaxml.cap.config import MODULES, CAPConfig
from jaxml.cap.count import Sparsity, kernels, sparsity
from jaxml.cap.data import Task
from jaxml.cap.encoder import Encoder
from jaxml.cap.importance import Masks, first_order_importance, full_masks, structured_step
from jaxml.core import rng, tree, weights
from jaxml.core.types import PyTree
from jaxml.models.bert import BertConfig
from jaxml.train import checkpoint, hooks, logs, loop, state
from jaxml.train.state import TrainState

type Say = Callable[[str], None]


class Teacher(NamedTuple):
    """The fine-tuned dense model and what it, and the pre-trained one, say of the training set.

    Attributes:
      params: `encoder` and `head`.
      logits: of the training examples [n, c].
      banks: "pre" and "fine".
      valid: accuracy in per cent.
      test: likewise.
      curve: metrics of the fine-tuning by step.
    """

    params: PyTree
    logits: np.ndarray
    banks: dict[str, Bank]
    valid: float
    test: float
    curve: list[dict[str, float]]


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
    encoder: Encoder, task: Task, cfg: CAPConfig, folder: Path | None = None, say: Say = print
) -> Teacher:
    """Fine-tunes the dense encoder and fills the banks of the pre-trained and the tuned one."""
    key = jax.random.key(cfg.seed)
    first = encoders.classifier(key, encoder, task.num_classes)
    plan = steps.plan_of(cfg, encoder.cfg, dense=True)
    rows = steps.Rows(len(task.train.label), cfg.tune.batch_size, cfg.seed, {})
    run = _Run(cfg, encoder.cfg, task, folder, say)
    pre = run.answers(first)
    now = _begin(plan, first, rng.fold(key, "dense"))
    now = run.fit("dense", plan, now, rows, plan.total, {})
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
) -> Pruned:
    """Prunes by the configured method, with the teacher's answers and, if configured, contrast.

    Args:
      encoder: pre-trained.
      task: the one that the teacher was tuned on.
      teacher: from `teach`.
      cfg: the run.
      folder: of this run, to go on in; None: nothing is written.
      say: prints progress.

    Raises:
      ValueError: an impossible pruning (see `structured_step`).
      FolderInUseError: another process writes to the folder.
    """
    run = _Run(cfg, encoder.cfg, task, folder, say)
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
    say(f"{cfg.prune.method}: {found.sparsity}; test {found.test:.2f} %")
    return found


def _begin(plan: steps.Plan, params: PyTree, key: Any) -> TrainState:
    # The step donates its state; what was handed in must live on.
    return state.create(key, jax.tree.map(jnp.copy, params), steps.optimizer(plan))


@dataclasses.dataclass
class _Run:
    """What the phases of one run share."""

    cfg: CAPConfig
    model: BertConfig
    task: Task
    folder: Path | None
    say: Say
    done: int = 0
    curve: list[dict[str, float]] = dataclasses.field(default_factory=list)

    def answers(self, params: PyTree, part: Any = None) -> evaluate.Answers:
        examples = self.task.train if part is None else part
        model = encoders.without_dropout(self.model)
        kept = {name: params[name] for name in ("encoder", "head")}
        return evaluate.answers(
            kept, model, examples, align=self.cfg.align, dtype=self.cfg.tune.dtype
        )

    def score(self, params: PyTree, part: Any) -> float:
        return evaluate.accuracy(self.answers(params, part).logits, part.label)

    @functools.cached_property
    def examples(self) -> tuple[Any, ...]:
        return tuple(jnp.asarray(x) for x in self.task.train)

    def rows(self, teacher: Teacher, room: int) -> steps.Rows:
        num, contrast = len(self.task.train.label), self.cfg.contrast
        extra = {}
        if contrast is not None:  # no more than there are examples
            each = {"pre": 1, "snap": room, "fine": 1}
            extra = {n: min(contrast.extra // r, num) for n, r in each.items()}
        return steps.Rows(num, self.cfg.tune.batch_size, self.cfg.seed, extra)

    def fixed(self, teacher: Teacher, snap: Bank) -> dict[str, Any]:
        """The part of a batch that stays."""
        given = {"teacher": jnp.asarray(teacher.logits)}
        if self.cfg.contrast is not None:
            contrast = self.cfg.contrast
            both = jnp.array([contrast.weight_unsup, contrast.weight_sup])
            given["banks"] = {**teacher.banks, "snap": snap}
            given["weights"] = {m: both * (m in contrast.modules) for m in MODULES}
        return given

    def fit(
        self,
        name: str,
        plan: steps.Plan,
        now: TrainState,
        rows: steps.Rows,
        until: int,
        fixed: dict[str, Any],
    ) -> TrainState:
        """Steps up to step `until`, from the checkpoint of that name where there is one."""
        update = steps.compiled(plan)
        fixed = {**fixed, "train": self.examples}

        def step(now: TrainState, batch: Any) -> Any:
            return update(now, {**batch, **fixed})

        before, every = int(now.step), max(until // 25, 1)
        watch = hooks.Every(self._note(name), every)
        if self.folder is None:
            rows.set_state({"number": before})
            now = loop.fit(step, now, rows, [watch], num_steps=until)
        else:
            now = self._resumed(name, step, now, rows, until, watch)
        self.done += until - before
        return now

    def _note(self, name: str) -> Callable[[loop.Event], None]:
        def note(event: loop.Event) -> None:
            numbers = {k: float(v) for k, v in event.metrics.items() if np.ndim(v) == 0}
            self.curve.append({"phase": name, "step": event.step, **numbers})  # pyright: ignore[reportArgumentType]

        return note

    def _resumed(
        self, name: str, step: Any, now: TrainState, rows: steps.Rows, until: int, watch: Any
    ) -> TrainState:
        assert self.folder is not None
        with checkpoint.Checkpointer(self.folder / name, keep=1) as keeper:
            known = checkpoint.steps(keeper.folder)
            if known and known[-1] > int(now.step):
                now = keeper.restore(state.abstract(now)).state
            rows.set_state({"number": int(now.step)})
            log = logs.JsonLines(self.folder / f"{name}.jsonl", 10)
            save = hooks.Checkpoint(keeper, max(until // 2, 1))
            stop = hooks.StopOnSignal()
            now = loop.fit(step, now, rows, [stop, watch, log, save], num_steps=until)
        if stop.received is not None:
            raise KeyboardInterrupt(f"stopped at step {int(now.step)} of {name}; it is saved.")
        return now

    def kept(self, name: str, make: Callable[[], PyTree]) -> PyTree:
        """What `make` gives, kept in the folder: an interrupted run reads it again."""
        path = None if self.folder is None else self.folder / f"{name}.safetensors"
        if path is not None and path.exists():
            return tree.unflatten({n: jnp.asarray(x) for n, x in weights.read(path).items()})
        made = make()
        if path is not None:
            weights.write(path, tree.flatten(made))
        return made


def _snapshots(run: _Run, room: int) -> Bank:
    label = jnp.asarray(run.task.train.label)
    return empty(len(label), max(room, 1), run.model.width, label)


def _structured(run: _Run, encoder: Encoder, teacher: Teacher) -> tuple[PyTree, Masks]:
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
        snap = snap.replace(reps=begun["snap"], count=jnp.int32(number))
        rows = run.rows(teacher, snap.reps.shape[1])
        fixed = {**run.fixed(teacher, snap), "masks": masks}
        now = _begin(plan, params, rng.fold(key, "round", number))
        now = run.fit(f"round{number}", plan, now, rows, plan.total, fixed)
        params = now.params
        valid = run.score(
            {**params, "encoder": fold_masks(params["encoder"], masks)}, run.task.valid
        )
        run.say(f"round {number + 1}, {percent:.0f} % removed: validation {valid:.2f} %")
    return params, masks


def _round(
    run: _Run,
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
    run: _Run, plan: steps.Plan, teacher: Teacher, params: PyTree, masks: Masks, snap: Bank
) -> Masks:
    num, size = len(run.task.train.label), run.cfg.tune.batch_size
    used = min(run.cfg.prune.calibration or num, num) // size * size
    index = np.arange(used, dtype=np.int32).reshape(-1, size)
    rows = run.rows(teacher, snap.reps.shape[1])
    extra = [next(rows)["extra"] for _ in index]
    batches = {"index": index, "extra": jax.tree.map(lambda *x: np.stack(x), *extra)}
    fixed = {**run.fixed(teacher, snap), "train": run.examples}
    return _importance_of(plan, params, masks, batches, fixed)


@functools.partial(jax.jit, static_argnums=0)
def _importance_of(
    plan: steps.Plan, params: PyTree, masks: Masks, batches: PyTree, fixed: PyTree
) -> Masks:
    def loss(masks: Masks, batch: PyTree) -> Any:
        return steps.terms(plan, params, {**batch, **fixed}, None, masks)[0]

    return first_order_importance(loss, masks, batches)


def _gradual(run: _Run, encoder: Encoder, teacher: Teacher) -> tuple[PyTree, dict[str, Any]]:
    cfg, key = run.cfg, jax.random.key(run.cfg.seed)
    plan = steps.plan_of(cfg, encoder.cfg)
    params = encoders.classifier(key, encoder, run.task.num_classes)
    if cfg.prune.method != "magnitude":
        params["scores"] = jax.tree.map(jnp.zeros_like, kernels(encoder.params))
    end = cfg.prune.threshold if plan.fixed else cfg.prune.keep
    snap = _snapshots(run, cfg.prune.rounds - 1)
    rows = run.rows(teacher, snap.reps.shape[1])
    now = _begin(plan, params, rng.fold(key, "prune"))
    for number in range(cfg.prune.rounds):
        if number > 0 and cfg.contrast is not None:
            at, held = steps.level(plan, int(now.step), end), snap
            folded, snap_so_far = _folded(plan, now.params, at), held

            def grown() -> PyTree:
                reps = jnp.asarray(run.answers(folded).reps)  # noqa: B023
                return {"snap": snap_so_far.append(reps).reps}  # noqa: B023

            snap = snap.replace(
                reps=run.kept(f"snap{number}", grown)["snap"], count=jnp.int32(number)
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

"""The phases of a run: steps with checkpoints, scores, and what is kept between phases."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxml.cap import encoder as encoders
from jaxml.cap import evaluate, steps
from jaxml.cap.bank import Bank, shard
from jaxml.cap.config import MODULES, CAPConfig
from jaxml.cap.data import Task
from jaxml.core import check, tree, weights
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


def begin(plan: steps.Plan, params: PyTree, key: Any) -> TrainState:
    """The state before the first step, of a copy of the parameters."""
    # The step donates its state; what was handed in must live on.
    return state.create(key, jax.tree.map(jnp.copy, params), steps.optimizer(plan))


@dataclasses.dataclass
class Run:
    """What the phases of one run share.

    Attributes:
      cfg: the run.
      model: the encoder.
      task: what it is trained on.
      folder: to go on in, or None.
      say: prints progress.
      done: updates made in all phases.
      curve: metrics of all phases by step.
      mesh: batches and banks are split over its `data` axis; None: one device.
    """

    cfg: CAPConfig
    model: BertConfig
    task: Task
    folder: Path | None
    say: Say
    done: int = 0
    curve: list[dict[str, float]] = dataclasses.field(default_factory=list)
    mesh: Mesh | None = None

    def __post_init__(self):
        if self.mesh is not None:
            check.divides(mesh_data=self.mesh.shape["data"], batch_size=self.cfg.tune.batch_size)

    def placed(self, index: np.ndarray) -> Any:
        """Numbers of examples [..., b], the last axis split over the mesh."""
        if self.mesh is None:
            return index
        axes = PartitionSpec(*(None,) * (index.ndim - 1), "data")
        return jax.device_put(index, NamedSharding(self.mesh, axes))

    def begin(self, plan: steps.Plan, params: PyTree, key: Any) -> TrainState:
        """`begin`, on every device."""
        start = begin(plan, params, key)
        if self.mesh is None:
            return start
        return jax.device_put(start, NamedSharding(self.mesh, PartitionSpec()))

    def answers(self, params: PyTree, part: Any = None) -> evaluate.Answers:
        """Representations and logits without dropout, by default of the training set."""
        examples = self.task.train if part is None else part
        model = encoders.without_dropout(self.model)
        kept = {name: params[name] for name in ("encoder", "head")}
        return evaluate.answers(
            kept, model, examples, align=self.cfg.align, dtype=self.cfg.tune.dtype
        )

    def score(self, params: PyTree, part: Any) -> float:
        """Accuracy in per cent."""
        return evaluate.accuracy(self.answers(params, part).logits, part.label)

    @functools.cached_property
    def examples(self) -> tuple[Any, ...]:
        """The training set on the device."""
        return tuple(jnp.asarray(x) for x in self.task.train)

    @functools.cached_property
    def short(self) -> tuple[Any, ...]:
        """The same at half the length, for batches of examples that fit it."""
        return tuple(jnp.asarray(x) for x in self.task.train.cut(self._half))

    @property
    def _half(self) -> int:
        return -(-self.task.train.ids.shape[1] // 2)

    def examples_for(self, index: np.ndarray) -> tuple[Any, ...]:
        """The training set, no longer than the batch needs; one length where none are grouped."""
        grouped = self.cfg.tune.group > 1
        fits = grouped and self.task.train.lengths[index].max() <= self._half
        return self.short if fits else self.examples

    def rows(self, room: int = 0) -> steps.Rows:
        """Examples and candidates of the steps; `room` is of the bank of snapshots, 0: dense."""
        tune, lengths = self.cfg.tune, self.task.train.lengths
        num, contrast = len(lengths), self.cfg.contrast
        extra = {}
        if contrast is not None and room > 0:  # no more than there are examples
            each = {"pre": 1, "snap": room, "fine": 1}
            extra = {n: min(contrast.extra // r, num) for n, r in each.items()}
        return steps.Rows(lengths, tune.batch_size, self.cfg.seed, extra, tune.group)

    def fixed(self, teacher: Teacher, snap: Bank) -> dict[str, Any]:
        """The part of a batch that stays."""
        given: dict[str, Any] = {"teacher": jnp.asarray(teacher.logits)}
        if self.cfg.contrast is not None:
            contrast = self.cfg.contrast
            both = jnp.array([contrast.weight_unsup, contrast.weight_sup])
            banks = {**teacher.banks, "snap": snap}
            given["banks"] = {
                n: b if self.mesh is None else shard(b, self.mesh) for n, b in banks.items()
            }
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

        def step(now: TrainState, batch: Any) -> Any:
            index = batch["index"]
            given = {"train": self.examples_for(index), "index": self.placed(index)}
            return update(now, {**batch, **fixed, **given})

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

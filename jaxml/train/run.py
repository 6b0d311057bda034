"""A whole training run in one folder: restore, fit, log, save."""

import dataclasses
import itertools
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import optax
from jax.sharding import NamedSharding

from jaxml.core import check
from jaxml.core.types import Key, PyTree
from jaxml.dist import processes
from jaxml.train import checkpoint, hooks, logs, loop, state, step

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """How long a run is, and what it leaves in its folder.

    Attributes:
      num_steps: updates in all.
      log_every: steps between lines of `metrics.jsonl`.
      save_every: steps between checkpoints; the last state is always saved.
      keep: how many checkpoints stay.
      resume: `auto` goes on from the newest whole checkpoint; `strict` raises if the newest is
        damaged. Both begin anew in a folder without one.
      ema_decay: of the running mean of the parameters; None: none is kept.
      time_budget_s: stop, saved, after so many seconds; None: no limit.

    Raises:
      ValueError: a value out of range.
    """

    num_steps: int = 1000
    log_every: int = 10
    save_every: int = 500
    keep: int = 3
    resume: str = "auto"
    ema_decay: float | None = None
    time_budget_s: float | None = None

    def __post_init__(self):
        check.types(self)
        check.positive(log_every=self.log_every, save_every=self.save_every, keep=self.keep)
        check.at_least(0, num_steps=self.num_steps)
        check.one_of(checkpoint.RESUME, resume=self.resume)
        if self.ema_decay is not None:
            check.between(0, 1, ema_decay=self.ema_decay)
        if self.time_budget_s is not None:
            check.positive(time_budget_s=self.time_budget_s)


def train(
    loss_fn: step.LossFn,
    params: PyTree,
    optimizer: optax.GradientTransformation,
    batches: Iterator[PyTree],
    cfg: RunConfig,
    *,
    key: Key,
    folder: Path | str,
    extra: PyTree = None,
    accumulate: int = 1,
    batch_sharding: NamedSharding | None = None,
    watch: Sequence[loop.Hook] = (),
) -> state.TrainState:
    """Trains, or goes on training, in a folder.

    The folder gets `metrics.jsonl` and `checkpoints/`. SIGTERM stops the run after its step, saved.
    A run that was killed at any moment goes on exactly: it ends with the bits, and the log, of a
    run that was not. For that, `batches` must either have `get_state()` and `set_state()` or give
    the same batches anew, which are then skipped up to the restored step.

    Args:
      loss_fn: `(params, batch, key, extra) -> Loss`.
      params: where they shall lie, on one device or a mesh; the run owns them.
      optimizer: an optax transformation.
      batches: an iterator at its beginning.
      cfg: of the run.
      key: all randomness of the steps.
      folder: of this run.
      extra: the model's other state.
      accumulate: micro-batches per update.
      batch_sharding: where batches go (`shard.batch_sharding`), each process giving its own rows;
        None: they are used as they come.
      watch: hooks, called before the logs and the checkpoint.

    Returns:
      The last state.

    Raises:
      checkpoint.CheckpointError: nothing whole to go on from, or a write failed.
      files.FolderInUseError: another process trains in this folder.
    """
    folder = Path(folder)
    with checkpoint.Checkpointer(folder / "checkpoints", cfg.keep) as checkpointer:
        now = state.create(key, params, optimizer, extra=extra, ema=cfg.ema_decay is not None)
        if checkpoint.steps(checkpointer.folder):
            template = state.abstract(now)
            del now
            now = _resume(checkpointer, template, batches, cfg.resume)
        update = step.make_step(
            loss_fn,
            optimizer,
            accumulate=accumulate,
            ema_decay=cfg.ema_decay,
            shardings=state.shardings(now),
        )
        if batch_sharding is not None:
            update = _placing(update, batch_sharding)
        watching = _hooks(cfg, folder, checkpointer, watch)
        return loop.fit(update, now, batches, watching, num_steps=cfg.num_steps)


def _placing(update: step.Step, place: NamedSharding) -> step.Step:
    return lambda now, batch: update(now, processes.global_batch(batch, place))


def _hooks(
    cfg: RunConfig,
    folder: Path,
    checkpointer: checkpoint.Checkpointer,
    watch: Sequence[loop.Hook],
) -> list[loop.Hook]:
    """Stops first, then the caller's hooks, then logs, then the checkpoint."""
    stops: list[loop.Hook] = [hooks.StopOnSignal()]
    if cfg.time_budget_s is not None:
        stops.append(hooks.TimeBudget(cfg.time_budget_s))
    log = logs.JsonLines(folder / "metrics.jsonl", cfg.log_every)
    return [*stops, *watch, logs.Bar(), log, hooks.Checkpoint(checkpointer, cfg.save_every)]


def _resume(
    checkpointer: checkpoint.Checkpointer,
    template: state.TrainState,
    batches: Iterator[PyTree],
    resume: str,
) -> state.TrainState:
    """The restored state; moves `batches` to the position that belongs to it."""
    found = checkpointer.restore(template, resume=resume)
    _log.info("going on from step %d in %s.", found.step, checkpointer.folder)
    set_state = getattr(batches, "set_state", None)
    if found.iterator_state is not None and set_state is not None:
        set_state(found.iterator_state)
    else:
        _log.warning("the batches keep no position; skipping %d of them.", found.step)
        next(itertools.islice(batches, found.step, found.step), None)
    return found.state

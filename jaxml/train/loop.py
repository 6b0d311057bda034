"""The training loop: a fold of a step over batches, with hooks looking on."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax

from jaxml.core import check
from jaxml.core.types import Array, PyTree
from jaxml.dist import processes
from jaxml.train.state import TrainState
from jaxml.train.step import Step

AGREE_EVERY = 8
"""Several processes ask each other whether to stop at every so many steps."""


@dataclasses.dataclass
class Event:
    """What a hook sees after a step.

    Attributes:
      step: steps done, counted from the very first one.
      num_steps: steps to do in all.
      state: the state after the step; the next step may delete it, so do not keep it.
      metrics: of this step, on the device; reading one waits for the step.
      batches: the iterator the step's batch came from.
      results: what hooks found at this step (e.g. a validation loss), for hooks after them.
    """

    step: int
    num_steps: int
    state: TrainState
    metrics: dict[str, Array]
    batches: Iterator[PyTree]
    results: dict[str, float] = dataclasses.field(default_factory=dict)

    def due(self, every: int) -> bool:
        """True at every so many steps, and at the last one."""
        return self.step % every == 0 or self.step == self.num_steps


type Hook = Callable[[Event], bool | None]
"""Called after every step; True asks the loop to stop.

If a hook is a context manager, the loop runs inside it. If it has a method `finish(event)`, that is
called once after the last step, unless an exception ended the loop.
"""


def fit(
    step: Step,
    state: TrainState,
    batches: Iterator[PyTree],
    hooks: Sequence[Hook] = (),
    *,
    num_steps: int,
) -> TrainState:
    """Steps until `state.step == num_steps`, the batches end, or a hook asks to stop.

    Hooks are called in their order: one that writes what another found comes after it, and
    checkpoints come last. With several processes, every process runs the same loop, and all stop
    after the same step.

    Args:
      step: from `make_step`.
      state: where to start; restored or new.
      batches: an iterator at the position that belongs to `state`.
      hooks: see `Hook`.
      num_steps: counted from the very first step, not from `state`.

    Returns:
      The last state.

    Raises:
      ValueError: negative `num_steps`.
    """
    check.at_least(0, num_steps=num_steps)
    done, event, stop = int(state.step), None, False
    with contextlib.ExitStack() as stack:
        for hook in hooks:
            if isinstance(hook, contextlib.AbstractContextManager):
                stack.enter_context(hook)
        while done < num_steps and (batch := next(batches, stack)) is not stack:
            waiting, (state, metrics) = event, step(state, batch)
            if waiting is not None:
                # One step runs while the next is prepared, never more: a stop takes effect soon.
                jax.block_until_ready(waiting.metrics)
            done += 1
            event = Event(done, num_steps, state, dict(metrics), batches)
            stop |= any([hook(event) is True for hook in hooks])
            if _all_stop(stop, done):
                break
        _finish(hooks, event)
    return state


def _all_stop(stop: bool, step: int) -> bool:
    if jax.process_count() == 1:
        return stop
    return step % AGREE_EVERY == 0 and processes.any_true(stop)


def _finish(hooks: Sequence[Any], event: Event | None) -> None:
    for hook in hooks:
        finish = getattr(hook, "finish", None)
        if event is not None and finish is not None:
            finish(event)

"""Hooks that act on a run: evaluate, save, measure speed, stop.

Order matters where one reads what another found: evaluation and speed, then the logs (`logs.py`),
then the checkpoint. A log line must be on disk before the checkpoint that would skip it.
"""

import dataclasses
import signal
import time
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any, Self

from jaxml.core import check
from jaxml.train import metric
from jaxml.train.checkpoint import Checkpointer
from jaxml.train.loop import Event
from jaxml.train.state import TrainState


@dataclasses.dataclass
class Every:
    """Calls a plain function of the event at every so many steps, and at the last one."""

    function: Callable[[Event], bool | None]
    every: int

    def __post_init__(self):
        check.positive(every=self.every)

    def __call__(self, event: Event) -> bool | None:
        """The function's answer where it is due."""
        return self.function(event) if event.due(self.every) else None


@dataclasses.dataclass
class Evaluate:
    """Puts what `function(state)` measures into `event.results`, as `name/metric`."""

    function: Callable[[TrainState], Mapping[str, Any]]
    every: int
    name: str = "valid"

    def __post_init__(self):
        check.positive(every=self.every)

    def __call__(self, event: Event) -> None:
        """Measures where it is due."""
        if event.due(self.every):
            for key, value in self.function(event.state).items():
                event.results[f"{self.name}/{key}"] = float(value)


@dataclasses.dataclass
class Speed:
    """Puts items per second, and MFU where it is known, into `event.results`.

    Clocks differ from run to run: put it after a log that two runs shall write alike.

    Attributes:
      items_per_step: e.g. tokens of a batch, over all devices.
      every: steps between measurements.
      name: what an item is called, in the plural.
      flops_per_item: forward and backward; None: no MFU.
      meter: measures the time.
    """

    items_per_step: int
    every: int
    name: str = "tokens"
    flops_per_item: float | None = None
    meter: metric.Throughput = dataclasses.field(default_factory=metric.Throughput)
    _begun: bool = False

    def __post_init__(self):
        check.positive(items_per_step=self.items_per_step, every=self.every)

    def __call__(self, event: Event) -> None:
        """Measures where it is due; the end of the first step, which compiles, starts the clock."""
        if self._begun and not event.due(self.every):
            return
        self._begun = True
        float(event.metrics["loss"])  # Waits for the step, so that its time is counted.
        rate = self.meter.rate(event.step * self.items_per_step)
        if rate is None:
            return
        event.results[f"{self.name}_per_s"] = rate
        share = metric.mfu(rate, self.flops_per_item) if self.flops_per_item else None
        if share is not None:
            event.results["mfu"] = share


@dataclasses.dataclass
class Checkpoint:
    """Saves state and data position at every so many steps, and when the loop stops.

    The position is `batches.get_state()` where there is one.
    """

    checkpointer: Checkpointer
    every: int
    _saved: int = -1

    def __post_init__(self):
        check.positive(every=self.every)

    def __call__(self, event: Event) -> None:
        """Saves where it is due."""
        if event.step % self.every == 0:
            self._save(event)

    def finish(self, event: Event) -> None:
        """Saves the last state unless it is saved, and waits until it is on disk."""
        if self._saved != event.step:
            self._save(event)
        self.checkpointer.wait()

    def _save(self, event: Event) -> None:
        position = getattr(event.batches, "get_state", None)
        self.checkpointer.save(event.state, position() if position else None)
        self._saved = event.step


@dataclasses.dataclass
class TimeBudget:
    """Stops once this many seconds have passed since the loop began.

    Attributes:
      seconds: the budget.
      clock: in seconds.
    """

    seconds: float
    clock: Callable[[], float] = time.monotonic
    _end: float = float("inf")

    def __post_init__(self):
        check.positive(seconds=self.seconds)

    def __enter__(self) -> Self:
        self._end = self.clock() + self.seconds
        return self

    def __exit__(self, *_: object) -> None:
        self._end = float("inf")

    def __call__(self, event: Event) -> bool:
        """True once the budget is spent."""
        return self.clock() >= self._end


@dataclasses.dataclass
class StopOnSignal:
    """Stops after the step during which a signal came; with `Checkpoint`, the run is saved.

    The process's own handlers are back when the loop ends. Only the main thread may use it.

    Attributes:
      signals: by default the one that schedulers send before they kill.
      received: the last signal that came.
    """

    signals: tuple[signal.Signals, ...] = (signal.SIGTERM,)
    received: int | None = None
    _before: dict[int, Any] = dataclasses.field(default_factory=dict)

    def __enter__(self) -> Self:
        self.received = None
        self._before = {number: signal.signal(number, self._note) for number in self.signals}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = number

    def __call__(self, event: Event) -> bool:
        """True once a signal came."""
        return self.received is not None

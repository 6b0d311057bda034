"""Hooks that show a run: a progress bar, a file of JSON lines, TensorBoard.

With several processes only the main one shows anything.
"""

import dataclasses
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import jax
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from jaxml.core import check, files
from jaxml.dist import processes
from jaxml.train import metric
from jaxml.train.loop import Event


def values(event: Event) -> dict[str, Any]:
    """Metrics and results of a step as plain numbers; waits for the step."""
    metrics = jax.device_get(event.metrics)
    return {name: np.asarray(x).tolist() for name, x in metrics.items()} | event.results


@dataclasses.dataclass
class JsonLines:
    """Appends one JSON object per logged step: `{"step": 20, "loss": 1.5, ...}`.

    A step is logged where it is due and where a hook before this one found something. When a run
    goes on from a checkpoint, lines of later steps are dropped first, so that the file is the one a
    run without interruption would have written. A number that is not finite becomes null.
    """

    path: Path | str
    every: int = 10
    _begun: bool = False

    def __post_init__(self):
        check.positive(every=self.every)

    def __call__(self, event: Event) -> None:
        """Writes the step's line where it is due."""
        if not processes.is_main():
            return
        if not self._begun:
            drop_after(self.path, event.step - 1)
            self._begun = True
        if event.due(self.every) or event.results:
            record = {"step": event.step, **values(event)}
            finite = {k: None if _not_finite(v) else v for k, v in record.items()}
            with Path(self.path).open("a", encoding="utf-8") as log:
                log.write(json.dumps(finite, allow_nan=False) + "\n")


def _not_finite(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def drop_after(path: Path | str, step: int) -> None:
    """Keeps the lines of a JSON-lines file up to a step; a torn last line goes too.

    The file is made if missing.
    """
    path = Path(path)
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    kept = [line for line in lines if _step_of(line) <= step]
    if kept != lines or not path.exists():
        files.write_text(path, "".join(kept))


def _step_of(line: str) -> float:
    """The step of a line; infinity where it is torn."""
    if not line.endswith("\n"):
        return math.inf
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf


@dataclasses.dataclass
class TensorBoard:
    """Writes scalars for TensorBoard (the package tensorboardX); points after a resume replace.

    Like `JsonLines`, it logs where it is due and where a hook found something.
    """

    folder: Path | str
    every: int = 10
    _writer: Any = None

    def __post_init__(self):
        check.positive(every=self.every)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def __call__(self, event: Event) -> None:
        """Writes the step's scalars where they are due."""
        if not processes.is_main() or not (event.due(self.every) or event.results):
            return
        if self._writer is None:
            from tensorboardX import SummaryWriter

            self._writer = SummaryWriter(str(self.folder), purge_step=event.step)
        for name, value in values(event).items():
            if isinstance(value, int | float):
                self._writer.add_scalar(name, value, event.step)


@dataclasses.dataclass
class Bar:
    """A progress bar on a terminal; elsewhere a line now and then.

    Attributes:
      refresh_s: seconds between updates of the bar, and so between waits for a step.
      line_s: seconds between lines where there is no terminal.
      console: where to show it; default: standard error.
      clock: in seconds.
    """

    refresh_s: float = 0.5
    line_s: float = 30.0
    console: Console = dataclasses.field(default_factory=lambda: Console(stderr=True))
    clock: Callable[[], float] = time.monotonic
    _bar: Progress | None = None
    _begin: tuple[int, float] | None = None
    _shown: float = -math.inf

    def __enter__(self) -> Self:
        if processes.is_main() and self.console.is_terminal:
            columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
            self._bar = Progress(*columns, console=self.console)
            self._bar.add_task("", total=None)
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
        self._bar, self._begin, self._shown = None, None, -math.inf

    def __call__(self, event: Event) -> None:
        """Shows step, loss, rate and time left, if it is time to."""
        now = self.clock()
        self._begin = self._begin or (event.step, now)
        pause = self.line_s if self._bar is None else self.refresh_s
        last = event.step == event.num_steps
        if processes.is_main() and (last or now - self._shown >= pause):
            self._shown = now
            self._show(event, self._text(event, now))

    def _text(self, event: Event, now: float) -> str:
        first, begin = self._begin or (event.step, now)
        parts = [f"loss {float(event.metrics['loss']):.4f}"]
        if now > begin and event.step > first:
            rate = (event.step - first) / (now - begin)
            left = metric.duration((event.num_steps - event.step) / rate)
            parts += [f"{rate:.3g} steps/s", f"{left} left"]
        if rejected := int(event.metrics.get("num_rejected", 0)):
            parts.append(f"{rejected} rejected")
        return ", ".join(parts + [f"{name} {x:.4g}" for name, x in event.results.items()])

    def _show(self, event: Event, text: str) -> None:
        if self._bar is None:
            self.console.print(f"step {event.step}/{event.num_steps}: {text}", highlight=False)
        else:
            task = self._bar.task_ids[0]
            self._bar.update(
                task, completed=event.step, total=event.num_steps, description=text, refresh=True
            )

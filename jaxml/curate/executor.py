"""Who does the work: a function over files, in this process, on Daft's workers, or on Ray's.

Every stage is a function of one part that writes a file aside and renames it, so a worker that
dies leaves nothing half done, and the answer does not depend on who ran what. Workers of several
machines need a folder that all of them see.
"""

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxml.core import check

type Map = Callable[[Callable[[Path], object], Sequence[Path]], None]
"""Calls a function, which can be pickled, on every path."""

QUIET = {
    "DO_NOT_TRACK": "true",
    "DAFT_ANALYTICS_ENABLED": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "DAFT_PROGRESS_BAR": "0",
}
"""No library calls home."""


def local(function: Callable[[Path], object], paths: Sequence[Path]) -> None:
    """One after the other, in this process."""
    for path in paths:
        function(path)


@functools.cache
def _daft(runner: str) -> Any:
    """Daft with one of its runners, which a process can choose once.

    Raises:
      ImportError: it is missing; says how to get it.
      RuntimeError: this process already uses the other runner.
    """
    os.environ.update(QUIET)
    try:
        import daft  # pyright: ignore[reportMissingImports]

        if runner == "ray":
            _start_ray()
    except ImportError as error:
        raise ImportError(
            f"engine={runner!r} needs the package {error.name}: "
            "pip install 'jaxml-lab[curate-dist]'."
        ) from None
    try:
        if runner == "ray":
            daft.set_runner_ray(noop_if_initialized=True)
        else:
            daft.set_runner_native()
    except Exception as error:  # noqa: BLE001  # of Daft's own kind, which differs by version
        raise RuntimeError(
            f"engine={runner!r} needs a process in which Daft has no runner yet: {error}"
        ) from None
    return daft


def _start_ray() -> None:
    """Joins the cluster of `RAY_ADDRESS`, or begins one on this machine.

    Workers compute on their processors: several of them never share a device.
    """
    import ray as cluster  # pyright: ignore[reportMissingImports]

    if not cluster.is_initialized():
        here = not os.environ.get("RAY_ADDRESS")
        cluster.init(
            num_cpus=os.cpu_count() if here else None,
            include_dashboard=False if here else None,
            log_to_driver=False,
            runtime_env={"env_vars": {**QUIET, "JAX_PLATFORMS": "cpu"}},
        )


def _map(frame: Any, daft: Any, function: Callable[[Path], object]) -> None:
    """One task of Daft for each path."""

    @daft.func.batch(return_dtype=daft.DataType.bool(), batch_size=1)
    def step(part):  # noqa: ANN001, ANN202
        for path in part.to_pylist():
            function(Path(path))
        return [True] * len(part)

    frame.select(step(daft.col("part"))).collect()


def native(function: Callable[[Path], object], paths: Sequence[Path]) -> None:
    """On Daft's own threads, in this process."""
    if paths:
        daft = _daft("daft")
        _map(daft.from_pydict({"part": [str(path) for path in paths]}), daft, function)


def ray(function: Callable[[Path], object], paths: Sequence[Path]) -> None:
    """On Ray's workers, through Daft; on the cluster of `RAY_ADDRESS`, else on this machine."""
    if paths:
        daft = _daft("ray")
        frame = daft.from_pydict({"part": [str(path) for path in paths]})
        _map(frame.into_partitions(len(paths)), daft, function)


ENGINES: Mapping[str, Map] = {"local": local, "daft": native, "ray": ray}
"""Engines by name."""


def choose(engine: str) -> Map:
    """The engine of that name.

    Raises:
      ValueError: there is none; the nearest is named.
    """
    check.one_of(tuple(ENGINES), engine=engine)
    return ENGINES[engine]

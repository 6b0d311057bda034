"""Who does the work: a function over files, in this process, on Daft's workers, or on Ray's.

Every stage is a function of one part that writes a file aside and renames it, so a worker that
dies leaves nothing half done, and the answer does not depend on who ran what. Workers of several
machines need a folder that all of them see.
"""

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


def _daft(runner: str) -> Any:
    """Daft with one of its runners chosen.

    Raises:
      ImportError: it is missing; says how to get it.
      RuntimeError: this process already uses the other runner.
    """
    os.environ.update(QUIET)
    try:
        import daft  # pyright: ignore[reportMissingImports]

        if runner == "ray":
            import ray  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ImportError(
            f"engine={runner!r} needs the package {error.name}: "
            "pip install 'jaxml-lab[curate-dist]'."
        ) from None
    if _chosen.setdefault("runner", runner) != runner:
        raise RuntimeError(
            f"engine={runner!r} cannot follow engine={_chosen['runner']!r} in one process; "
            "start another one."
        )
    return daft


_chosen: dict[str, str] = {}


def _map(daft: Any, function: Callable[[Path], object], paths: Sequence[Path], num: int) -> None:
    """One task of Daft for each path."""

    @daft.func.batch(return_dtype=daft.DataType.bool(), batch_size=1)
    def step(part):  # noqa: ANN001, ANN202
        for path in part.to_pylist():
            function(Path(path))
        return [True] * len(part)

    frame = daft.from_pydict({"part": [str(path) for path in paths]})
    frame.into_partitions(min(num, len(paths))).select(step(daft.col("part"))).collect()


def native(function: Callable[[Path], object], paths: Sequence[Path]) -> None:
    """On Daft's own threads and processes on this machine."""
    if not paths:
        return
    daft = _daft("daft")
    daft.set_runner_native()
    _map(daft, function, paths, os.cpu_count() or 1)


def ray(function: Callable[[Path], object], paths: Sequence[Path]) -> None:
    """On Ray's workers, through Daft; on the cluster of `RAY_ADDRESS`, else on this machine.

    Workers compute on their processors: several of them never share a device.
    """
    if not paths:
        return
    daft = _daft("ray")
    import ray as cluster  # pyright: ignore[reportMissingImports]

    if not cluster.is_initialized():
        cluster.init(
            num_cpus=None if os.environ.get("RAY_ADDRESS") else os.cpu_count(),
            include_dashboard=False,
            log_to_driver=False,
            runtime_env={"env_vars": {**QUIET, "JAX_PLATFORMS": "cpu"}},
        )
    daft.set_runner_ray(noop_if_initialized=True)
    _map(daft, function, paths, 4 * int(cluster.cluster_resources().get("CPU", 1)))


ENGINES: Mapping[str, Map] = {"local": local, "daft": native, "ray": ray}
"""Engines by name."""


def choose(engine: str) -> Map:
    """The engine of that name.

    Raises:
      ValueError: there is none; the nearest is named.
    """
    check.one_of(tuple(ENGINES), engine=engine)
    return ENGINES[engine]

"""A worker that dies once, at a part of its choosing, for a test of what is left then."""

import functools
import os
import signal
from pathlib import Path

from jaxml.curate import executor

KILLED, CALLS = "killed", "calls"


def name(function, path):
    """A call in words, such as "_measure 01-empty/part-00000-00004.parquet"."""
    while isinstance(function, functools.partial):
        function = function.func
    return f"{function.__name__} {path.parent.name}/{path.name}"


def step(function, folder, victim, path):
    """Notes the call down; the first process that is given the victim kills itself."""
    call = name(function, path)
    with (folder / CALLS).open("a") as handle:
        handle.write(f"{call}\n")
    if call == victim and not (folder / KILLED).exists():
        (folder / KILLED).write_text(str(os.getpid()))
        os.kill(os.getpid(), signal.SIGKILL)
    function(path)


def ray(folder, victim):
    """`executor.ray` whose workers run `step`."""
    return lambda function, paths: executor.ray(
        functools.partial(step, function, Path(folder), victim), paths
    )

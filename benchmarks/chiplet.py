"""Designs and gradients per second, and errors on measured iterations, beside Calculon.

The peer (github.com/calculon-ai/calculon, Apache-2.0) is no package: clone it and name the folder
in JAXML_PEER_CALCULON. Without it its columns stay empty. It models GPUs only, so its design is one
of its own eight validation runs; both answer "how long does a batch take".
"""

import importlib.util
import itertools
import logging
import os
import sys
import types
from pathlib import Path

from jaxml.chiplet import measured, speed
from jaxml.report import timing

MODES = {"full": 0, "seqsel": 1}


class Calculon:
    """The eight runs of its validation (tab5), in process, files read beforehand."""

    def __init__(self, folder: Path):
        sys.path.insert(0, str(folder))
        if importlib.util.find_spec("pandas") is None:
            sys.modules["pandas"] = types.ModuleType("pandas")  # another command of it needs it
        import calculon  # pyright: ignore[reportMissingImports]
        from calculon.llm import Llm  # pyright: ignore[reportMissingImports]
        from calculon.system import System  # pyright: ignore[reportMissingImports]

        self.llm, log = Llm, logging.getLogger("calculon")
        read = calculon.io.read_json_file
        self.system = System(read(f"{folder}/systems/a100_80g.json"))
        names = dict.fromkeys(measured.iterations()[3])
        self.runs = [
            (
                Llm.Application(read(f"{folder}/models/{name}.json")),
                read(f"{folder}/validation/seqsel/tab5/{name}_{mode}.json"),
                log,
            )
            for name in names
            for mode in MODES
        ]

    def seconds(self, index: int) -> float:
        """Predicted seconds of one run."""
        app, execution, log = self.runs[index % len(self.runs)]
        model = self.llm(app, log)
        model.compile(self.system, self.llm.Execution.from_json(execution))
        model.run(self.system)
        return model.get_stats_json(False)["total_time"]


def peer() -> Calculon | None:
    """Calculon, if its folder is named."""
    folder = os.environ.get("JAXML_PEER_CALCULON")
    return Calculon(Path(folder).resolve()) if folder else None


def rows(smoke: bool) -> list[timing.Row]:
    """Ours and the peer's calls alternate in one process."""
    n, m = (2**13, 8) if smoke else (2**20, 80)
    calls = {"reports": speed.sweep_call(n, 8192), "gradients": speed.slopes_call(n, 8192)}
    other = peer()
    if other is not None:
        turn = itertools.count()
        calls["peer"] = lambda: [other.seconds(next(turn)) for _ in range(m)]
    found = timing.alternate(calls, repeats=2 if smoke else 7)
    reports, gradients = found["reports"], found["gradients"]
    goals = (1e3, 1e3) if smoke else (1e6, 1e5)
    best = n / reports.median
    slopes = n / gradients.median
    made = [
        timing.Row("full reports", "designs_s", "/s", best, "goal", goals[0], best / goals[0], 1.0),
        timing.Row(
            "time and 8 slopes",
            "gradients_s",
            "/s",
            slopes,
            "goal",
            goals[1],
            slopes / goals[1],
            1.0,
        ),
    ]
    fitted, held = measured.fit_iterations()
    errors = {"mean": fitted.mean, "worst": fitted.worst}
    theirs = {"mean": None, "worst": None}
    if other is not None:
        rate = m / found["peer"].median
        made.append(
            timing.Row("one batch", "designs_s", "/s", best, "Calculon", rate, best / rate, 3000.0)
        )
        _, _, seconds, _ = measured.iterations()
        off = [abs(other.seconds(i) / seconds[i] - 1) for i in range(len(seconds))]
        theirs = {"mean": sum(off) / len(off), "worst": max(off)}
    for kind, value in errors.items():
        known = theirs[kind]
        made.append(
            timing.Row(
                "8 measured iterations",
                f"{kind}_error",
                "",
                value,
                None if known is None else "Calculon",
                known,
                None if known is None else known / value,
                None if known is None else 1.0,
            )
        )
    made.append(timing.Row("8 measured iterations, held out", "mean_error", "", held.mean))
    made.append(timing.Row("8 measured iterations, held out", "worst_error", "", held.worst))
    return made

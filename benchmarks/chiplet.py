"""Designs and gradients per second, and errors on measured iterations, beside GPU models.

The peers: Calculon (github.com/calculon-ai/calculon, Apache-2.0) is no package: clone it and name
the folder in JAXML_PEER_CALCULON. llm-analysis (Apache-2.0): name the folder it is installed to in
JAXML_PEER_LLM_ANALYSIS. Without them their rows are missing. Both model GPUs only, so a design is
a training run that they know; all three answer "how long does a batch take".
"""

import importlib.util
import itertools
import logging
import os
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxml.chiplet import measured, speed
from jaxml.report import timing
from jaxml.report.timing import Row

MODES = {"full": 0, "seqsel": 1}


def _without(*names: str) -> None:
    """Empty modules for what only other commands of a peer import."""
    for name in names:
        if importlib.util.find_spec(name) is None:
            sys.modules[name] = types.ModuleType(name)


class Calculon:
    """The eight runs of its validation (tab5), in process, files read beforehand."""

    def __init__(self, folder: Path):
        sys.path.insert(0, str(folder))
        _without("pandas")
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


class LLMAnalysis:
    """One training run of OPT-175B on 64 A100, in process, configurations read beforehand."""

    def __init__(self, folder: Path):
        sys.path.insert(0, str(folder))
        _without("fire", "transformers")
        from llm_analysis import analysis, logger  # pyright: ignore[reportMissingImports]

        logger.logger.setLevel(logging.ERROR)
        self.analysis = analysis
        self.model = analysis.get_model_config_by_name("facebook_opt-175b")
        self.gpu = analysis.get_gpu_config_by_name("a100-sxm-80gb")

    def seconds(self, micro_batches: int) -> float:
        """Predicted seconds of a batch of so many sequences a pipeline."""
        split = self.analysis.ParallelismConfig(tp_size=8, pp_size=8, dp_size=1)
        run = self.analysis.LLMAnalysis(
            self.model,
            self.gpu,
            parallelism_config=split,
            flops_efficiency=0.5,
            hbm_memory_efficiency=0.8,
        )
        found = run.training(
            batch_size_per_gpu=1,
            gradient_accumulation_steps=micro_batches,
            seq_len=2048,
            total_num_tokens=2048 * micro_batches,
        )
        return found["latency_per_iter"]


PEERS: dict[str, tuple[str, Callable[[Path], Any], int, float]] = {
    "Calculon": ("JAXML_PEER_CALCULON", Calculon, 80, 3000.0),
    "llm-analysis": ("JAXML_PEER_LLM_ANALYSIS", LLMAnalysis, 400, 400.0),
}
"""The variable that names its folder, how it is opened, designs a call, the ratio asked for."""


def peers() -> dict[str, Any]:
    """Those whose folders are named."""
    found = {name: (os.environ.get(where), make) for name, (where, make, _, _) in PEERS.items()}
    return {name: make(Path(folder).resolve()) for name, (folder, make) in found.items() if folder}


def rows(smoke: bool) -> list[Row]:
    """Ours and the peers' calls alternate in one process."""
    others = peers()
    return [*_speed(smoke, others), *_errors(others.get("Calculon"))]


def _speed(smoke: bool, others: dict[str, Any]) -> list[Row]:
    n, goals = (2**13, (1e3, 1e3)) if smoke else (2**20, (1e6, 1e5))
    calls = {"reports": speed.sweep_call(n, 8192), "gradients": speed.slopes_call(n, 8192)}
    for name, other in others.items():
        calls[name] = _calls(other, 8 if smoke else PEERS[name][2])
    found = timing.alternate(calls, repeats=2 if smoke else 7)
    best, slopes = n / found["reports"].median, n / found["gradients"].median
    made = [
        _at_least("full reports", "designs_s", best, goals[0]),
        _at_least("time and 8 slopes", "gradients_s", slopes, goals[1]),
    ]
    for name in others:
        rate = (8 if smoke else PEERS[name][2]) / found[name].median
        goal = PEERS[name][3]
        made.append(Row("one batch", "designs_s", "/s", best, name, rate, best / rate, goal))
    return made


def _at_least(case: str, metric: str, value: float, goal: float) -> Row:
    return Row(case, metric, "/s", value, "goal", goal, value / goal, 1.0)


def _at_most(case: str, metric: str, value: float, goal: float) -> Row:
    return Row(case, metric, "", value, "goal", goal, goal / value, 1.0)


def _calls(other: Any, times: int) -> Callable[[], Any]:
    turn = itertools.count(1)
    return lambda: [other.seconds(next(turn) % 64 + 1) for _ in range(times)]


def _errors(calculon: Calculon | None) -> list[Row]:
    """On the eight measured iterations, fitted and held out."""
    fitted, held = measured.fit_iterations()
    theirs: dict[str, float] = {}
    if calculon is not None:
        _, _, seconds, _ = measured.iterations()
        off = [abs(calculon.seconds(i) / seconds[i] - 1) for i in range(len(seconds))]
        theirs = {"mean": sum(off) / len(off), "worst": max(off)}
    case, made = "8 measured iterations", []
    for kind, value in (("mean", fitted.mean), ("worst", fitted.worst)):
        row = Row(case, f"{kind}_error", "", value)
        if kind in theirs:
            off = theirs[kind]
            row = Row(case, row.metric, "", value, "Calculon", off, off / value, 1.0)
        made.append(row)
    held_out = f"{case}, held out"
    made.append(_at_most(held_out, "mean_error", held.mean, 0.05))
    return [*made, _at_most(held_out, "worst_error", held.worst, 0.10)]

"""A step of NoisyCGD beside torch's vmap(grad), jax_privacy and Opacus' ghost clipping.

`JAXML_PEERS_DP` names a Python that has torch, opacus and jax-privacy (`venv/bin/python`); a peer
that it lacks is left out. `JAXML_PEERS_DP_PATH` is put on its path, for packages carried along.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

from jaxml.dp import gdp
from jaxml.report import timing

HERE = Path(__file__).resolve().parent
GOALS = {"torch-vmap": 30.0, "jax-privacy": 50.0, "opacus-ghost": 3.0}


class _Worker:
    """A process that answers `run`."""

    def __init__(self, python: str, name: str, path: str, case: dict):
        env = {**os.environ, "PYTHONPATH": path, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
        run = [python, str(HERE / "peers" / "dp_worker.py"), name]
        quiet = subprocess.DEVNULL if name != "jaxml" else None
        self._process = subprocess.Popen(
            run, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=quiet, text=True, env=env
        )
        self.ready = self._ask(json.dumps(case)) is not None

    def _ask(self, line: str) -> dict | None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return None
        answer = self._process.stdout.readline()
        return json.loads(answer) if answer else None

    def run(self) -> float:
        """Seconds of a step."""
        answer = self._ask("run")
        assert answer is not None
        return answer["seconds"]

    def close(self) -> None:
        """Ends the process."""
        self._process.communicate()


def rows(smoke: bool) -> list[timing.Row]:
    """Same b, d, P, K for all; the network of Opacus has as many parameters."""
    sizes = {"b": 16, "d": 20, "p": 4, "k": 3} if smoke else {"b": 256, "d": 784, "p": 100, "k": 10}
    large = sizes if smoke else {"b": 1000, "d": 784, "p": 128, "k": 10}
    found = []
    for peer, case in (("torch-vmap", sizes), ("jax-privacy", sizes), ("opacus-ghost", large)):
        for mode in ("envelope", "flat"):
            found += _pair(peer, {**case, "mode": mode, "inner": 1 if smoke else 3}, smoke)
    return [*found, _accounting()]


def _pair(peer: str, case: dict, smoke: bool) -> list[timing.Row]:
    name = f"{case['mode']} b{case['b']} d{case['d']} P{case['p']} K{case['k']}"
    ours = _Worker(
        sys.executable, "jaxml", os.pathsep.join(map(str, (HERE.parent, HERE.parent / "kernels"))),
        case,
    )  # fmt: skip
    python = os.environ.get("JAXML_PEERS_DP")
    path = os.environ.get("JAXML_PEERS_DP_PATH", "")
    sides = {"jaxml": ours}
    if python:
        theirs = _Worker(python, peer, path, {**case, "inner": 1})
        if theirs.ready:
            sides[peer] = theirs
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(2 if smoke else 5):
        for side, worker in sides.items():
            seconds[side].append(worker.run())
    for worker in sides.values():
        worker.close()
    times = {side: timing.Timing(tuple(values)) for side, values in seconds.items()}
    if peer not in times:
        return [timing.Row(name, "step_ms", "ms", 1e3 * times["jaxml"].median, peer)]
    return [timing.faster(name, "step_ms", times["jaxml"], peer, times[peer], GOALS[peer])]


def _accounting() -> timing.Row:
    def once() -> float:
        return gdp.gdp_epsilon(gdp.noisy_cgd_mu(1 - 5.4e-5, 60, 400, 0.4), 1e-5)

    found = timing.alternate({"ours": once}, repeats=50)["ours"]
    return timing.Row("mu and epsilon", "account_ms", "ms", 1e3 * found.median)

"""A step of NoisyCGD beside torch's vmap(grad), jax_privacy and Opacus' ghost clipping.

`JAXML_PEERS_DP` names a Python that has torch, opacus and jax-privacy (`venv/bin/python`); a peer
that it lacks is left out. `JAXML_PEERS_DP_PATH` is put on its path, for packages carried along.
Several steps follow one another without the host between them, as in a training; a loop that only
scales the parameters is timed too.
"""

import os
import sys
from pathlib import Path

import jax

from benchmarks.peers.worker import Worker
from jaxml.dp import gdp
from jaxml.report import timing

HERE = Path(__file__).resolve().parent
GOALS = {"torch-vmap": 30.0, "jax-privacy": 50.0, "opacus-ghost": 3.0}


def _on_gpu() -> bool:
    return jax.default_backend() == "gpu"


def _worker(python: str, name: str, path: str, case: dict) -> Worker | None:
    env = {**os.environ, "PYTHONPATH": path, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    command = [python, str(HERE / "peers" / "dp_worker.py"), name]
    made = Worker(command, env, quiet=name != "jaxml")
    return made if made.ask(case) is not None else None


def rows(smoke: bool) -> list[timing.Row]:
    """Same b, d, P, K for all; the network of Opacus has as many parameters."""
    sizes = {"b": 16, "d": 20, "p": 4, "k": 3} if smoke else {"b": 256, "d": 784, "p": 100, "k": 10}
    large = sizes if smoke else {"b": 1000, "d": 784, "p": 128, "k": 10}
    inner = 1 if smoke else 100 if _on_gpu() else 3
    found = []
    for peer, case in (("torch-vmap", sizes), ("jax-privacy", sizes), ("opacus-ghost", large)):
        for mode in ("envelope", "flat"):
            found += _pair(peer, {**case, "mode": mode, "inner": inner}, smoke)
    return [*found, _loop({**sizes, "inner": inner}), _accounting()]


def _pair(peer: str, case: dict, smoke: bool) -> list[timing.Row]:
    name = f"{case['mode']} b{case['b']} d{case['d']} P{case['p']} K{case['k']}"
    carried = os.environ.get("PYTHONPATH", "")
    own = os.pathsep.join(map(str, (HERE.parent, HERE.parent / "kernels", carried)))
    sides = {"jaxml": _worker(sys.executable, "jaxml", own, case)}
    if python := os.environ.get("JAXML_PEERS_DP"):
        theirs = {**case, "inner": case["inner"] if _on_gpu() else 1}
        sides[peer] = _worker(python, peer, os.environ.get("JAXML_PEERS_DP_PATH", ""), theirs)
    sides = {side: worker for side, worker in sides.items() if worker is not None}
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(2 if smoke else 5):
        for side, worker in sides.items():
            seconds[side].append(worker.run()["seconds"])
    for worker in sides.values():
        worker.close()
    times = {side: timing.Timing(tuple(values)) for side, values in seconds.items()}
    if peer not in times:
        return [timing.Row(name, "step_ms", "ms", 1e3 * times["jaxml"].median, peer)]
    return [timing.faster(name, "step_ms", times["jaxml"], peer, times[peer], GOALS[peer])]


def _loop(case: dict) -> timing.Row:
    """What a step takes that only scales the parameters: no ratio can be larger than to this."""
    worker = _worker(sys.executable, "nothing", os.environ.get("PYTHONPATH", ""), case)
    assert worker is not None
    seconds = [worker.run()["seconds"] for _ in range(5)]
    worker.close()
    return timing.Row("the loop alone", "step_ms", "ms", 1e3 * min(seconds))


def _accounting() -> timing.Row:
    def once() -> float:
        return gdp.gdp_epsilon(gdp.noisy_cgd_mu(1 - 5.4e-5, 60, 400, 0.4), 1e-5)

    found = timing.alternate({"ours": once}, repeats=50)["ours"]
    return timing.Row("mu and epsilon", "account_ms", "ms", 1e3 * found.median)

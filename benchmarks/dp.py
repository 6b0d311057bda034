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
MODES = ("envelope", "flat")
GOALS = {"torch-vmap": 30.0, "jax-privacy": 50.0, "opacus-ghost": 3.0}


def _on_gpu() -> bool:
    return jax.default_backend() == "gpu"


def _worker(python: str, name: str, path: str) -> Worker:
    env = {**os.environ, "PYTHONPATH": path, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    command = [python, str(HERE / "peers" / "dp_worker.py"), name]
    return Worker(command, env, quiet=name not in ("jaxml", "nothing"))


def _own_path() -> str:
    carried = os.environ.get("PYTHONPATH", "")
    return os.pathsep.join(map(str, (HERE.parent, HERE.parent / "kernels", carried)))


def rows(smoke: bool) -> list[timing.Row]:
    """Same b, d, P, K for all; the network of Opacus has as many parameters."""
    sizes = {"b": 16, "d": 20, "p": 4, "k": 3} if smoke else {"b": 256, "d": 784, "p": 100, "k": 10}
    large = sizes if smoke else {"b": 1000, "d": 784, "p": 128, "k": 10}
    inner = 1 if smoke else 100 if _on_gpu() else 3
    found = []
    for peer, case in (("torch-vmap", sizes), ("jax-privacy", sizes), ("opacus-ghost", large)):
        found += _beside(peer, {**case, "inner": inner}, smoke)
    return [*found, _loop({**sizes, "inner": inner}), _accounting()]


def _beside(peer: str, case: dict, smoke: bool) -> list[timing.Row]:
    """A row for each mode of clipping, all timed in turns with the peer."""
    sides = {m: (_worker(sys.executable, "jaxml", _own_path()), {**case, "mode": m}) for m in MODES}
    if python := os.environ.get("JAXML_PEERS_DP"):
        theirs = {**case, "inner": case["inner"] if _on_gpu() else 1}
        sides[peer] = _worker(python, peer, os.environ.get("JAXML_PEERS_DP_PATH", "")), theirs
    for worker, how in sides.values():
        worker.tell(how)  # all get ready side by side
    workers = {side: worker for side, (worker, _) in sides.items() if worker.answer() is not None}
    seconds: dict[str, list[float]] = {side: [] for side in workers}
    for _ in range(2 if smoke else 5):
        for side, worker in workers.items():
            seconds[side].append(worker.run()["seconds"])
    for worker in workers.values():
        worker.close()
    times = {side: timing.Timing(tuple(values)) for side, values in seconds.items()}
    found = []
    for mode in MODES:
        name = f"{mode} b{case['b']} d{case['d']} P{case['p']} K{case['k']}"
        if peer in times:
            row = timing.faster(name, "step_ms", times[mode], peer, times[peer], GOALS[peer])
        else:
            row = timing.Row(name, "step_ms", "ms", 1e3 * times[mode].median, peer)
        found.append(row)
    return found


def _loop(case: dict) -> timing.Row:
    """What a step takes that only scales the parameters: no ratio can be larger than to this."""
    worker = _worker(sys.executable, "nothing", os.environ.get("PYTHONPATH", ""))
    worker.ask(case)
    seconds = [worker.run()["seconds"] for _ in range(5)]
    worker.close()
    return timing.Row("the loop alone", "step_ms", "ms", 1e3 * min(seconds))


def _accounting() -> timing.Row:
    def once() -> float:
        return gdp.gdp_epsilon(gdp.noisy_cgd_mu(1 - 5.4e-5, 60, 400, 0.4), 1e-5)

    found = timing.alternate({"ours": once}, repeats=50)["ours"]
    return timing.Row("mu and epsilon", "account_ms", "ms", 1e3 * found.median)

"""CCA Merge's covariances and alignment, and weight matching, beside the published programs.

`JAXML_PEERS_MERGE` names a folder with the checkouts `align-n-merge` and `git-re-basin` and, for
the first, an environment `venv` with torch. Without it the peers' columns stay empty.
"""

import os
import sys
import types
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from benchmarks.peers.worker import Worker
from jaxml.core import tree
from jaxml.merge import basis, network, weights
from jaxml.merge.align import permutation
from jaxml.models import mlp
from jaxml.report import timing

HERE = Path(__file__).resolve().parent
GOALS = {2: None, 5: 2.5, 10: 4.5}


def rows(smoke: bool) -> list[timing.Row]:
    """Peers: align-n-merge on torch, git-re-basin on jax; alternating runs, the same inputs."""
    folder = os.environ.get("JAXML_PEERS_MERGE")
    peers = Path(folder) if folder else None
    counts, case = (2, 5, 10), {"d": 512, "nodes": 8, "samples": 4096, "batches": 2}
    if smoke:
        counts, case = (2,), {"d": 64, "nodes": 1, "samples": 256, "batches": 2}
    case["nodes"] = int(os.environ.get("JAXML_MERGE_NODES", case["nodes"]))
    found = [row for n in counts for row in _covariance(peers, {"n": n, **case}, smoke)]
    return found + _matching(peers, smoke)


def _worker(python: str, name: str, path: list[Path], case: dict) -> Worker:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path)), "XLA_FLAGS": ""}
    made = Worker([python, str(HERE / "peers" / "merge_worker.py"), name], env)
    made.tell(case)
    return made


def _covariance(peers: Path | None, case: dict, smoke: bool) -> list[timing.Row]:
    n = case["n"]
    name = f"N{n} d{case['d']} nodes {case['nodes']} samples {case['samples'] * case['batches']}"
    ours = _worker(sys.executable, "jaxml", [HERE.parent, HERE.parent / "kernels"], case)
    sides = {"jaxml": ours}
    if peers is not None:
        core = peers / "align-n-merge" / "core"
        python = str(peers / "venv" / "bin" / "python")
        sides["align-n-merge"] = _worker(python, "align-n-merge", [core], case)
    for side in sides.values():
        side.run()  # compiles, warms up
    answers: dict[str, list[dict]] = {side: [] for side in sides}
    for _ in range(2 if smoke else 5):
        for side, worker in sides.items():
            answers[side].append(worker.run())
    for side in sides.values():
        side.close()
    times = {s: timing.Timing(tuple(a["seconds"] for a in got)) for s, got in answers.items()}
    memory = {s: got[-1]["mb"] for s, got in answers.items()}
    if peers is None:
        return [timing.Row(name, "covariance_and_align_ms", "ms", 1e3 * times["jaxml"].median)]
    peer, corners = "align-n-merge", [np.array(answers[s][0]["corner"]) for s in sides]
    gap = float(np.abs(corners[0] - corners[1]).max() / np.abs(corners[1]).max())
    return [
        timing.faster(
            name, "covariance_and_align_ms", times["jaxml"], peer, times[peer], GOALS[n]
        ),
        timing.Row(
            name, "memory_mb", "MB", memory["jaxml"], peer, memory[peer],
            memory[peer] / max(memory["jaxml"], 1e-3), 3.0 if n == 10 else None,
        ),
        timing.Row(name, "transform_gap", "relative", gap, peer, 0.0),
    ]  # fmt: skip


def _matching(peers: Path | None, smoke: bool) -> list[timing.Row]:
    """An MLP of git-re-basin's MNIST experiment: three hidden layers of 512."""
    width = 32 if smoke else 512
    cfg = mlp.MlpConfig(784, (width,) * 3, 10)
    net = network.of_mlp(cfg)
    models = [{"params": mlp.init(jax.random.key(k), cfg)} for k in range(2)]
    ours = jax.tree.map(np.asarray, models)
    name = f"weight matching 784-{width}x3-10"

    def run_ours():
        return weights.weight_matching(net.spec, *ours, seed=0)

    if peers is None:
        found = timing.alternate({"jaxml": run_ours}, repeats=3)["jaxml"]
        return [timing.Row(name, "match_ms", "ms", 1e3 * found.median)]
    # Their helpers need an older jax; weight matching takes one function of them.
    helpers = types.ModuleType("utils")
    vars(helpers)["rngmix"] = lambda key, x: jax.random.fold_in(key, hash(x))
    sys.modules["utils"] = helpers
    sys.path.insert(0, str(peers / "git-re-basin" / "src"))
    import weight_matching as theirs

    spec = theirs.mlp_permutation_spec(3)
    flat = [_dense(m["params"]) for m in models]

    def run_theirs():
        return theirs.weight_matching(jax.random.key(0), spec, *flat, silent=True)

    times = timing.alternate({"jaxml": run_ours, "peer": run_theirs}, repeats=3 if smoke else 5)
    orders = run_ours(), {f"layer{i}": np.asarray(run_theirs()[f"P_{i}"]) for i in range(3)}
    values = [
        weights.agreement(
            models[0],
            basis.apply_alignment(
                net.spec, models[1], {n: permutation(o) for n, o in found.items()}
            ),
        )
        for found in orders
    ]
    peer, alone = "git-re-basin", _assignments(run_ours)
    return [
        timing.faster(name, "match_ms", times["jaxml"], peer, times["peer"], 3.0),
        timing.faster(name, "match_ms", times["jaxml"], "its assignments alone", alone),
        timing.Row(name, "objective", "inner product", values[0], peer, values[1],
                   values[0] / values[1], 1.0),
    ]  # fmt: skip


def _assignments(run: Callable[[], object]) -> timing.Timing:
    """Seconds that the linear assignments (SciPy's, as the peer's) of a run take by themselves."""
    solve, costs = weights.assign, []

    def noted(scores: np.ndarray) -> np.ndarray:
        costs.append(scores.copy())
        return solve(scores)

    weights.assign = noted
    try:
        run()
    finally:
        weights.assign = solve
    return timing.alternate({"alone": lambda: [solve(c) for c in costs]}, repeats=5)["alone"]


def _dense(params: dict) -> dict:
    """Parameters under git-re-basin's names."""
    named = tree.flatten(params)
    return {name.replace("layer", "Dense_"): leaf for name, leaf in named.items()}

"""Taillard's 80 instances, best of 512, beside the reference on the same device.

    python benchmarks/jsp-taillard.py OUT.json jsp_benchmarks.json.gz

Needs jax, numpy and, for the peer, `JAXML_PEER_JSP` (a Python with torch and torch_geometric) and
`JAXML_PEER_JSP_CODE` (a checkout of the reference); `JAXML_PEER_DEVICE=cuda` puts it on the GPU.
One instance of each of the eight shapes is timed, by both, in alternation, and counts for its ten.
"""

import os
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "kernels")]

import jax  # noqa: E402
import numpy as np  # noqa: E402

from benchmarks.peers.worker import Worker  # noqa: E402
from jaxml.jsp import policy, problem, published, rollout  # noqa: E402
from jaxml.jsp.config import SPNConfig  # noqa: E402
from jaxml.report import timing  # noqa: E402

SAMPLES, EACH, REPEATS = 512, 10, 2
FIRST = tuple(f"ta{i:02d}" for i in range(1, 81, EACH))
GOAL = 10.0


def rows(smoke: bool, path: str | None = None) -> list[timing.Row]:
    """A row per shape, and one of the whole."""
    if path is None:
        print("jsp-taillard: needs a benchmark file; nothing timed")
        return []
    shops = {shop.name: shop for shop in published.instances_of(Path(path))}
    params, cfg = policy.shipped(), SPNConfig()
    found, whole = [], {"jaxml": 0.0, "reference": 0.0}
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "weights.npz"
        np.savez(weights, **policy.torch_arrays_from_params(params))  # pyright: ignore
        python, code = (os.environ.get(f"JAXML_PEER_JSP{x}") for x in ("", "_CODE"))
        command = [python or "", str(HERE / "peers" / "jsp_worker.py"), str(weights), code or ""]
        peer = Worker(command) if python else None
        for name in FIRST[:1] if smoke else FIRST:
            shop = shops[name]
            ours, theirs = _seconds(shop, params, cfg, peer)
            case = f"Taillard {'x'.join(map(str, shop.shape))}, best of {SAMPLES}"
            whole["jaxml"] += EACH * ours
            if theirs is None:
                found.append(timing.Row(case, "seconds", "s per instance", ours))
                continue
            whole["reference"] += EACH * theirs
            found.append(
                timing.Row(case, "seconds", "s per instance", ours, "reference (PyTorch)", theirs,
                           theirs / ours, GOAL)
            )  # fmt: skip
            print(timing.table(found[-1:]), flush=True)
        if peer is not None:
            peer.close()
    ours, theirs = whole["jaxml"], whole["reference"] or None
    ratio = None if theirs is None else theirs / ours
    case = f"Taillard, 80 instances, best of {SAMPLES}, one of each shape times {EACH}"
    name = None if theirs is None else "reference (PyTorch)"
    return [*found, timing.Row(case, "seconds", "s", ours, name, theirs, ratio, GOAL)]


def _seconds(shop, params, cfg: SPNConfig, peer: Worker | None) -> tuple[float, float | None]:
    """Seconds of the best of 512, ours (compiled before) and the peer's."""
    one, ones = problem.from_instance(shop), np.ones(SAMPLES, np.float32)
    draw = rollout.compiled(cfg, shop.shape, SAMPLES)
    ours, theirs = [], []
    for i in range(REPEATS + 1):
        keys = rollout.sample_keys(jax.random.key(i), SAMPLES)
        seconds = timing.once(lambda keys=keys: draw(params, one, keys, ones))
        answer = None
        if peer is not None:
            request = {"machines": shop.machines.tolist(), "durations": shop.durations.tolist()}
            answer = peer.ask({**request, "task": "sample", "samples": SAMPLES, "seed": i})
        if i:  # the first call compiles, the peer's warms up
            ours.append(seconds)
            theirs += [] if answer is None else [answer["seconds"]]
    return float(np.median(ours)), float(np.median(theirs)) if theirs else None


if __name__ == "__main__":
    table = rows(False, sys.argv[2])
    print(timing.table(table))
    timing.write(sys.argv[1], table)

"""Job shops: sampling against the reference's loop, solving against CP-SAT.

Both peers run from an environment of their own (`JAXML_PEER_JSP`: its Python, with torch,
torch_geometric and ortools; `JAXML_PEER_JSP_CODE`: a checkout of the reference), alternating with
ours, on the same instances and, for sampling, the same weights. Without them a row has no peer.
"""

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.peers.worker import Worker
from jaxml.jsp import benchmark, decoder, policy, problem, rollout
from jaxml.jsp.config import SPNConfig
from jaxml.jsp.instance import JSPInstance
from jaxml.jsp.solve import SolveConfig, solve
from jaxml.report import timing

WORKER = Path(__file__).parent / "peers" / "jsp_worker.py"


class Peer:
    """A process of the peers' environment, or nothing where there is none."""

    def __init__(self, weights: Path):
        python, code = (os.environ.get(f"JAXML_PEER_JSP{x}") for x in ("", "_CODE"))
        command = [python or "", str(WORKER), str(weights), code or ""]
        self._worker = Worker(command) if python else None

    def ask(self, **request: Any) -> Any:
        """The answer, or None without a peer."""
        return None if self._worker is None else self._worker.ask(request)

    def close(self) -> None:
        """Ends the process."""
        if self._worker is not None:
            self._worker.close()


def _request(shop: JSPInstance, **more):
    return {"machines": shop.machines.tolist(), "durations": shop.durations.tolist(), **more}


def sampling_row(peer: Peer, params, cfg: SPNConfig, shop: JSPInstance, samples: int, repeats: int):
    """Solutions per second: instance to makespans, encoding included, compiling not."""
    one = problem.from_instance(shop)
    draw = rollout.compiled(cfg, shop.shape, samples)
    ones, ours, theirs = np.ones(samples, np.float32), [], []
    for i in range(repeats + 1):
        keys = rollout.sample_keys(jax.random.key(i), samples)
        seconds = timing.once(lambda keys=keys: draw(params, one, keys, ones))
        answer = peer.ask(**_request(shop, task="sample", samples=samples, seed=i))
        if i:
            ours.append(samples / seconds)
            theirs += [] if answer is None else [samples / answer["seconds"]]
    mine, other = float(np.median(ours)), float(np.median(theirs)) if theirs else None
    case = f"{shop.name} {'x'.join(map(str, shop.shape))} {samples} samples"
    name = None if other is None else "reference (PyTorch)"
    ratio = None if other is None else mine / other
    return timing.Row(case, "solutions", "1/s", mine, name, other, ratio, 30.0)


def bound_row(params, cfg: SPNConfig, shop: JSPInstance, samples: int, repeats: int):
    """Solutions per second if the decoder's two wide products were all the work."""
    jobs, steps = shop.shape[0], shop.durations.size
    folded = decoder.fold(params["decoder"], cfg)
    start = jax.random.normal(jax.random.key(0), (samples * jobs, folded.mix.shape[0]))

    @jax.jit
    def products(x: jax.Array) -> jax.Array:
        def step(_: Any, x: jax.Array) -> jax.Array:
            made = jax.nn.relu(x @ folded.mix) @ folded.hidden
            return x + 1e-9 * made[:, :1]  # so that no step can be left out

        return jax.lax.fori_loop(0, steps, step, x)

    seconds = [timing.once(lambda: products(start)) for _ in range(repeats + 1)][1:]
    case = f"{shop.name} {'x'.join(map(str, shop.shape))} {samples} samples"
    return timing.Row(f"{case}, two products alone", "solutions", "1/s", samples / min(seconds))


def solving_rows(peer: Peer, params, cfg: SPNConfig, shops: list[JSPInstance], seconds: float):
    """Makespans after equal wall time: half sampling and polishing here, CP-SAT with 2 workers."""
    found = []
    for shop in shops:
        solve(shop, params, cfg, SolveConfig(samples=64, polish_s=0.01))  # compiles
        begun = time.perf_counter()
        drawn = solve(shop, params, cfg, SolveConfig(samples=64, polish_s=0.0))
        left = max(seconds - (time.perf_counter() - begun), 0.05)
        ours = solve(shop, params, cfg, SolveConfig(samples=64, polish_s=left))
        answer = peer.ask(**_request(shop, task="cp_sat", limit=seconds))
        case = f"{shop.name} {'x'.join(map(str, shop.shape))} in {seconds:g} s"
        value = min(ours.makespan, drawn.makespan)
        if answer is None:
            found.append(timing.Row(case, "makespan", "", float(value)))
            continue
        other = float(answer["makespan"])
        found.append(
            timing.Row(case, "makespan", "", float(value), "CP-SAT", other, other / value, None)
        )
    return found


def rows(smoke: bool) -> list[timing.Row]:
    """Sampling speed on 15x15 to 30x20, then makespans at equal time from 15x15 to 100x20."""
    cfg = SPNConfig(feature_version="reference")
    params = policy.init_params(jax.random.key(0), cfg)
    names = ("ft06",) if smoke else ("ta01", "ta11", "ta21", "ta41")
    samples, repeats = (4, 1) if smoke else (128, 3)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.npz"
        np.savez(path, **policy.torch_arrays_from_params(params))  # pyright: ignore
        peer = Peer(path)
        shops = [entry.instance for entry in benchmark.load(names)]
        found = [sampling_row(peer, params, cfg, s, samples, repeats) for s in shops]
        found += [bound_row(params, cfg, s, samples, repeats) for s in shops]
        if not smoke:
            names = ("ta01", "ta21", "ta31", "ta41", "ta51", "ta61", "ta71")
            shops = [entry.instance for entry in benchmark.load(names)]
            found += solving_rows(peer, policy.shipped(), SPNConfig(), shops, 2.0)
        peer.close()
    return found


if __name__ == "__main__":
    print(timing.table(rows("--smoke" in sys.argv)))

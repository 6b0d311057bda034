"""Designs and gradients per second, and the billion-design sweep of a GPU.

`python -m jaxml.chiplet.speed FOLDER` runs the sweep on whatever device jax finds and writes
FOLDER/chiplet-sweep.json. It needs jax and numpy, no data.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh

from jaxml.chiplet import presets
from jaxml.chiplet.frontier import Frontier, exhaustive, frontier, values_at
from jaxml.chiplet.sweep import sweep, sweep_slopes
from jaxml.core import files

MODEL = presets.MODELS["llama2-70b"]
SIDES = (8.0, 12.0, 16.0, 24.0, 32.0, 48.0)
MIB = 2.0**20


def axes(num_designs: int) -> dict[str, np.ndarray]:
    """A grid of about so many designs: mesh, links, dies, buffers; the last axis fills it up."""
    made = {
        "mesh.rows": np.array(SIDES),
        "mesh.cols": np.array(SIDES),
        "die.num_arrays": np.array([1.0, 2.0, 4.0, 8.0, 16.0]),
        "die.activation_sram_bytes": MIB * np.array([2.0, 4.0, 8.0, 16.0]),
        "die.weight_sram_bytes": MIB * np.array([8.0, 12.0, 16.0, 20.0, 32.0]),
    }
    left = num_designs / np.prod([len(v) for v in made.values()])
    fine = max(2, round(left ** (1 / 3)))
    # Steps of a power of two keep every value the same number in float32 and float64.
    made["die.clock_hz"] = _whole(np.geomspace(0.5e9, 2e9, fine))
    made["link.latency_s"] = _whole(np.linspace(5e-9, 40e-9, fine))
    made["link.bandwidth_bytes_s"] = _whole(np.geomspace(8e9, 256e9, max(2, round(left / fine**2))))
    return made


def _whole(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float32).astype(np.float64)


def random_designs(n: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Designs drawn from a grid of a billion, as arrays [n]."""
    table = axes(10**9)
    total = int(np.prod([len(v) for v in table.values()]))
    return values_at(table, np.random.default_rng(seed).integers(0, total, n))


def device_mesh() -> Mesh | None:
    """All devices in a row, or None for one."""
    devices = jax.devices()
    if len(devices) == 1:
        return None
    return jax.make_mesh((len(devices),), ("designs",), axis_types=(AxisType.Auto,))


def sweep_call(n: int, chunk: int) -> Callable[[], Any]:
    """A full report of n designs, in exact mode, over all devices."""
    values, mesh = random_designs(n), device_mesh()
    return lambda: sweep(MODEL, presets.paper_v1(), values, chunk=chunk, mesh=mesh)


def slopes_call(n: int, chunk: int) -> Callable[[], Any]:
    """Time and its gradient in all swept numbers, for n designs."""
    values, mesh = random_designs(n), device_mesh()
    return lambda: sweep_slopes(MODEL, presets.paper_v1(), values, chunk=chunk, mesh=mesh)


def agreement(n: int = 100_000) -> dict[str, float]:
    """Largest relative differences of float32 on this device to float64 on the host."""
    values = random_designs(n, seed=1)
    low = jax.tree.map(np.asarray, sweep(MODEL, presets.paper_v1(), values, chunk=n))
    with jax.enable_x64(True), jax.default_device(jax.devices("cpu")[0]):
        high = jax.tree.map(np.asarray, sweep(MODEL, presets.paper_v1(), values))
    names = ("time_s", "energy_j", "mfu", "byte_hops", "dram_bytes", "chunk_limit")
    found = {
        name: float(np.max(np.abs(getattr(low, name) / getattr(high, name) - 1))) for name in names
    }
    return found | {"feasible_differs": float((low.feasible != high.feasible).sum())}


def exact_front(num_designs: int = 100_000, against: str = "energy_j") -> tuple[bool, int]:
    """Whether the streamed front of a grid equals that of the whole grid in float64; its size."""
    table = axes(num_designs)
    found = frontier(MODEL, presets.paper_v1(), table, against=against, chunk=2**14, rounds=4)
    want, _ = exhaustive(MODEL, presets.paper_v1(), table, against=against)
    return sorted(found.indices.tolist()) == sorted(want.tolist()), len(want)


def big_front(num_designs: int, against: str, chunk: int, rounds: int) -> Frontier:
    """The front of a large grid."""
    system, table = presets.paper_v1(), axes(num_designs)
    return frontier(MODEL, system, table, against=against, chunk=chunk, rounds=rounds)


def measure(num_designs: int = 10**9, chunk: int = 2**21, rounds: int = 16) -> dict[str, Any]:
    """The sweep of a GPU: speed, exactness, fronts."""
    record: dict[str, Any] = {"device": jax.devices()[0].device_kind, "jax": jax.__version__}
    record["float32_against_float64"] = agreement()
    for against in ("energy_j", "area_mm2"):
        same, size = exact_front(against=against)
        record[f"front_{against}"] = {"equals_float64_on_100000": same, "points": size}
        began = time.perf_counter()
        found = big_front(num_designs, against, chunk, rounds)
        record[f"front_{against}"] |= {
            "designs": found.num_designs,
            "feasible": found.num_feasible,
            "survivors": found.num_survivors,
            "seconds": found.seconds,
            "wall_s": time.perf_counter() - began,
            "designs_s": found.designs_s,
            "time_s": found.time_s.tolist(),
            "cost": found.cost.tolist(),
            "values": {path: v.tolist() for path, v in found.values.items()},
        }
    calls = {"reports_s": sweep_call(2**22, 2**22), "gradients_s": slopes_call(2**21, 2**21)}
    for name, n in (("reports_s", 2**22), ("gradients_s", 2**21)):
        jax.block_until_ready(calls[name]())
        seconds = []
        for _ in range(5):
            start = time.perf_counter()
            jax.block_until_ready(calls[name]())
            seconds.append(time.perf_counter() - start)
        record[name] = n / float(np.median(seconds))
    return record


def main(folder: str, num_designs: int = 10**9) -> None:
    """Measures and writes FOLDER/chiplet-sweep.json."""
    record = measure(num_designs)
    files.write_text(Path(folder) / "chiplet-sweep.json", json.dumps(record, indent=1) + "\n")
    short = {k: v for k, v in record.items() if not k.startswith("front")}
    print(json.dumps(short, indent=1))
    for against in ("energy_j", "area_mm2"):
        front = record[f"front_{against}"]
        print(against, {k: v for k, v in front.items() if k not in ("time_s", "cost", "values")})


if __name__ == "__main__":
    main(sys.argv[1], int(float(sys.argv[2])) if len(sys.argv) > 2 else 10**9)

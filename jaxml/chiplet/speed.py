"""Designs and gradients per second, and the billion-design sweep of a GPU.

`python -m jaxml.chiplet.speed FOLDER` runs the sweep on whatever device jax finds and writes
FOLDER/chiplet-sweep.json. It needs jax and numpy, no data.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh

from jaxml.chiplet import presets
from jaxml.chiplet.frontier import Frontier, exhaustive, frontier, values_at
from jaxml.chiplet.sweep import prepared, sweep, sweep_slopes
from jaxml.report import timing
from jaxml.report.timing import Row

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
    """A full report of n designs, exact, over all devices; inputs and reports lie on them."""
    return prepared(MODEL, presets.paper_v1(), random_designs(n), chunk=chunk, mesh=device_mesh())


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


def measure(num_designs: int = 10**9, chunk: int = 2**21, rounds: int = 16) -> list[Row]:
    """The sweep of a GPU: exactness, fronts of a large grid, designs and gradients per second."""
    off = agreement()
    rows = [Row(f"float32 against float64: {name}", "difference", "", v) for name, v in off.items()]
    for against in ("energy_j", "area_mm2"):
        same, size = exact_front(against=against)
        case = f"front of time and {against}, {size} points of 100,000 designs"
        rows.append(Row(case, "equals_float64", "", float(same), "goal", 1.0, float(same), 1.0))
        found = big_front(num_designs, against, chunk, rounds)
        case = (
            f"front of time and {against}, {len(found.indices)} points of {num_designs:.0e} designs"
        )
        rows += [
            Row(case, "designs_s", "/s", found.designs_s, "goal", 1e8, found.designs_s / 1e8, 1.0),
            Row(case, "survivors", "", found.num_survivors),
            Row(case, "seconds", "s", found.seconds),
        ]
    calls = {
        "full report": sweep_call(2**22, 2**22),
        "time and 8 slopes": slopes_call(2**21, 2**21),
    }
    seconds = timing.alternate(calls, repeats=7)
    best, slopes = (
        2**22 / seconds["full report"].median,
        2**21 / seconds["time and 8 slopes"].median,
    )
    rows.append(Row("full report", "designs_s", "/s", best, "goal", 1e8, best / 1e8, 1.0))
    rows.append(Row("time and 8 slopes, copies included", "gradients_s", "/s", slopes))
    return rows


def main(folder: str, num_designs: int = 10**9) -> None:
    """Measures, prints and writes FOLDER/chiplet-sweep.json, in the form of a results file."""
    rows = measure(num_designs)
    timing.write(Path(folder) / "chiplet-sweep.json", rows)
    print(timing.table(rows))


if __name__ == "__main__":
    main(sys.argv[1], int(float(sys.argv[2])) if len(sys.argv) > 2 else 10**9)

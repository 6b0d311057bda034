"""Measurements that predictions are checked against.

Seconds per iteration on NVIDIA Selene (A100-80GB), published in arXiv 2205.05198, table 5; as
transcribed in Calculon (Apache-2.0). Times of products and all-reduces on A100 come with the data
set `chiplet_measured` (LLMCompass, BSD-3-Clause, (c) 2024 Princeton University).
"""

import csv
import io
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxml.chiplet.config import ModelShape
from jaxml.chiplet.fit import Fit, fit, leave_one_out
from jaxml.chiplet.gpu import GpuConfig, GpuPlan, iteration_s
from jaxml.inputs import source

# model: width, heads, layers, tensor, pipeline, interleave, batch, micro-batch, full, selective
_ITERATIONS = """
megatron-22B   6144  48 64 8  1 1   4 4  1.42  1.10
gpt3-175B     12288  96 96 8  8 3  64 1 18.13 13.75
turing-530B   20480 105 128 8 35 3 280 1 49.05 37.83
megatron-1T   25600 128 160 8 64 1 512 1 94.42 71.49
"""
CALCULON_ERROR = {"mean": 0.0365, "worst": 0.0887}
"""Calculon's own errors on these eight iterations, as its validation prints them."""


def iterations() -> tuple[ModelShape, GpuPlan, np.ndarray, list[str]]:
    """The eight measured iterations: shapes and plans of arrays [8], seconds [8], model names."""
    rows = [line.split() for line in _ITERATIONS.strip().splitlines()]
    names = [row[0] for row in rows for _ in range(2)]
    table = np.array([[float(x) for x in row[1:]] for row in rows for _ in range(2)])
    width, layers, heads = table[:, 0], table[:, 1], table[:, 2]
    selective = np.tile([0.0, 1.0], len(rows))
    seconds = np.where(selective == 1, table[:, 9], table[:, 8])
    full = np.ones(len(table))
    shape = ModelShape(width, layers, heads, heads, 4 * width, 0 * full, 2048 * full)
    tensor, pipeline, interleave, batch, micro = table[:, 3:8].T
    plan = GpuPlan(tensor, pipeline, interleave, batch, micro, selective, 51200 * full)
    return shape, plan, seconds, names


def predict_iterations(params: Mapping[str, Any]) -> Any:
    """Seconds of the eight iterations for eta and nu."""
    shape, plan, _, _ = iterations()
    gpu = GpuConfig(gemm_efficiency=params["eta"], link_efficiency=params["nu"])
    return iteration_s(shape, gpu, plan)


START = {"eta": 0.7, "nu": 0.7}


def fit_iterations() -> tuple[Fit, Fit]:
    """Eta and nu on all eight iterations, and each model predicted from the other three."""
    _, _, seconds, names = iterations()
    return (
        fit(predict_iterations, seconds.tolist(), START),
        leave_one_out(predict_iterations, seconds.tolist(), names, START),
    )


def _table(located: source.Located, name: str) -> list[dict[str, str]]:
    file = next(f for f in source.dataset("chiplet_measured").files if f.path.endswith(name))
    return list(csv.DictReader(io.StringIO(source.read(located, file).decode())))


def fit_all_reduce() -> tuple[Fit, Fit]:
    """Latency and bandwidth of the ring on four A100, fitted to 32 measured sizes.

    Held out is every fourth size in turn.

    Raises:
      DataNotFoundError: the data set `chiplet_measured` is not there.
    """
    rows = _table(source.find("chiplet_measured"), "allreduce_a100x4_measured.csv")
    sizes = np.array([float(row["bytes"]) for row in rows])
    seconds = [float(row["microseconds"]) * 1e-6 for row in rows]

    def predict(params: Mapping[str, Any]) -> Any:
        steps = 2 * (4 - 1)
        return steps * (params["latency_s"] + jnp.asarray(sizes) / 4 / params["bytes_s"])

    start = {"latency_s": 2e-6, "bytes_s": 2e11}
    groups = [str(i % 4) for i in range(len(rows))]
    return fit(predict, seconds, start), leave_one_out(predict, seconds, groups, start)


def fit_gemm(device: str = "A100") -> tuple[Fit, Fit]:
    """Peak, bandwidth and start-up of a roofline, fitted to the measured products of a device.

    Held out is every fourth in turn.

    Raises:
      DataNotFoundError: the data set `chiplet_measured` is not there.
    """
    rows = [
        row
        for row in _table(source.find("chiplet_measured"), "gemm_measured.csv")
        if row["device"] == device
    ]
    m, n, k = (np.array([float(row[axis]) for row in rows]) for axis in "MNK")
    seconds = [float(row["seconds"]) for row in rows]

    def predict(params: Mapping[str, Any]) -> Any:
        flop_s = 2 * jnp.asarray(m * n * k) / params["flop_s"]
        memory_s = 2 * jnp.asarray(m * k + k * n + m * n) / params["bytes_s"]
        return params["start_s"] + jnp.maximum(flop_s, memory_s)

    start = {"flop_s": 2.5e14, "bytes_s": 1.5e12, "start_s": 2e-5}
    groups = [str(i % 4) for i in range(len(rows))]
    return fit(predict, seconds, start), leave_one_out(predict, seconds, groups, start)

"""The studies of the recipe: what is computed, without words or pictures."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxml.chiplet import field, presets
from jaxml.chiplet.config import Mesh2D, ModelShape, System, TrainingConfig
from jaxml.chiplet.method import METHODS
from jaxml.chiplet.model import Report
from jaxml.chiplet.simulate import mixed, simulate

type Case = tuple[ModelShape, System]
WIDTH = 24
"""Cases per call, so that a method is compiled once for all studies."""


def reports(cases: Sequence[Case], method: str) -> list[Report]:
    """Reports of cases whose training settings agree, as plain numbers."""
    found = []
    for first in range(0, len(cases), WIDTH):
        part = list(cases[first : first + WIDTH])
        padded = part + [part[-1]] * (WIDTH - len(part))
        model, system = jax.tree.map(lambda *xs: np.array(xs, np.float64), *padded)
        report = jax.tree.map(np.asarray, simulate(model, system, method=method))
        found += [jax.tree.map(lambda x, i=i: x[i].item(), report) for i in range(len(part))]
    return found


@dataclasses.dataclass(frozen=True)
class Gain:
    """How much faster, and with how much less energy, than the flat ring on the same mesh."""

    time: float
    energy: float
    report: Report
    baseline: Report


def gains(cases: Sequence[Case], method: str = "hecaton") -> list[Gain]:
    """Gains of a method over the flat ring, case by case."""
    pairs = zip(reports(cases, method), reports(cases, "flat_ring"), strict=True)
    return [Gain(b.time_s / a.time_s, b.energy_j / a.energy_j, a, b) for a, b in pairs]


def by_method(case: Case) -> dict[str, Report]:
    """The report of every method."""
    return {method: reports([case], method)[0] for method in METHODS}


def choose(case: Case) -> tuple[Report, dict[str, str]]:
    """The best choice of Hecaton or SUMMA by matrix, as plain numbers."""
    report, chosen = mixed(*case)
    return jax.tree.map(lambda x: x.item(), report), chosen


def family(name: str) -> list[Case]:
    """The models of a weak-scaling family on the calibrated package, meshes growing with them."""
    return [
        (presets.MODELS[model], presets.paper_v1(side, side))
        for model, side in presets.FAMILIES[name]
    ]


def work_times(cases: Sequence[Case], found: Sequence[Report]) -> np.ndarray:
    """Seconds per FLOP of one die: level where weak scaling is perfect."""
    dies = np.array([float(system.mesh.num_dies) for _, system in cases])
    return np.array([r.time_s / r.flop for r in found]) * dies


SENSITIVE = (
    "link.bandwidth_bytes_s",
    "link.latency_s",
    "die.clock_hz",
    "die.activation_sram_bytes",
    "energy.static_w",
    "energy.mac_pj",
    "energy.sram_pj_byte",
    "energy.nop_pj_bit",
    "energy.dram_pj_bit",
)


def sensitivity(case: Case) -> dict[str, tuple[Gain, Gain]]:
    """Gains with each constant halved and doubled."""
    model, system = case
    moved = [
        (model, field.put(system, path, float(field.get(system, path)) * factor))
        for path in SENSITIVE
        for factor in (0.5, 2.0)
    ]
    found = gains(moved)
    return {path: (found[2 * i], found[2 * i + 1]) for i, path in enumerate(SENSITIVE)}


def _training(system: System, **changes: Any) -> System:
    return dataclasses.replace(system, training=TrainingConfig(**changes))


@functools.cache
def ablations() -> Mapping[str, System]:
    """The calibrated package with one thing changed."""
    base = presets.paper_v1()
    fast = presets.ucie("advanced", 16)
    few = dataclasses.replace(base.dram, channels_per_edge=0.125)
    quarter = dataclasses.replace(base.dram, channels_per_edge=0.25)
    return {
        "as calibrated": base,
        "advanced package (128 GB/s, 0.25 pJ/bit, 10 ns)": dataclasses.replace(
            base,
            link=fast.link,
            energy=dataclasses.replace(base.energy, nop_pj_bit=fast.energy.nop_pj_bit),
        ),
        "1/8 of the DRAM channels": dataclasses.replace(base, dram=few),
        "1/4 of the DRAM channels, layers not fused": _training(
            dataclasses.replace(base, dram=quarter), fused=False
        ),
        "layers not fused": _training(base, fused=False),
        "activations recomputed": _training(base, recompute=True),
        "links overlap compute": _training(base, nop_overlap=1.0),
        "LoRA of rank 16": _training(base, lora_rank=16),
    }


def ours(model: ModelShape) -> dict[str, tuple[Gain, Report]]:
    """Our changes to the scheme, each against the flat ring on the square mesh."""
    square, tall = presets.paper_v1(), presets.paper_v1(64, 16)
    kept = functools.partial(_training, regather=False)
    baseline = reports([(model, square)], "flat_ring")[0]
    paths = {
        "the paper's scheme, as modelled": (square, "hecaton"),
        "inputs kept gathered": (kept(square), "hecaton"),
        "64 x 16 dies": (tall, "hecaton"),
        "dual": (square, "dual"),
        "dual, 64 x 16 dies": (tall, "dual"),
        "dual, 64 x 16 dies, inputs kept gathered": (kept(tall), "dual"),
    }
    found = {}
    for name, (system, method) in paths.items():
        report = reports([(model, system)], method)[0]
        gain = Gain(
            baseline.time_s / report.time_s, baseline.energy_j / report.energy_j, report, baseline
        )
        found[name] = (gain, report)
    return found


def on_mesh(system: System, rows: float, cols: float) -> System:
    """The system with another mesh."""
    return dataclasses.replace(system, mesh=Mesh2D(rows, cols))

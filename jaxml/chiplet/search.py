"""The two searches of the recipe: the aspect of the mesh, and a package within budgets."""

import dataclasses

import numpy as np

from jaxml.chiplet import presets
from jaxml.chiplet.area import package_mm2
from jaxml.chiplet.optimize import ASPECT, Budget, Found, optimize, random_search
from jaxml.chiplet.simulate import simulate
from jaxml.chiplet.study import on_mesh

MODEL = presets.MODELS["llama2-70b"]


@dataclasses.dataclass(frozen=True)
class AspectFound:
    """The aspect that gradients find with overlapped gathers, and its gain over the paper scheme.

    Attributes:
      aspect: rows over columns, a real number.
      mesh: the nearest mesh of whole dies.
      gain: time of the paper scheme on the square mesh over time of that mesh, exact model.
      steps: of gradient descent.
      history: smooth time after every step.
    """

    aspect: float
    mesh: tuple[int, int]
    gain: float
    steps: int
    history: np.ndarray


def whole_mesh(num_dies: int, aspect: float) -> tuple[int, int]:
    """Rows and columns of so many dies whose ratio is nearest, in logarithms.

    >>> whole_mesh(1024, 3.0)
    (64, 16)
    """
    shapes = [(r, num_dies // r) for r in range(1, num_dies + 1) if num_dies % r == 0]
    return min(shapes, key=lambda s: abs(np.log(s[0] / s[1] / aspect)))


def find_aspect(steps: int) -> AspectFound:
    """From a square of 1,024 dies, with `dual` on."""
    base = presets.paper_v1()
    bounds = {ASPECT: (1 / 64, 64.0)}
    found = optimize(MODEL, base, bounds, method="dual", steps=steps)
    mesh = whole_mesh(1024, found.values[ASPECT])
    before = simulate(MODEL, base, method="hecaton")
    after = simulate(MODEL, on_mesh(base, *mesh), method="dual")
    gain = float(before.time_s) / float(after.time_s)
    return AspectFound(found.values[ASPECT], mesh, gain, steps, found.history)


HARDWARE = {
    ASPECT: (1 / 16, 16.0),
    "die.num_arrays": (1.0, 32.0),
    "die.clock_hz": (0.3e9, 2e9),
    "die.vector_lanes": (64.0, 2048.0),
    "die.activation_sram_bytes": (2.0**20, 64 * 2.0**20),
    "die.weight_sram_bytes": (4 * 2.0**20, 64 * 2.0**20),
    "link.bandwidth_bytes_s": (8e9, 256e9),
    "dram.channels_per_edge": (0.05, 2.0),
}
"""What is free in the search within budgets, and between which bounds."""


@dataclasses.dataclass(frozen=True)
class BudgetFound:
    """Gradients against random search at equal evaluations.

    Attributes:
      found: by gradients.
      random: best energy-delay products of the random searches, one per seed.
      start: energy-delay product of the calibrated package, smooth model.
      budget: area and power of that package.
    """

    found: Found
    random: tuple[float, ...]
    start: float
    budget: Budget


def within_budget(steps: int, seeds: int) -> BudgetFound:
    """Hardware of no more area and power than the calibrated package, energy times delay."""
    base = presets.paper_v1()
    before = simulate(MODEL, base, smooth=True)
    power = float(before.energy_j) / float(before.time_s)
    budget = Budget(area_mm2=float(package_mm2(base)), power_w=power)
    found = optimize(MODEL, base, HARDWARE, objective="edp", budget=budget, steps=steps)
    drawn = tuple(
        random_search(
            MODEL,
            base,
            HARDWARE,
            evaluations=found.evaluations,
            seed=seed,
            objective="edp",
            budget=budget,
        )
        for seed in range(seeds)
    )
    return BudgetFound(found, drawn, float(before.edp_js), budget)

"""What of driving is re-measured: the recipes of its parts, one after the other."""

import dataclasses
import importlib
from typing import Any

from jaxml.report.recipe import Context, Outcome, Recipe

PARTS = (
    "jaxml.driving.localization.recipe:measure",
    "jaxml.driving.detection2d.recipe:measure",
    "jaxml.driving.detection3d.recipe:measure",
    "jaxml.driving.depth.recipe:measure",
    "jaxml.driving.fusion.recipe:measure",
    "jaxml.driving.v2x.recipe:measure",
    "jaxml.driving.prediction.recipe:measure",
    "jaxml.driving.planning.recipe:measure",
)
"""Functions `(scale, context) -> Outcome`; each has a folder of its own."""


@dataclasses.dataclass(frozen=True)
class RecipeConfig:
    """One scale of the parts, whose settings are their own."""

    scale: str
    parts: tuple[str, ...] = PARTS


def run(cfg: RecipeConfig, context: Context) -> Outcome:
    """Runs the parts and lays their outcomes side by side."""
    found = []
    for target in cfg.parts:
        module, function = target.split(":")
        folder = context.folder / module.split(".")[-2]
        folder.mkdir(parents=True, exist_ok=True)
        measure = getattr(importlib.import_module(module), function)
        found.append(measure(cfg.scale, dataclasses.replace(context, folder=folder)))

    def joined(field: str) -> list[Any]:
        return [row for one in found for row in getattr(one, field)]

    claims, figures, tables, samples = map(joined, ("claims", "figures", "tables", "samples"))
    data = list(dict.fromkeys(joined("data")))
    kept = all(one.kept for one in found)
    return Outcome(claims, figures, tables, samples, data, kept)


RECIPE = Recipe(
    system="driving",
    title="Driving with deep learning",
    about="Odometry on a real drive, cells found in real images, cars found by simulated LiDAR "
    "over real street layouts, sensors fused and vehicles that share; then pedestrians and "
    "vehicles are forecast beside rows that learn nothing, and planners drive episodes.",
    scales={scale: RecipeConfig(scale) for scale in ("tiny", "laptop", "h100")},
    run=run,
)

"""What of driving is re-measured: the parts' recipes, one after the other."""

import dataclasses
import importlib

from jaxml.report.recipe import Context, Outcome, Recipe

PARTS = (
    "jaxml.driving.prediction.recipe:part",
    "jaxml.driving.planning.recipe:part",
)
"""Functions `(scale, context) -> Outcome`; each part has a folder of its own."""


@dataclasses.dataclass(frozen=True)
class RecipeConfig:
    """One scale: its name, and the parts that are run."""

    scale: str
    parts: tuple[str, ...] = PARTS


def run(cfg: RecipeConfig, context: Context) -> Outcome:
    """Runs every part and puts the outcomes side by side."""
    found = []
    for target in cfg.parts:
        module, function = target.split(":")
        folder = context.folder / module.split(".")[-2]
        folder.mkdir(parents=True, exist_ok=True)
        own = dataclasses.replace(context, folder=folder)
        found.append(getattr(importlib.import_module(module), function)(cfg.scale, own))
    return Outcome(
        *([row for one in found for row in getattr(one, field.name)]
          for field in dataclasses.fields(Outcome))
    )  # fmt: skip


RECIPE = Recipe(
    system="driving",
    title="Driving",
    about="Pedestrians of ETH and UCY and vehicles of KITTI are forecast with the recordings that "
    "are tested left out, beside rows that learn nothing; planners drive a hundred episodes.",
    scales={scale: RecipeConfig(scale) for scale in ("tiny", "laptop", "h100")},
    run=run,
)

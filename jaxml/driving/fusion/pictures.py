"""Simulated images and their depth."""

from typing import Any

import numpy as np

from jaxml.report import figure
from jaxml.report.recipe import Figure


def colour_and_depth(colour: np.ndarray, depth: np.ndarray) -> Figure:
    """An image in [0, 1] [y, x, 3] above its depth [y, x], dark where near."""
    from matplotlib import colormaps

    shade = colormaps["viridis"](np.log(np.clip(depth, 1, 80)) / np.log(80))[..., :3]
    both = np.concatenate([colour, shade], 0)

    def plot(axes: Any) -> None:
        axes.imshow(both)
        axes.set_axis_off()

    return figure.draw(
        "driving-camera", "The simulated camera", "Colour above, exact depth below (log scale).",
        plot,
    )  # fmt: skip

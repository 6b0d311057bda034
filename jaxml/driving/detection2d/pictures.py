"""Images with boxes drawn on them."""

from typing import Any

import numpy as np

from jaxml.report import figure
from jaxml.report.recipe import Figure


def overlay(
    id: str, image: np.ndarray, box: np.ndarray, label: np.ndarray, caption: str = ""
) -> Figure:
    """An image uint8 [y, x, 3] with rectangles [n, 4], coloured by class [n]."""
    import matplotlib.patches as patches

    def plot(axes: Any) -> None:
        axes.imshow(image)
        for (x1, y1, x2, y2), name in zip(box, label, strict=True):
            colour = figure.COLOURS[int(name) % len(figure.COLOURS)]
            axes.add_patch(
                patches.Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, ec=colour, lw=1.5)
            )
        axes.set_axis_off()

    return figure.draw(id, "What the detector finds", caption, plot)

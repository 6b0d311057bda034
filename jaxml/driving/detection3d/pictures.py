"""Scenes from above."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxml.driving.geometry.rotated_iou import corners_bev
from jaxml.report import figure
from jaxml.report.recipe import Figure


def from_above(
    id: str,
    title: str,
    points: np.ndarray,
    groups: dict[str, np.ndarray],
    caption: str = "",
    reach_m: float | None = None,
) -> Figure:
    """Points [p, >= 2] and boxes by name, each [n, 7], seen from above."""

    def plot(axes: Any) -> None:
        shown = points[:: max(1, len(points) // 6000)]
        axes.scatter(shown[:, 0], shown[:, 1], s=0.6, color=figure.COLOURS[5], rasterized=True)
        for number, (name, box) in enumerate(groups.items()):
            colour = figure.COLOURS[number]
            for i, corner in enumerate(np.asarray(corners_bev(jnp.asarray(box).reshape(-1, 7)))):
                ring = np.concatenate([corner, corner[:1]])
                axes.plot(
                    ring[:, 0], ring[:, 1], color=colour, lw=1.3, label=name if i == 0 else None
                )
        axes.set(xlabel="x (m)", ylabel="y (m)", aspect="equal")
        if reach_m is not None:
            axes.set(xlim=(-reach_m, reach_m), ylim=(-reach_m, reach_m))
        if any(len(box) for box in groups.values()):
            axes.legend(loc="upper right")

    return figure.draw(id, title, caption, plot, size=(6.0, 6.0))

"""Boxes from the head's maps: peaks, values at them, rotated suppression."""

import jax
import jax.numpy as jnp

from jaxml.core.types import Array
from jaxml.driving.boxes.box3d import Box3D
from jaxml.driving.detection2d import heatmap
from jaxml.driving.detection3d.config import PillarConfig
from jaxml.driving.geometry.nms import rotated_nms


def decode(maps: dict[str, Array], cfg: PillarConfig, *, nms: bool = True) -> Box3D:
    """Boxes of a batch [b, most, 7], best first; the mask holds what stays.

    Args:
      maps: from `net.apply`.
      cfg: of the detector.
      nms: False leaves overlapping candidates, as late fusion of several detectors wants.
    """
    return jax.vmap(lambda m: _one(m, cfg, nms))(maps)


def _one(maps: dict[str, Array], cfg: PillarConfig, nms: bool) -> Box3D:
    score, label, row, column = heatmap.peaks(maps["heat"], cfg.most)
    at = {name: maps[name][row, column] for name in ("offset", "z", "size", "turn")}
    x = (column + at["offset"][:, 0]) * cfg.cell_m + cfg.grid.x_m[0]
    y = (row + at["offset"][:, 1]) * cfg.cell_m + cfg.grid.y_m[0]
    heading = jnp.arctan2(at["turn"][:, 0], at["turn"][:, 1])
    size = jnp.exp(jnp.clip(at["size"], -3.0, 3.5))
    box = jnp.concatenate([x[:, None], y[:, None], at["z"], size, heading[:, None]], -1)
    mask = score >= cfg.least_score
    if nms:
        # Boxes of different classes do not remove each other: classes stand apart on the plane.
        apart = box.at[:, 0].add(1e3 * label)
        mask = rotated_nms(apart, score, cfg.nms, mask)
    return Box3D(box, label.astype(jnp.int32), score, mask)

"""Boxes from CenterNet's maps: peaks, sizes and offsets; no suppression."""

import jax
import jax.numpy as jnp

from jaxml.core.types import Array
from jaxml.driving.detection2d import heatmap, net


def decode(maps: dict[str, Array], most: int = 100) -> tuple[Array, Array, Array]:
    """The best boxes of each image.

    Args:
      maps: from `net.apply`.
      most: boxes of each image.

    Returns:
      x1, y1, x2, y2 in pixels [b, most, 4], classes [b, most], scores [b, most].
    """
    return jax.vmap(lambda heat, size, offset: _one(heat, size, offset, most))(
        maps["heat"], maps["size"], maps["offset"]
    )


def _one(heat: Array, size: Array, offset: Array, most: int) -> tuple[Array, Array, Array]:
    score, label, row, column = heatmap.peaks(heat, most)
    centre = jnp.stack([column, row], -1) + offset[row, column]
    half = jnp.maximum(size[row, column], 0.0) / 2
    return jnp.concatenate([centre - half, centre + half], -1) * net.STRIDE, label, score

"""Which points lie in which box."""

import jax.numpy as jnp

from jaxml.core.types import Array


def points_in_boxes(points: Array, boxes: Array) -> Array:
    """True where a point [p, 3] lies in a box [n, 7], its faces included; bool [n, p].

    >>> box = jnp.array([[0.0, 0, 0, 4, 2, 2, jnp.pi / 2]])
    >>> points_in_boxes(jnp.array([[0.0, 1.9, 0], [1.9, 0, 0]]), box).tolist()
    [[True, False]]
    """
    local = points[None, :, :3] - boxes[:, None, :3]
    c, s = jnp.cos(boxes[:, 6])[:, None], jnp.sin(boxes[:, 6])[:, None]
    x = c * local[..., 0] + s * local[..., 1]
    y = c * local[..., 1] - s * local[..., 0]
    within = jnp.abs(jnp.stack([x, y, local[..., 2]], -1)) <= boxes[:, None, 3:6] / 2
    return jnp.all(within, -1)


def count_points(points: Array, boxes: Array) -> Array:
    """How many points [p, 3] lie in each box [n, 7]; int32 [n]."""
    return jnp.sum(points_in_boxes(points, boxes), -1, dtype=jnp.int32)

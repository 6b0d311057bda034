"""Overlap of rotated boxes, exactly, with gradients, in any batch shape.

The area that a polygon P shares with an axis-aligned rectangle is a boundary integral (Green):
area = integral over the edges of P of clamp(x) d clamp(y), both clamped to the rectangle. Four
edges with closed-form pieces: no sorting of vertices, no branches, no special case for edges that
coincide, and the boundary is closed whatever the rounding.
"""

from typing import NamedTuple

import jax.numpy as jnp

from jaxml.core.types import Array

_TINY = 1e-9


def corners_bev(boxes: Array) -> Array:
    """Corners [..., 4, 2] of boxes [..., 7] from above, counter-clockwise."""
    check_boxes(boxes)
    c, s = jnp.cos(boxes[..., 6]), jnp.sin(boxes[..., 6])
    x = boxes[..., 3, None] * 0.5 * jnp.array([1.0, -1, -1, 1], boxes.dtype).reshape(_row(boxes))
    y = boxes[..., 4, None] * 0.5 * jnp.array([1.0, 1, -1, -1], boxes.dtype).reshape(_row(boxes))
    turned_x = c[..., None] * x - s[..., None] * y + boxes[..., 0, None]
    turned_y = s[..., None] * x + c[..., None] * y + boxes[..., 1, None]
    return jnp.stack([turned_x, turned_y], -1)


def _row(boxes: Array) -> tuple[int, ...]:
    return (*(1,) * (boxes.ndim - 1), 4)


def check_boxes(*arrays: Array) -> None:
    """Raises ValueError unless every array is [..., 7]."""
    for boxes in arrays:
        if boxes.ndim < 1 or boxes.shape[-1] != 7:
            raise ValueError(
                "boxes must have shape [..., 7] (x, y, z, dx, dy, dz, heading); "
                f"got boxes.shape={tuple(boxes.shape)}."
            )


def overlap_bev(a: Array, b: Array) -> Array:
    """Area [...] that boxes share seen from above.

    Args:
      a: [..., 7].
      b: [..., 7]; leading axes broadcast, so `a[:, None], b[None]` gives all pairs.

    Raises:
      ValueError: another last axis.
    """
    check_boxes(a, b)
    ca, sa, cb, sb = (f(x[..., 6]) for x in (a, b) for f in (jnp.cos, jnp.sin))
    # The middle and the half axes of a, in the frame of b.
    dx, dy = a[..., 0] - b[..., 0], a[..., 1] - b[..., 1]
    mx, my = cb * dx + sb * dy, cb * dy - sb * dx
    cosine, sine = ca * cb + sa * sb, sa * cb - ca * sb
    lx, ly = 0.5 * a[..., 3] * cosine, 0.5 * a[..., 3] * sine
    wx, wy = -0.5 * a[..., 4] * sine, 0.5 * a[..., 4] * cosine
    half_x, half_y = 0.5 * b[..., 3], 0.5 * b[..., 4]
    # Opposite edges have opposite steps, so two directions serve four edges.
    area = jnp.zeros_like(mx)
    for step_x, step_y, off_x, off_y in ((lx, ly, wx, wy), (wx, wy, -lx, -ly)):
        x, y = _along(-2 * step_x, half_x), _along(-2 * step_y, half_y)
        one = _edge(mx + step_x + off_x, my + step_y + off_y, x, y)
        back = x.opposite(), y.opposite()
        area = area + one + _edge(mx - step_x - off_x, my - step_y - off_y, *back)
    # `_clip` lets what is not a number pass unseen, so it is added at the end.
    return jnp.where(area > 0.0, area, 0.0) + 0.0 * (mx + my)


class _Along(NamedTuple):
    """One axis of a direction.

    Its step, 1 / step, half the time that [-half, half] takes, and the side that it comes from.
    """

    step: Array
    inverse: Array
    time: Array
    side: Array

    def opposite(self) -> "_Along":
        """The axis gone the other way."""
        return _Along(-self.step, -self.inverse, self.time, -self.side)


def _along(step: Array, half: Array) -> _Along:
    """Prepares one axis of a direction.

    A step of nearly nothing is made a little longer: times of crossing are then far off or
    arbitrary, and what they multiply is (nearly) the same on both sides.
    """
    back = step < 0
    inverse = 1.0 / (step + jnp.where(back, -_TINY, _TINY))
    return _Along(step, inverse, half * jnp.abs(inverse), jnp.where(back, half, -half))


def _edge(x0: Array, y0: Array, x: _Along, y: _Along) -> Array:
    """Integral of clamp(x) d clamp(y) along the edge from (x0, y0)."""
    start, end = (_clip(t, 0.0, 1.0) for t in _crossings(y0, y))
    left, right = (_clip(t, start, end) for t in _crossings(x0, x))
    # clamp(x) is `x.side` before `left` and its opposite after `right`; between them it is x.
    both = left + right
    middle = x0 + 0.5 * both * x.step
    return y.step * (x.side * (both - start - end) + middle * (right - left))


def _clip(x: Array, low: Array | float, high: Array | float) -> Array:
    """As `jnp.clip` for numbers; without its care for what is none, a third of the operations."""
    x = jnp.where(x > low, x, low)
    return jnp.where(x < high, x, high)


def _crossings(start: Array, line: _Along) -> tuple[Array, Array]:
    """When `start + t step` enters and leaves [-half, half]."""
    middle = -start * line.inverse
    return middle - line.time, middle + line.time


def rotated_iou_bev(a: Array, b: Array) -> Array:
    """Intersection over union [...] seen from above; arguments as in `overlap_bev`.

    >>> box = jnp.array([0.0, 0, 0, 4, 2, 1.5, 0.3])
    >>> round(float(rotated_iou_bev(box, box.at[6].add(jnp.pi))), 5)
    1.0
    """
    shared = overlap_bev(a, b)
    union = a[..., 3] * a[..., 4] + b[..., 3] * b[..., 4] - shared
    return shared / jnp.maximum(union, _TINY)


def rotated_iou_3d(a: Array, b: Array) -> Array:
    """Intersection over union of volumes [...]; arguments as in `overlap_bev`."""
    shared = overlap_bev(a, b) * _overlap_z(a, b)
    volume_a, volume_b = (x[..., 3] * x[..., 4] * x[..., 5] for x in (a, b))
    return shared / jnp.maximum(volume_a + volume_b - shared, _TINY)


def _overlap_z(a: Array, b: Array) -> Array:
    top = jnp.minimum(a[..., 2] + 0.5 * a[..., 5], b[..., 2] + 0.5 * b[..., 5])
    bottom = jnp.maximum(a[..., 2] - 0.5 * a[..., 5], b[..., 2] - 0.5 * b[..., 5])
    return jnp.maximum(top - bottom, 0.0)

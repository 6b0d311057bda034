"""Whether turned boxes touch (separating axes), and when moving ones will (time to collision)."""

import jax.numpy as jnp

from jaxml.core import check
from jaxml.core.types import Array


def corners(box: Array) -> Array:
    """Corners [..., 4, 2] of boxes [..., 5] = (x, y, heading, length, width)."""
    half = jnp.array([[1, 1], [-1, 1], [-1, -1], [1, -1]], box.dtype) / 2
    local = half.reshape((1,) * (box.ndim - 1) + (4, 2)) * box[..., None, 3:5]
    cos, sin = jnp.cos(box[..., 2])[..., None], jnp.sin(box[..., 2])[..., None]
    x = local[..., 0] * cos - local[..., 1] * sin
    y = local[..., 0] * sin + local[..., 1] * cos
    return jnp.stack([x, y], -1) + box[..., None, :2]


def _axes(a: Array, b: Array) -> Array:
    """The four directions that can separate two boxes, [..., 4, 2]."""
    angles = jnp.stack(
        [a[..., 2], a[..., 2] + jnp.pi / 2, b[..., 2], b[..., 2] + jnp.pi / 2], -1
    )  # fmt: skip
    return jnp.stack([jnp.cos(angles), jnp.sin(angles)], -1)


def _reach(box: Array, axes: Array) -> Array:
    """Half the extent of a box along directions [..., 4, 2]."""
    ahead = jnp.stack([jnp.cos(box[..., 2]), jnp.sin(box[..., 2])], -1)[..., None, :]
    left = jnp.stack([-ahead[..., 1], ahead[..., 0]], -1)
    along, across = (jnp.abs(jnp.sum(axes * v, -1)) for v in (ahead, left))
    return along * box[..., None, 3] / 2 + across * box[..., None, 4] / 2


def clearance(a: Array, b: Array) -> Array:
    """The widest gap between boxes along one of their four axes, metres; negative: they overlap.

    A lower bound of the distance, exact where a side faces the other box.

    Args:
      a: boxes [..., 5] = (x, y, heading, length, width).
      b: likewise, of the same shape.

    Raises:
      ValueError: shapes that differ.

    >>> near = jnp.array([0.0, 0.0, 0.0, 4.0, 2.0])
    >>> float(clearance(near, jnp.array([5.0, 0.0, 0.0, 4.0, 2.0])))
    1.0
    """
    check.shape("b", b, a.shape)
    axes = _axes(a, b)
    apart = jnp.abs(jnp.sum(axes * (b - a)[..., None, :2], -1))
    return jnp.max(apart - _reach(a, axes) - _reach(b, axes), -1)


def touch(a: Array, b: Array) -> Array:
    """True where boxes [..., 5] overlap or touch."""
    return clearance(a, b) <= 0.0


def time_to_collision(a: Array, va: Array, b: Array, vb: Array, horizon_s: float = 10.0) -> Array:
    """Seconds until boxes that keep their velocities touch, exactly; infinite beyond the horizon.

    Along each of the four axes the boxes overlap during one interval of time; they touch when all
    four intervals do.

    Args:
      a: boxes [..., 5].
      va: velocities [..., 2].
      b: boxes.
      vb: velocities.
      horizon_s: seconds looked ahead.

    Raises:
      ValueError: shapes that differ, a horizon that is not positive.

    >>> car = jnp.array([0.0, 0.0, 0.0, 4.0, 2.0])
    >>> there = jnp.array([14.0, 0.0, 0.0, 4.0, 2.0])
    >>> float(time_to_collision(car, jnp.array([5.0, 0.0]), there, jnp.zeros(2)))
    2.0
    """
    check.positive(horizon_s=horizon_s)
    check.shape("b", b, a.shape)
    axes = _axes(a, b)
    place = jnp.sum(axes * (b - a)[..., None, :2], -1)
    speed = jnp.sum(axes * (vb - va)[..., None, :], -1)
    reach = _reach(a, axes) + _reach(b, axes)
    still = jnp.abs(speed) < 1e-9
    safe = jnp.where(still, 1.0, speed)
    one, two = (-reach - place) / safe, (reach - place) / safe
    inside = jnp.abs(place) <= reach
    enter = jnp.where(still, jnp.where(inside, -jnp.inf, jnp.inf), jnp.minimum(one, two))
    leave = jnp.where(still, jnp.where(inside, jnp.inf, -jnp.inf), jnp.maximum(one, two))
    first, last = jnp.max(enter, -1), jnp.min(leave, -1)
    hit = (first <= last) & (last >= 0.0)
    when = jnp.maximum(first, 0.0)
    return jnp.where(hit & (when <= horizon_s), when, jnp.inf)

"""Rigid motions SE(3) as matrices [..., 4, 4] that map points of one frame into another."""

import jax.numpy as jnp

from jaxml.core import check
from jaxml.core.types import Array

_SMALL = 1e-6


def _safe_angle_squared(w: Array) -> tuple[Array, Array]:
    """Squared norm, floored where it is tiny, and where that is: gradients stay finite."""
    squared = jnp.sum(jnp.square(w), -1)
    tiny = squared < _SMALL
    return jnp.where(tiny, 1.0, squared), tiny


def hat(w: Array) -> Array:
    """The matrix of the cross product with `w` [..., 3] -> [..., 3, 3]."""
    x, y, z = w[..., 0], w[..., 1], w[..., 2]
    zero = jnp.zeros_like(x)
    rows = [zero, -z, y, z, zero, -x, -y, x, zero]
    return jnp.stack(rows, -1).reshape(*w.shape[:-1], 3, 3)


def _coefficients(w: Array) -> tuple[Array, Array, Array]:
    """The factors sin t / t, (1 - cos t) / t^2, (t - sin t) / t^3 of the angle t = |w|."""
    squared, tiny = _safe_angle_squared(w)
    t, small = jnp.sqrt(squared), jnp.sum(jnp.square(w), -1)
    a = jnp.where(tiny, 1 - small / 6, jnp.sin(t) / t)
    b = jnp.where(tiny, 0.5 - small / 24, (1 - jnp.cos(t)) / squared)
    c = jnp.where(tiny, 1 / 6 - small / 120, (t - jnp.sin(t)) / (squared * t))
    return a[..., None, None], b[..., None, None], c[..., None, None]


def _eye(like: Array) -> Array:
    return jnp.broadcast_to(jnp.eye(3, dtype=like.dtype), like.shape)


def exp(twist: Array) -> Array:
    """The motion of a twist.

    Args:
      twist: [..., 6], rotation vector (axis times angle) first, then the translational part.

    Returns:
      [..., 4, 4].

    Raises:
      ValueError: a last axis other than 6.

    >>> float(exp(jnp.array([0.0, 0, 0, 1, 2, 3]))[1, 3])
    2.0
    """
    check.shape("twist", twist[..., :1, :] if twist.ndim > 1 else twist[None], _pattern(twist, 6))
    w, v = twist[..., :3], twist[..., 3:]
    k = hat(w)
    a, b, c = _coefficients(w)
    square = k @ k
    rotation = _eye(k) + a * k + b * square
    left = _eye(k) + b * k + c * square
    return assemble(rotation, (left @ v[..., None])[..., 0])


def _pattern(array: Array, last: int) -> list[int | str]:
    names: list[int | str] = [f"a{i}" for i in range(max(array.ndim, 2) - 1)]
    return [*names, last]


def assemble(rotation: Array, translation: Array) -> Array:
    """[..., 4, 4] of a rotation [..., 3, 3] and a translation [..., 3]."""
    top = jnp.concatenate([rotation, translation[..., None]], -1)
    last = jnp.broadcast_to(jnp.array([0.0, 0, 0, 1], top.dtype), (*top.shape[:-2], 1, 4))
    return jnp.concatenate([top, last], -2)


def log(pose: Array) -> Array:
    """The twist [..., 6] of a motion [..., 4, 4]; the angle lies in [0, pi).

    >>> twist = jnp.array([0.1, -0.2, 0.3, 1, 2, 3])
    >>> bool(jnp.allclose(log(exp(twist)), twist, atol=1e-5))
    True
    """
    r = pose[..., :3, :3]
    axis = jnp.stack(
        [
            r[..., 2, 1] - r[..., 1, 2],
            r[..., 0, 2] - r[..., 2, 0],
            r[..., 1, 0] - r[..., 0, 1],
        ],
        -1,
    )  # 2 sin(t) times the unit axis
    squared, tiny = _safe_angle_squared(axis)
    twice_sine = jnp.sqrt(squared)
    cosine = (jnp.trace(r, axis1=-2, axis2=-1) - 1) / 2
    angle = jnp.arctan2(twice_sine / 2, cosine)
    scale = jnp.where(tiny, 0.5 + jnp.sum(jnp.square(axis), -1) / 48, angle / twice_sine)
    w = axis * scale[..., None]
    a, b, _ = _coefficients(w)
    k = hat(w)
    theta2, flat = _safe_angle_squared(w)
    factor = jnp.where(flat, 1 / 12, (1 - (a / (2 * b))[..., 0, 0]) / theta2)
    inverse_left = _eye(k) - 0.5 * k + factor[..., None, None] * (k @ k)
    v = (inverse_left @ pose[..., :3, 3][..., None])[..., 0]
    return jnp.concatenate([w, v], -1)


def inverse(pose: Array) -> Array:
    """The opposite motion [..., 4, 4]: transposed rotation, no matrix is inverted."""
    turned = jnp.swapaxes(pose[..., :3, :3], -1, -2)
    return assemble(turned, -(turned @ pose[..., :3, 3][..., None])[..., 0])


def straightened(pose: Array) -> Array:
    """The motion with a rotation that is orthogonal again after many products (one Newton step).

    `inverse` transposes, so what rounding adds to a rotation would grow from product to product.
    """
    r = pose[..., :3, :3]
    r = 1.5 * r - 0.5 * r @ jnp.swapaxes(r, -1, -2) @ r
    return assemble(r, pose[..., :3, 3])


def transform(pose: Array, points: Array) -> Array:
    """Points [..., n, 3] (further columns stay) moved by `pose` [..., 4, 4]."""
    moved = jnp.einsum("...ij,...nj->...ni", pose[..., :3, :3], points[..., :3])
    moved = moved + pose[..., None, :3, 3]
    return jnp.concatenate([moved, points[..., 3:]], -1)


def planar(x: Array, y: Array, yaw: Array, z: Array | None = None) -> Array:
    """The motion [..., 4, 4] of a vehicle on a plane: its frame into the outer one."""
    c, s, zero, one = jnp.cos(yaw), jnp.sin(yaw), jnp.zeros_like(x), jnp.ones_like(x)
    rows = [c, -s, zero, s, c, zero, zero, zero, one]
    rotation = jnp.stack(rows, -1).reshape(*jnp.shape(x), 3, 3)
    return assemble(rotation, jnp.stack([x, y, zero if z is None else z], -1))


def yaw_of(pose: Array) -> Array:
    """The rotation about z [...] of a motion [..., 4, 4]."""
    return jnp.arctan2(pose[..., 1, 0], pose[..., 0, 0])


def wrap(angle: Array) -> Array:
    """The same direction in [-pi, pi)."""
    return (angle + jnp.pi) % (2 * jnp.pi) - jnp.pi


def boxes_to(pose: Array, boxes: Array) -> Array:
    """Boxes [..., n, 7] moved by `pose` [..., 4, 4], whose rotation is taken about z."""
    centre = transform(pose, boxes[..., :3])
    heading = wrap(boxes[..., 6] + yaw_of(pose)[..., None])
    return jnp.concatenate([centre, boxes[..., 3:6], heading[..., None]], -1)

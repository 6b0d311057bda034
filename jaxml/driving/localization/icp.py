"""Iterated closest points: Gauss-Newton on SE(3) with a robust kernel."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxml.core import check
from jaxml.core.types import Array
from jaxml.driving.geometry import se3
from jaxml.driving.localization.voxelmap import Candidates, VoxelMap, around, nearest


class Registration(NamedTuple):
    """The result.

    Attributes:
      pose: source to map [4, 4].
      iterations: made, int32 [].
      error_m: root of the mean squared distance of pairs within the limit [].
      inliers: share of the source with a partner within the limit [].
    """

    pose: Array
    iterations: Array
    error_m: Array
    inliers: Array


type Residual = Callable[[Candidates, Array], Array]
"""`(candidates, points [s, 3]) -> weight matrices [s, 3, 3]` of the squared offsets."""


def point_to_point(candidates: Candidates, points: Array) -> Array:
    """All directions count alike, as in KISS-ICP."""
    del candidates
    return jnp.broadcast_to(jnp.eye(3, dtype=points.dtype), (len(points), 3, 3))


def point_to_plane(candidates: Candidates, points: Array, radius_m: float = 1.0) -> Array:
    """Only the direction across the surface counts where the neighbourhood is flat.

    The weight is n n^T + (1 - p) (I - n n^T): n is the normal of the candidates within the radius,
    p how flat they are, between 0 (a ball, or fewer than 5 points) and 0.99 (a plane).
    """
    offset = candidates.xyz - points.T[:, None]
    near = jnp.sum(jnp.square(offset), 0) < radius_m**2
    num = jnp.sum(near, 0)
    offset = jnp.where(near[None], offset, 0.0)
    mean = jnp.sum(offset, 1) / jnp.maximum(num, 1)[None]
    centred = jnp.where(near[None], offset - mean[:, None], 0.0)
    covariance = jnp.einsum("iks,jks->sij", centred, centred) / jnp.maximum(num, 1)[:, None, None]
    values, normal = smallest_direction(covariance)
    flat = jnp.where(num >= 5, 1.0 - values[:, 0] / (values[:, 1] + 1e-9), 0.0)
    across = normal[:, :, None] * normal[:, None, :]
    rest = jnp.eye(3, dtype=points.dtype)[None] - across
    return across + (1.0 - jnp.clip(flat, 0.0, 0.99))[:, None, None] * rest


def smallest_direction(matrix: Array) -> tuple[Array, Array]:
    """Rising eigenvalues [s, 3] and the unit vector [s, 3] of the smallest, in closed form."""
    mean = jnp.trace(matrix, axis1=-2, axis2=-1) / 3
    eye = jnp.eye(3, dtype=matrix.dtype)[None]
    shifted = matrix - mean[:, None, None] * eye
    p = jnp.sqrt(jnp.maximum(jnp.sum(jnp.square(shifted), (-1, -2)) / 6, 1e-20))
    half_det = _determinant(shifted / p[:, None, None]) / 2
    angle = jnp.arccos(jnp.clip(half_det, -1.0, 1.0)) / 3
    third = 2 * jnp.pi / 3
    values = mean[:, None] + 2 * p[:, None] * jnp.cos(
        angle[:, None] + jnp.array([third, -third, 0.0], matrix.dtype)[None]
    )
    # Rows of (A - smallest I) span the plane across the vector: their best cross product.
    rows = matrix - values[:, 0, None, None] * eye
    crosses = jnp.stack([jnp.cross(rows[:, i], rows[:, (i + 1) % 3]) for i in range(3)], 1)
    lengths = jnp.sum(jnp.square(crosses), -1)
    best = crosses[jnp.arange(len(matrix)), jnp.argmax(lengths, -1)]
    normal = best / jnp.sqrt(jnp.maximum(jnp.sum(jnp.square(best), -1, keepdims=True), 1e-30))
    return values, normal


def _determinant(m: Array) -> Array:
    return jnp.sum(m[:, 0] * jnp.cross(m[:, 1], m[:, 2]), -1)


def align(
    world: VoxelMap,
    source: Array,
    mask: Array,
    start: Array,
    *,
    limit_m: Array | float,
    kernel_m: Array | float,
    residual: Residual = point_to_plane,
    max_iterations: int = 50,
    tolerance: float = 1e-4,
    cell_room: int = 20,
    octant: bool = False,
) -> Registration:
    """Registers a cloud to a map.

    Pairs weigh kernel^2 / (kernel + e^2)^2 (Geman-McClure, as KISS-ICP writes it), e their
    distance. Candidates and surfaces are looked up once, where the start puts the cloud: a start
    that is off by more than a voxel needs a second call.

    Args:
      world: the map.
      source: [s, 3] in its own frame.
      mask: bool [s].
      start: first guess of source to map [4, 4].
      limit_m: pairs farther apart do not count.
      kernel_m: width of the kernel.
      residual: `point_to_plane` or `point_to_point`.
      max_iterations: at most.
      tolerance: a step below this (radians and metres together) ends.
      cell_room: points looked at in each voxel.
      octant: look in the 8 nearest voxels only, see `around`.

    Raises:
      ValueError: shapes that do not fit.
    """
    num = check.shape("source", source, ["s", 3])["s"]
    check.shape("mask", mask, [num])
    check.shape("start", start, [4, 4])
    moved = se3.transform(start, source)
    candidates = around(world, moved, cell_room, octant=octant)
    weights = residual(candidates, moved)

    def improve(carry: tuple[Array, Array, Array, Array, Array]):
        pose, number, _, _, _ = carry
        moved = se3.transform(pose, source)
        target, squared = nearest(candidates, moved)
        good = mask & (squared < limit_m**2)
        twist = _step(moved, target, weights, good, kernel_m)
        squares = jnp.sum(jnp.where(good, squared, 0.0))
        error = jnp.sqrt(squares / jnp.maximum(jnp.sum(good), 1))
        share = jnp.sum(good) / jnp.maximum(jnp.sum(mask), 1)
        return se3.exp(twist) @ pose, number + 1, jnp.linalg.norm(twist), error, share

    def again(carry: tuple[Array, Array, Array, Array, Array]) -> Array:
        return (carry[1] < max_iterations) & (carry[2] > tolerance)

    big, zero = jnp.asarray(jnp.inf, start.dtype), jnp.zeros((), start.dtype)
    first = (start, jnp.zeros((), jnp.int32), big, zero, zero)
    pose, number, _, error, share = jax.lax.while_loop(again, improve, first)
    return Registration(pose, number, error, share)


def _step(moved: Array, target: Array, weights: Array, good: Array, kernel: Array | float) -> Array:
    """The twist [6] of one Gauss-Newton step, in the map's frame."""
    offset = moved - target
    squared = jnp.sum(jnp.square(offset), -1)
    robust = jnp.where(good, jnp.square(kernel / (kernel + squared)), 0.0)
    turn = -se3.hat(moved)  # how a point moves when the frame turns: w x p = -hat(p) w
    jacobian = jnp.concatenate([turn, jnp.broadcast_to(jnp.eye(3), turn.shape)], -1)
    matrix = robust[:, None, None] * weights
    hessian = jnp.einsum("sia,sij,sjb->ab", jacobian, matrix, jacobian)
    gradient = jnp.einsum("sia,sij,sj->a", jacobian, matrix, jnp.where(good[:, None], offset, 0.0))
    damping = 1e-6 * jnp.trace(hessian) / 6 + 1e-9
    return -jnp.linalg.solve(hessian + damping * jnp.eye(6), gradient)

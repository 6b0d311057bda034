"""Non-maximum suppression with static shapes: a mask of what stays."""

import jax
import jax.numpy as jnp

from jaxml.core import check
from jaxml.core.types import Array
from jaxml.driving.geometry.rotated_iou import rotated_iou_bev


def suppress(overlap_nn: Array, scores_n: Array, mask_n: Array, threshold: float) -> Array:
    """Greedy suppression: the best goes first and removes what overlaps it by more.

    Args:
      overlap_nn: how much each pair overlaps [n, n].
      scores_n: [n]; equal scores go in the order given.
      mask_n: candidates, bool [n].
      threshold: an overlap above this removes.

    Returns:
      What stays, bool [n].

    Raises:
      ValueError: sizes that differ.
    """
    size = check.shape("overlap_nn", overlap_nn, ["n", "n"])["n"]
    check.shape("scores_n", scores_n, [size])
    check.shape("mask_n", mask_n, [size])
    order = jnp.argsort(-jnp.where(mask_n, scores_n, -jnp.inf), stable=True)
    removes = (overlap_nn > threshold)[order][:, order]
    later = jnp.arange(size)

    def visit(i: Array, keep: Array) -> Array:
        return keep & ~(keep[i] & removes[i] & (later > i))

    kept = jax.lax.fori_loop(0, size, visit, mask_n[order])
    return jnp.zeros_like(kept).at[order].set(kept)


def rotated_nms(boxes: Array, scores: Array, threshold: float, mask: Array | None = None) -> Array:
    """What stays of boxes [n, 7] with scores [n], by rotated overlap from above; bool [n].

    >>> boxes = jnp.array([[0.0, 0, 0, 4, 2, 1, 0], [0.1, 0, 0, 4, 2, 1, 0], [9, 0, 0, 4, 2, 1, 0]])
    >>> rotated_nms(boxes, jnp.array([0.5, 0.9, 0.1]), 0.2).tolist()
    [False, True, True]
    """
    mask = jnp.ones(scores.shape, bool) if mask is None else mask
    return suppress(rotated_iou_bev(boxes[:, None], boxes[None]), scores, mask, threshold)


def circle_nms(centres: Array, scores: Array, radius: float, mask: Array | None = None) -> Array:
    """What stays of centres [n, 2]: the best removes all others within `radius`; bool [n]."""
    mask = jnp.ones(scores.shape, bool) if mask is None else mask
    squared = jnp.sum(jnp.square(centres[:, None] - centres[None]), -1)
    return suppress(-squared, scores, mask, -(radius**2))

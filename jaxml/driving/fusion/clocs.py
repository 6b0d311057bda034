"""Task level: 3D and 2D candidates fused before suppression (CLOCs, Pang et al. 2020)."""

import jax
import jax.numpy as jnp

from jaxml.core import check
from jaxml.core.types import Array, PyTree
from jaxml.nn import linear

WIDTHS = (4, 18, 36, 36, 1)
NO_PARTNER = -10.0
RANGE_M = 82.0


def clocs_features(
    iou_nk: Array, score3d_n: Array, score2d_k: Array, distance_n: Array
) -> tuple[Array, Array]:
    """The four numbers of every pair that overlaps in the image, and which pairs count.

    Args:
      iou_nk: overlap of projected 3D candidates and 2D detections [n, k].
      score3d_n: [n].
      score2d_k: [k].
      distance_n: of the 3D candidates from the sensor, in metres [n].

    Returns:
      Features [n, k + 1, 4] and bool [n, k + 1]. The last entry is that of a candidate without any
      partner: overlap and 2D score are -10; it counts only where nothing overlaps.
    """
    n, k = iou_nk.shape
    check.shape("score3d_n", score3d_n, [n])
    check.shape("score2d_k", score2d_k, [k])
    pairs = iou_nk > 0
    alone = ~pairs.any(-1, keepdims=True)
    iou = jnp.concatenate([iou_nk, jnp.full((n, 1), NO_PARTNER)], 1)
    score2d = jnp.broadcast_to(score2d_k[None], (n, k))
    score2d = jnp.concatenate([score2d, jnp.full((n, 1), NO_PARTNER)], 1)
    rest = [jnp.broadcast_to(x[:, None], (n, k + 1)) for x in (score3d_n, distance_n / RANGE_M)]
    feature = jnp.stack([iou, rest[0], score2d, rest[1]], -1)
    return feature, jnp.concatenate([pairs, alone], 1)


def clocs_params() -> PyTree:
    """Declares the four 1 x 1 convolutions, 4 to 18 to 36 to 36 to 1."""
    pairs = zip(WIDTHS[:-1], WIDTHS[1:], strict=True)
    return {f"layer{i}": linear.params(a, b) for i, (a, b) in enumerate(pairs)}


def clocs_apply(p: PyTree, feature: Array, mask: Array) -> Array:
    """New logits [n] of the 3D candidates: the largest over what they are paired with."""
    x, last = feature, len(WIDTHS) - 2
    for i in range(last + 1):
        x = linear.apply(p[f"layer{i}"], x)
        x = jax.nn.relu(x) if i < last else x
    return jnp.max(jnp.where(mask, x[..., 0], -jnp.inf), -1)

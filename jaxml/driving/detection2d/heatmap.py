"""Heat maps: one Gaussian for each object, the focal loss on them, and their peaks."""

import jax
import jax.numpy as jnp

from jaxml.core.types import Array
from jaxml.nn import conv

_CLIP = 1e-4


def gaussian_radius(height: Array, width: Array, overlap: float = 0.7) -> Array:
    """How far a box's corners may move so that the boxes still overlap by `overlap`.

    The least of three cases (both corners one way, both inwards, both outwards). Each root is
    halved, as the published program does, where the quadratic formula divides by 2a.

    >>> round(float(gaussian_radius(jnp.float32(10), jnp.float32(20))), 3)
    3.678
    """
    h, w, o = height, width, overlap
    total, area = h + w, h * w
    one = (total + jnp.sqrt(total**2 - 4 * area * (1 - o) / (1 + o))) / 2
    two = (2 * total + jnp.sqrt(4 * total**2 - 16 * area * (1 - o))) / 2
    three = (-2 * o * total + jnp.sqrt(4 * (o * total) ** 2 + 16 * o * area * (1 - o))) / 2
    return jnp.minimum(jnp.minimum(one, two), three)


def draw(
    centre: Array, radius: Array, label: Array, mask: Array, shape: tuple[int, int, int]
) -> Array:
    """The target heat map [y, x, classes]: the larger of overlapping Gaussians.

    Args:
      centre: x, y of each object in cells [n, 2]; the Gaussian stands on the cell it lies in.
      radius: in cells [n]; whole cells count, sigma = (2 r + 1) / 6.
      label: int32 [n].
      mask: bool [n].
      shape: y, x, classes.
    """
    rows, columns, classes = shape
    r = jnp.floor(jnp.maximum(radius, 0.0))[:, None]
    at = jnp.floor(centre)
    dx = jnp.arange(columns, dtype=jnp.float32)[None] - at[:, :1]
    dy = jnp.arange(rows, dtype=jnp.float32)[None] - at[:, 1:]
    two_var = 2 * jnp.square((2 * r + 1) / 6)
    along_x = jnp.where(jnp.abs(dx) <= r, jnp.exp(-jnp.square(dx) / two_var), 0.0)
    along_y = jnp.where(jnp.abs(dy) <= r, jnp.exp(-jnp.square(dy) / two_var), 0.0)
    along_y = jnp.where(mask[:, None], along_y, 0.0)

    def of_class(index: Array) -> Array:
        mine = jnp.where((label == index)[:, None], along_y, 0.0)
        return jnp.max(mine[:, :, None] * along_x[:, None, :], 0)

    return jnp.moveaxis(jax.vmap(of_class)(jnp.arange(classes)), 0, -1)


def focal_loss(logits: Array, target: Array, weight: Array | None = None) -> Array:
    """Penalty-reduced focal loss over everything, divided by the number of peaks.

    Args:
      logits: [...].
      target: in [0, 1] [...]; exactly 1 at peaks.
      weight: what counts [...]; None: all.

    Returns:
      []; without any peak the sum over negatives, not divided.
    """
    p = jnp.clip(jax.nn.sigmoid(logits), _CLIP, 1 - _CLIP)
    weight = jnp.ones_like(p) if weight is None else weight
    at_peak = (target == 1.0) * weight
    positive = at_peak * jnp.square(1 - p) * jnp.log(p)
    negative = (weight - at_peak) * (1 - target) ** 4 * jnp.square(p) * jnp.log1p(-p)
    return -(jnp.sum(positive) + jnp.sum(negative)) / jnp.maximum(jnp.sum(at_peak), 1.0)


def peaks(logits: Array, most: int) -> tuple[Array, Array, Array, Array]:
    """The best local maxima of a heat map [y, x, classes], by 3 x 3 pooling.

    Returns:
      Scores [most], classes [most], rows [most] and columns [most], best first.
    """
    score = jax.nn.sigmoid(logits)
    top = conv.max_pool(score[None], 3, 1, 1)[0]
    kept = jnp.where(score == top, score, 0.0)
    _, columns, classes = kept.shape
    value, index = jax.lax.top_k(kept.reshape(-1), most)
    cell = index // classes
    return value, index % classes, cell // columns, cell % columns

"""Reading an image between its pixels."""

from typing import Literal

import jax.numpy as jnp

from jaxml.core.types import Array


def bilinear(image_yxc: Array, uv: Array, outside: Literal["zeros", "border"] = "zeros") -> Array:
    """Values of an image at points (u to the right, v down, in pixels).

    Args:
      image_yxc: [y, x, c].
      uv: [..., 2]; (0, 0) is the middle of the first pixel.
      outside: what lies beyond the image: zeros, or the pixel at its border.

    Returns:
      [..., c].

    >>> image = jnp.arange(4.0).reshape(2, 2, 1)
    >>> bilinear(image, jnp.array([0.5, 0.5])).tolist()
    [1.5]
    """
    height, width, _ = image_yxc.shape
    u, v = uv[..., 0], uv[..., 1]
    if outside == "border":
        u, v = jnp.clip(u, 0.0, width - 1.0), jnp.clip(v, 0.0, height - 1.0)
    left, top = jnp.floor(u), jnp.floor(v)
    value = 0.0
    for j in (0, 1):
        for i in (0, 1):
            x, y = left + i, top + j
            weight = (1 - jnp.abs(u - x)) * (1 - jnp.abs(v - y))
            inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
            xi = jnp.clip(x, 0, width - 1).astype(jnp.int32)
            yi = jnp.clip(y, 0, height - 1).astype(jnp.int32)
            value = value + image_yxc[yi, xi] * jnp.where(inside, weight, 0.0)[..., None]
    return value

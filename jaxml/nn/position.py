"""Where a token stands: rotary, sinusoidal and learned positions."""

from typing import Any

import jax.numpy as jnp

from jaxml.core import check
from jaxml.core.param import Param
from jaxml.core.types import Array, PyTree
from jaxml.nn import embed, precision
from jaxml.nn.initializer import normal


def rope(x_bthc: Array, positions_bt: Array, base: float = 10000.0) -> Array:
    """Rotary position embedding (Su et al. 2021, eq. 34).

    Channel i is paired with channel i + c/2 and the pair rotated by `position / base^(2i/c)`, so
    the inner product of two rotated vectors depends on the difference of their positions only.

    Args:
      x_bthc: queries or keys [b, t, h, c].
      positions_bt: integers [b, t] (or [1, t]).
      base: the longest wavelength is 2 pi base.

    Raises:
      ValueError: c is odd.

    >>> x = jnp.ones((1, 1, 1, 4))
    >>> bool((rope(x, jnp.zeros((1, 1), jnp.int32)) == x).all())
    True
    """
    check.divides(two=2, head_dim=x_bthc.shape[-1])
    half = x_bthc.shape[-1] // 2
    wide = precision.widen(x_bthc)
    frequency = base ** (-jnp.arange(half, dtype=wide.dtype) / half)
    angle = positions_bt[:, :, None, None].astype(wide.dtype) * frequency[None, None, None, :]
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    first, second = wide[..., :half], wide[..., half:]
    rotated = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], -1)
    return rotated.astype(x_bthc.dtype)


def sinusoidal(length: int, width: int) -> Array:
    """Fixed table [length, width] (Vaswani et al. 2017, 3.5): sines at even, cosines at odd places.

    Raises:
      ValueError: width is odd.

    >>> sinusoidal(2, 4)[0].tolist()
    [0.0, 1.0, 0.0, 1.0]
    """
    check.divides(two=2, width=width)
    frequency = 10000.0 ** (-jnp.arange(0, width, 2, dtype=jnp.float32) / width)
    angle = jnp.arange(length, dtype=jnp.float32)[:, None] * frequency[None, :]
    return jnp.stack([jnp.sin(angle), jnp.cos(angle)], -1).reshape(length, width)


def learned_params(max_len: int, width: int) -> PyTree:
    """Declares `embedding` [max_len, width]."""
    check.positive(max_len=max_len, width=width)
    return {"embedding": Param((max_len, width), (None, "embed"), normal(0.02))}


def learned(p: PyTree, positions: Array, dtype: Any = None) -> Array:
    """The learned vectors of integer `positions` [...] as [..., d]."""
    return embed.apply(p, positions, dtype)

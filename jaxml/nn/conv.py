"""Convolutions and pooling of images [b, y, x, c]."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxml.core import check
from jaxml.core.param import Param
from jaxml.core.types import Array, Initializer, PyTree
from jaxml.nn import precision
from jaxml.nn.initializer import he_normal, zeros

type Pair = int | tuple[int, int]
type Padding = str | int | tuple[tuple[int, int], tuple[int, int]]


def params(
    in_width: int,
    out_width: int,
    kernel: Pair = 3,
    *,
    bias: bool = True,
    groups: int = 1,
    init: Initializer = he_normal,
) -> PyTree:
    """Declares `kernel` [y, x, in / groups, out] and, unless off, `bias` [out].

    Raises:
      ValueError: a size below 1, or `groups` that do not divide both widths.
    """
    check.positive(in_width=in_width, out_width=out_width, groups=groups)
    check.divides(groups=groups, in_width=in_width)
    check.divides(groups=groups, out_width=out_width)
    shape = (*_pair(kernel), in_width // groups, out_width)
    declared = {"kernel": Param(shape, (None, None, "conv_in", "conv_out"), init)}
    if bias:
        declared["bias"] = Param((out_width,), ("conv_out",), zeros)
    return declared


def apply(
    p: PyTree,
    x: Array,
    stride: Pair = 1,
    padding: Padding = "SAME",
    *,
    groups: int = 1,
    dtype: Any = None,
) -> Array:
    """Cross-correlation [b, y, x, i] -> [b, y', x', o].

    Args:
      p: from `params`.
      x: [b, y, x, i].
      stride: step of the window.
      padding: "SAME", "VALID", or zeros to add on every side. With a stride above 1, "SAME" pads
        the end more than the beginning, where torch's `padding=1` pads both alike.
      groups: as declared.
      dtype: of operands and result (default: of `x`).

    Raises:
      ValueError: an input of another width or rank.

    >>> from jaxml.core import param
    >>> p = param.init(jax.random.key(0), params(3, 8))
    >>> apply(p, jnp.ones((2, 5, 5, 3)), stride=2).shape
    (2, 3, 3, 8)
    """
    check.shape("x", x, ["b", "y", "x", p["kernel"].shape[2] * groups])
    x = x.astype(dtype or x.dtype)
    y = jax.lax.conv_general_dilated(
        x,
        p["kernel"].astype(x.dtype),
        _pair(stride),
        _sides(padding),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )
    return y + precision.along_last(p["bias"], y) if "bias" in p else y


def max_pool(x: Array, window: Pair = 2, stride: Pair = 2, padding: Padding = "VALID") -> Array:
    """Largest value of each window [b, y, x, c]; padding never wins."""
    lowest = -jnp.inf if jnp.issubdtype(x.dtype, jnp.floating) else jnp.iinfo(x.dtype).min
    return _reduce(x, jax.lax.max, lowest, window, stride, padding)


def avg_pool(x: Array, window: Pair = 2, stride: Pair = 2, padding: Padding = "VALID") -> Array:
    """Mean of each window [b, y, x, c]; padding counts as nothing, not as zeros.

    >>> avg_pool(jnp.arange(4.0).reshape(1, 2, 2, 1)).item()
    1.5
    """
    wide = precision.widen(x)
    total = _reduce(wide, jax.lax.add, 0.0, window, stride, padding)
    ones = jnp.ones((1, *x.shape[1:3], 1), wide.dtype)
    return (total / _reduce(ones, jax.lax.add, 0.0, window, stride, padding)).astype(x.dtype)


def global_avg_pool(x: Array) -> Array:
    """Mean over the image [b, y, x, c] -> [b, c]."""
    return jnp.mean(precision.widen(x), (1, 2)).astype(x.dtype)


def _reduce(x: Array, function: Any, start: Any, window: Pair, stride: Pair, padding: Padding):
    sides = _sides(padding)
    return jax.lax.reduce_window(
        x,
        np.asarray(start, x.dtype)[()],  # a literal, by which jax knows the operation
        function,
        (1, *_pair(window), 1),
        (1, *_pair(stride), 1),
        sides if isinstance(sides, str) else ((0, 0), *sides, (0, 0)),
    )


def _pair(size: Pair) -> tuple[int, int]:
    high, wide = (size, size) if isinstance(size, int) else size
    check.positive(size=min(high, wide))
    return high, wide


def _sides(padding: Padding) -> str | tuple[tuple[int, int], tuple[int, int]]:
    return ((padding, padding), (padding, padding)) if isinstance(padding, int) else padding

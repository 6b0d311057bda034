"""Convolution, batch norm, ReLU: the brick of every detector here."""

import jax
import jax.numpy as jnp

from jaxml.core.types import Array, PyTree
from jaxml.nn import conv, norm

EPS = 1e-3
KEPT = 0.99
"""Share of the running statistics that stays, as PointPillars has it."""


def params(before: int, width: int, kernel: int = 3) -> PyTree:
    """Declares `conv` and `norm`."""
    return {
        "conv": conv.params(before, width, kernel, bias=False),
        "norm": norm.batch_params(width),
    }


def state(width: int) -> PyTree:
    """Declares the running statistics."""
    return norm.batch_state(width)


def apply(
    p: PyTree, s: PyTree, x: Array, *, train: bool, stride: int = 1, momentum: float = KEPT
) -> tuple[Array, PyTree]:
    """[b, y, x, i] -> [b, y / stride, x / stride, o], and the new statistics."""
    kernel = p["conv"]["kernel"].shape[0]
    y = conv.apply(p["conv"], x, stride, kernel // 2)
    y, s = norm.batch(p["norm"], s, y, train=train, momentum=momentum, eps=EPS)
    return jax.nn.relu(y), s


def spread(x: Array, factor: int) -> Array:
    """Channels [b, y, x, f^2 c] laid out in space [b, f y, f x, c].

    After a 1 x 1 convolution this is the transposed convolution whose kernel is its stride.
    """
    b, rows, columns, wide = x.shape
    width = wide // factor**2
    x = x.reshape(b, rows, columns, factor, factor, width)
    return jnp.transpose(x, (0, 1, 3, 2, 4, 5)).reshape(b, rows * factor, columns * factor, width)

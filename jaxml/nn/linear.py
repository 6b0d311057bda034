"""Affine maps of the last axis.

>>> import jax
>>> from jaxml.core import param
>>> p = param.init(jax.random.key(0), params(3, 2))
>>> apply(p, jax.numpy.ones((4, 3))).shape
(4, 2)
"""

from typing import Any

from jaxml.core import check
from jaxml.core.param import Param
from jaxml.core.types import Array, Axes, Initializer, PyTree
from jaxml.nn import precision
from jaxml.nn.initializer import lecun_normal, zeros


def params(
    in_width: int,
    out_width: int,
    *,
    axes: Axes = ("embed", "mlp"),
    bias: bool = True,
    init: Initializer = lecun_normal,
) -> PyTree:
    """Declares `kernel` [in, out] and, unless `bias` is off, `bias` [out].

    Args:
      in_width: i.
      out_width: o.
      axes: logical names of (i, o).
      bias: whether there is one.
      init: of the kernel; the bias starts at zero.

    Raises:
      ValueError: a width below 1.
    """
    check.positive(in_width=in_width, out_width=out_width)
    declared = {"kernel": Param((in_width, out_width), axes, init)}
    if bias:
        declared["bias"] = Param((out_width,), (axes[-1],), zeros)
    return declared


def apply(p: PyTree, x: Array, dtype: Any = None) -> Array:
    """`x @ kernel + bias` [..., i] -> [..., o].

    Args:
      p: from `params`.
      x: [..., i].
      dtype: of the operands and the result (default: of `x`); products and the bias are summed
        in float32.

    Raises:
      ValueError: the width of `x` is not i.
    """
    if x.shape[-1] != p["kernel"].shape[0]:
        raise ValueError(
            f"x must have width {p['kernel'].shape[0]}, the kernel's; got x.shape={x.shape}."
        )
    x = x.astype(dtype or x.dtype)
    if "bias" not in p:
        return precision.dot(x, p["kernel"], x.dtype)
    y = precision.dot(x, p["kernel"])
    return (y + precision.along_last(p["bias"], y)).astype(x.dtype)

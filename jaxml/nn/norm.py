"""Normalisations: RMS, simple RMS, layer, group and batch; statistics in float32.

Results come back in the dtype of the input.
"""

import jax
import jax.numpy as jnp

from jaxml.core import check
from jaxml.core.param import Param
from jaxml.core.types import Array, PyTree
from jaxml.nn import precision
from jaxml.nn.initializer import ones, zeros


def srms(x: Array, eps: float = 1e-6, axis_name: str | None = None) -> Array:
    """Simple RMS norm, without a weight: `x / sqrt(mean(x^2) + eps)` over the last axis.

    Args:
      x: [..., d].
      eps: added to the mean square.
      axis_name: mapped axis over which the last axis is sharded, if it is.

    >>> srms(jnp.array([3.0, 4.0]), eps=0.0) * jnp.sqrt(12.5)
    Array([3., 4.], dtype=float32)
    """
    wide = precision.widen(x)
    mean_square = jnp.mean(jnp.square(wide), -1, keepdims=True)
    if axis_name is not None:
        mean_square = jax.lax.pmean(mean_square, axis_name)
    return (wide * jax.lax.rsqrt(mean_square + eps)).astype(x.dtype)


def rms_params(width: int) -> PyTree:
    """Declares `scale` [d]."""
    check.positive(width=width)
    return {"scale": Param((width,), ("embed",), ones)}


def rms(p: PyTree, x: Array, eps: float = 1e-6) -> Array:
    """RMS norm over the last axis [..., d], times `scale`."""
    wide = srms(precision.widen(x), eps)
    return (wide * precision.along_last(p["scale"], wide)).astype(x.dtype)


def layer_params(width: int) -> PyTree:
    """Declares `scale` and `bias` [d]."""
    check.positive(width=width)
    return {"scale": Param((width,), ("embed",), ones), "bias": Param((width,), ("embed",), zeros)}


def layer(p: PyTree, x: Array, eps: float = 1e-5) -> Array:
    """Layer norm over the last axis [..., d]: mean 0, variance 1, then `scale` and `bias`."""
    wide = precision.widen(x)
    centred = wide - jnp.mean(wide, -1, keepdims=True)
    variance = jnp.mean(jnp.square(centred), -1, keepdims=True)
    return _affine(p, centred * jax.lax.rsqrt(variance + eps)).astype(x.dtype)


def group_params(width: int) -> PyTree:
    """Declares `scale` and `bias` [d]."""
    return layer_params(width)


def group(p: PyTree, x: Array, num_groups: int, eps: float = 1e-5) -> Array:
    """Group norm [b, ..., d]: one mean and variance per example and group of channels.

    Raises:
      ValueError: `num_groups` does not divide d.
    """
    width = x.shape[-1]
    check.divides(num_groups=num_groups, width=width)
    wide = precision.widen(x).reshape(x.shape[0], -1, num_groups, width // num_groups)
    centred = wide - jnp.mean(wide, (1, 3), keepdims=True)
    variance = jnp.mean(jnp.square(centred), (1, 3), keepdims=True)
    normal = (centred * jax.lax.rsqrt(variance + eps)).reshape(x.shape)
    return _affine(p, normal).astype(x.dtype)


def batch_params(width: int) -> PyTree:
    """Declares `scale` and `bias` [d]."""
    return layer_params(width)


def batch_state(width: int) -> PyTree:
    """Declares the running `mean` and `var` [d]; make the arrays with `param.init`."""
    check.positive(width=width)
    return {"mean": Param((width,), ("embed",), zeros), "var": Param((width,), ("embed",), ones)}


def batch(
    p: PyTree,
    state: PyTree,
    x: Array,
    *,
    train: bool,
    momentum: float | Array = 0.9,
    eps: float = 1e-5,
    axis_name: str | None = None,
) -> tuple[Array, PyTree]:
    """Batch norm over every axis but the last.

    Args:
      p: from `batch_params`.
      state: running `mean` and `var` [d].
      x: [..., d].
      train: normalise by this batch and update the state; else by the state.
      momentum: share of the old state that stays; i / (i + 1) at batch i is the plain average.
      eps: added to the variance.
      axis_name: mapped axis over which the batch is sharded: all shards share the statistics.

    Returns:
      The result, and the state. The batch is normalised by its biased variance; the running
      `var` averages the unbiased one, as torch does.

    >>> from jaxml.core import param
    >>> p, state = (param.init(jax.random.key(0), f(1)) for f in (batch_params, batch_state))
    >>> y, new = batch(p, state, jnp.array([[0.0], [2.0]]), train=True, momentum=0.5)
    >>> float(new["mean"][0]), float(new["var"][0])
    (0.5, 1.5)
    """
    wide = precision.widen(x)
    if train:
        mean, variance, count = _moments(wide, axis_name)
        seen = {"mean": mean, "var": variance * (count / max(count - 1, 1))}
        state = jax.tree.map(lambda old, new: momentum * old + (1 - momentum) * new, state, seen)
    else:
        mean, variance = state["mean"], state["var"]
    centred = wide - precision.along_last(mean, wide)
    normal = centred * precision.along_last(jax.lax.rsqrt(variance + eps), wide)
    return _affine(p, normal).astype(x.dtype), state


def _moments(x: Array, axis_name: str | None) -> tuple[Array, Array, int]:
    """Mean [d], biased variance [d] and number of samples over all shards."""
    rows, count = x.reshape(-1, x.shape[-1]), x.size // x.shape[-1]

    def average(y: Array) -> Array:
        mean = jnp.mean(y, 0)
        return mean if axis_name is None else jax.lax.pmean(mean, axis_name)

    if axis_name is not None:
        count *= jax.lax.axis_size(axis_name)
    mean = average(rows)
    return mean, average(jnp.square(rows - precision.along_last(mean, rows))), count


def _affine(p: PyTree, x: Array) -> Array:
    return x * precision.along_last(p["scale"], x) + precision.along_last(p["bias"], x)

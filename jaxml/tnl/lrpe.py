"""LRPE: a learned rotary position code that turns heads of width c into heads of width 2c."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxml.core.param import Param
from jaxml.core.types import Array, Key, PyTree, Shape


def params(num_heads: int, head_dim: int) -> PyTree:
    """Declares `theta` [h, 1, c], at first `10000^(-2 i / (h c))` with i over heads and width."""

    def start(key: Key, shape: Shape, dtype: Any) -> Array:
        size = num_heads * head_dim
        return (10_000.0 ** (-2.0 * jnp.arange(size) / size)).reshape(shape).astype(dtype)

    return {"theta": Param((num_heads, 1, head_dim), ("heads", None, None), start)}


def apply(p: PyTree, x_bthc: Array, positions_bt: Array) -> Array:
    """`[x cos(theta t), x sin(theta t)]` [b, t, h, 2c].

    Products of a query and a key so coded depend on the distance of their positions only:
    `sum_c q_c k_c cos(theta_c (t - s))`.
    """
    angle = _angle(p["theta"][None, None, :, 0].astype(jnp.float32), positions_bt[:, :, None, None])
    wide = x_bthc.astype(jnp.float32)
    coded = jnp.concatenate([wide * jnp.cos(angle), wide * jnp.sin(angle)], -1)
    return coded.astype(x_bthc.dtype)


def _angle(theta: Array, positions: Array) -> Array:
    """`theta t` modulo a turn, as exact at the millionth token as at the first.

    A float32 product would lose the angle's fraction there. Turns per token as an integer over 2^32
    wrap around where a turn is full, so the integer product loses nothing.
    """
    turns = jax.lax.stop_gradient(theta) / (2 * jnp.pi)
    steps = ((turns - jnp.round(turns)) * 2.0**32).astype(jnp.int32)
    angle = (steps * positions.astype(jnp.int32)).astype(jnp.float32) * (2 * jnp.pi / 2.0**32)
    slope = theta - jax.lax.stop_gradient(theta)  # zero, with the gradient of theta
    return angle + slope * positions.astype(jnp.float32)


def width(head_dim: int, lrpe: bool) -> int:
    """Key width of a head, with the code or without."""
    return 2 * head_dim if lrpe else head_dim

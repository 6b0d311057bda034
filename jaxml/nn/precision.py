"""Which dtype a layer computes in, and which it accumulates in."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxml.core.types import Array


def accumulator(dtype: Any) -> Any:
    """Float32, or float64 where the operands are.

    >>> accumulator(jnp.bfloat16)
    dtype('float32')
    """
    return jnp.promote_types(dtype, jnp.float32)


def widen(x: Array) -> Array:
    """The array in the dtype it accumulates in."""
    return x.astype(accumulator(x.dtype))


def dot(x: Array, kernel: Array) -> Array:
    """`x @ kernel` [..., i] x [i, o] -> [..., o], operands in the dtype of `x`, wide result."""
    return jax.lax.dot_general(
        x,
        kernel.astype(x.dtype),
        (((x.ndim - 1,), (0,)), ((), ())),
        preferred_element_type=accumulator(x.dtype),
    )


def along_last(vector: Array, like: Array) -> Array:
    """A vector [d] laid along the last axis of `like` [..., d], in its dtype."""
    return jnp.broadcast_to(vector.astype(like.dtype), like.shape)

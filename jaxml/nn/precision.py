"""Which dtype a layer computes in and accumulates in, and other promises about array types."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import custom_derivatives

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


def dot(x: Array, kernel: Array, dtype: Any = None) -> Array:
    """`x @ kernel` [..., i] x [i, o] -> [..., o], operands in the dtype of `x`, sums wide.

    Derivatives multiply in the dtype of `x` too: with the plain rule a wide result makes every
    product of the backward pass a wide one, at half the speed or less.

    Args:
      x: [..., i].
      kernel: [i, o].
      dtype: of the result (default: the accumulator's); the dtype of `x` where nothing is added
        before it is narrowed, which saves writing a wide array and reading it again.

    >>> dot(jnp.ones((2, 3), jnp.bfloat16), jnp.ones((3, 1))).dtype
    dtype('float32')
    """
    kernel = kernel.astype(x.dtype)
    if dtype is not None and dtype != accumulator(x.dtype):
        return _contract(x, kernel, dtype)
    return _wide_dot(x, kernel)


def einsum(spec: str, x: Array, kernel: Array, dtype: Any = None) -> Array:
    """`jnp.einsum` of two arrays under the rule of `dot`.

    >>> einsum("bd,dhc->bhc", jnp.ones((2, 3), jnp.bfloat16), jnp.ones((3, 4, 5))).shape
    (2, 4, 5)
    """
    kernel = kernel.astype(x.dtype)
    if dtype is not None and dtype != accumulator(x.dtype):
        return _sum_over(spec, x, kernel, dtype)
    return _wide_einsum(spec, x, kernel)


@jax.custom_jvp
def _wide_dot(x: Array, kernel: Array) -> Array:
    return _contract(x, kernel, accumulator(x.dtype))


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _wide_einsum(spec: str, x: Array, kernel: Array) -> Array:
    return _sum_over(spec, x, kernel, accumulator(x.dtype))


def _contract(x: Array, kernel: Array, dtype: Any) -> Array:
    last_by_first = (((x.ndim - 1,), (0,)), ((), ()))
    return jax.lax.dot_general(x, kernel, last_by_first, preferred_element_type=dtype)


def _sum_over(spec: str, x: Array, kernel: Array, dtype: Any) -> Array:
    return jnp.einsum(spec, x, kernel, preferred_element_type=dtype)


def _derivative(
    product: Callable[[Array, Array, Any], Array],
    primals: tuple[Array, Array],
    tangents: tuple[Any, Any],
) -> tuple[Array, Array]:
    (x, kernel), (dx, dkernel) = primals, tangents
    value = product(x, kernel, accumulator(x.dtype))  # bare, so that remat policies know it
    slopes = [
        product(left, right, x.dtype).astype(value.dtype)
        for left, right, moving in ((dx, kernel, dx), (x, dkernel, dkernel))
        if not isinstance(moving, custom_derivatives.SymbolicZero)
    ]
    return value, functools.reduce(jnp.add, slopes)


_wide_dot.defjvp(functools.partial(_derivative, _contract), symbolic_zeros=True)
_wide_einsum.defjvp(
    lambda spec, primals, tangents: _derivative(
        functools.partial(_sum_over, spec), primals, tangents
    ),
    symbolic_zeros=True,
)


def along_last(vector: Array, like: Array) -> Array:
    """A vector [d] laid along the last axis of `like` [..., d], in its dtype."""
    return jnp.broadcast_to(vector.astype(like.dtype), like.shape)


def varying_like(x: Array, like: Array) -> Array:
    """`x`, marked inside `shard_map` as differing between devices wherever `like` does.

    What a scan carries must say so from its start; elsewhere this changes nothing.
    """
    want, have = (jax.typeof(a).manual_axis_type.varying for a in (like, x))
    missing = want - have
    return jax.lax.pcast(x, tuple(missing), to="varying") if missing else x

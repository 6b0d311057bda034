"""Whole numbers or none: the exact model counts folds and chunks, the smooth one has gradients."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

from jaxml.core.types import Array


class Rounding(NamedTuple):
    """How quotients become counts.

    Attributes:
      ceil: `a / b` rounded up.
      floor: `a / b` rounded down.
      odd: 1.0 where a count is odd.
      splits: how often the tokens of a product may be split between the arrays of a die, for at
        most so many arrays.
    """

    ceil: Callable[[Array, Array], Array]
    floor: Callable[[Array, Array], Array]
    odd: Callable[[Array], Array]
    splits: Callable[[int], tuple[int, ...]]


def _nearest(a: Array, b: Array) -> tuple[Array, Array]:
    """Quotient to the nearest whole number and its remainder: no division error survives."""
    q = jnp.round(a / b)
    return q, a - q * b


def _ceil(a: Array, b: Array) -> Array:
    q, rest = _nearest(a, b)
    return q + (rest > 0)


def _floor(a: Array, b: Array) -> Array:
    q, rest = _nearest(a, b)
    return q - (rest < 0)


def _odd(n: Array) -> Array:
    return n - 2 * _floor(n, 2 * jnp.ones_like(n))


def _powers(max_arrays: int) -> tuple[int, ...]:
    return tuple(2**i for i in range(int(max_arrays).bit_length()))


EXACT = Rounding(_ceil, _floor, _odd, _powers)
SMOOTH = Rounding(
    lambda a, b: a / b, lambda a, b: a / b, lambda n: jnp.zeros_like(n), lambda _: (1,)
)

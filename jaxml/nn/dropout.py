"""Dropout."""

import jax
import jax.numpy as jnp

from jaxml.core import check
from jaxml.core.types import Array, Key


def apply(key: Key | None, x: Array, rate: float) -> Array:
    """Zeroes each element with probability `rate` and scales the rest by 1 / (1 - rate).

    Args:
      key: of this use; `None` leaves `x` as it is (evaluation).
      x: any shape.
      rate: in [0, 1).

    Raises:
      ValueError: `rate` outside [0, 1).

    >>> sorted(set(apply(jax.random.key(0), jnp.ones(64), 0.5).tolist()))
    [0.0, 2.0]
    """
    if not 0 <= rate < 1:
        raise ValueError(f"rate must lie in [0, 1); got rate={rate}.")
    if key is None or rate == 0:
        return x
    keep = jax.random.bernoulli(key, 1 - rate, x.shape)
    return jnp.where(keep, x / (1 - rate), 0).astype(x.dtype)


def split(key: Key | None, num: int) -> list[Key | None]:
    """`num` keys for as many uses, or as many `None` without a key."""
    check.positive(num=num)
    return [None] * num if key is None else list(jax.random.split(key, num))

"""Tables of vectors, looked up by integer and read back as logits."""

from typing import Any

import jax.numpy as jnp

from jaxml.core import check
from jaxml.core.param import Param
from jaxml.core.types import Array, Initializer, PyTree
from jaxml.nn import precision
from jaxml.nn.initializer import normal


def params(vocab_size: int, width: int, init: Initializer = normal(0.02)) -> PyTree:  # noqa: B008
    """Declares `embedding` [v, d].

    Raises:
      ValueError: a size below 1.
    """
    check.positive(vocab_size=vocab_size, width=width)
    return {"embedding": Param((vocab_size, width), ("vocab", "embed"), init)}


def apply(p: PyTree, ids: Array, dtype: Any = None) -> Array:
    """The rows of `ids` [...] as [..., d], in `dtype` (default: the table's).

    An id past the end of the table gives a row of NaN, so that it cannot pass unseen.

    Raises:
      TypeError: `ids` are not integers.

    >>> apply({"embedding": jnp.eye(3)}, jnp.array([2])).tolist()
    [[0.0, 0.0, 1.0]]
    """
    if not jnp.issubdtype(ids.dtype, jnp.integer):
        raise TypeError(f"ids must be integers; got ids.dtype={ids.dtype}.")
    table = p["embedding"]
    return jnp.take(table, ids, axis=0, mode="fill", fill_value=jnp.nan).astype(
        dtype or table.dtype
    )


def attend(p: PyTree, x: Array) -> Array:
    """Logits [..., v] of `x` [..., d] under the tied table, in float32."""
    return precision.dot(x, p["embedding"].T)

"""Losses and gradients of single examples, batched: what pruning and attribution are built from.

`loss_fn(params, example) -> scalar` of any model; an example is a tree, a data set the same tree
with a leading axis.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from jaxml.core import check
from jaxml.core.types import Array, PyTree

type LossFn = Callable[[PyTree, PyTree], Array]
"""`(params, example) -> scalar`."""


def size(examples: PyTree) -> int:
    """Number of examples.

    Raises:
      ValueError: no array, or arrays of different leading size.
    """
    sizes = {leaf.shape[0] if np.ndim(leaf) else 0 for leaf in jax.tree.leaves(examples)}
    if len(sizes) != 1 or sizes == {0}:
        raise ValueError(f"examples must share one leading size > 0; got sizes {sorted(sizes)}.")
    return sizes.pop()


@functools.lru_cache(maxsize=64)
def _compiled(function: Callable) -> Callable:
    return jax.jit(jax.vmap(function, in_axes=(None, 0)))


def map_batched(
    function: Callable[[PyTree, PyTree], PyTree],
    shared: PyTree,
    examples: PyTree,
    batch_size: int,
    sharding: jax.sharding.Sharding | None = None,
) -> Any:
    """`function(shared, example)` of all examples, `batch_size` at a time, compiled once.

    Args:
      function: of what all share, such as parameters, and one example; the same function object
        is compiled once however many parameters it is called with.
      shared: its first argument.
      examples: tree of arrays [n, ...].
      batch_size: examples at a time; the last batch is padded with the last example.
      sharding: of the leading axis, e.g. over the mesh axis "data"; batch_size must fit it.

    Returns:
      NumPy arrays [n, ...].

    Raises:
      ValueError: batch_size < 1.
    """
    check.at_least(1, batch_size=batch_size)
    num = size(examples)
    out = []
    for begin in range(0, num, batch_size):
        rows = np.minimum(np.arange(begin, begin + batch_size), num - 1)
        batch = jax.tree.map(lambda leaf: leaf[rows], examples)  # noqa: B023
        batch = batch if sharding is None else jax.device_put(batch, sharding)
        kept = min(batch_size, num - begin)
        done = _compiled(function)(shared, batch)
        out.append(jax.tree.map(lambda leaf: np.asarray(leaf)[:kept], done))  # noqa: B023
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *out)


def flat_gradient(loss_fn: LossFn) -> Callable[[PyTree, PyTree], Array]:
    """`(params, example) -> d loss / d params` as one vector [p], float32."""

    def gradient(params: PyTree, example: PyTree) -> Array:
        return ravel_pytree(jax.grad(loss_fn)(params, example))[0].astype(jnp.float32)

    return gradient


def finite(name: str, values: np.ndarray) -> np.ndarray:
    """The values.

    Raises:
      ValueError: one is not finite; says which.
    """
    bad = np.flatnonzero(~np.isfinite(values).reshape(len(values), -1).all(1))
    if len(bad):
        raise ValueError(f"{name} must be finite; got {values[bad[0]]} for example {bad[0]}.")
    return values


def rademacher(key: jax.Array, num_params: int, width: int, block: int = 1024) -> Callable:
    """A random projection `g [p] -> [width]` with entries +-1, made anew block by block.

    The matrix never lies in memory: it depends on the key and the place alone, and inner products
    of projected vectors, divided by `width`, estimate those of the vectors.
    """
    num_blocks = -(-num_params // block)

    def project(gradient: Array) -> Array:
        padded = jnp.pad(gradient, (0, num_blocks * block - num_params)).reshape(num_blocks, block)

        def add(total: Array, at: tuple[Array, Array]) -> tuple[Array, None]:
            index, piece = at
            signs = jax.random.rademacher(
                jax.random.fold_in(key, index), (block, width), jnp.float32
            )
            return total + piece @ signs, None

        start = jnp.zeros(width, jnp.float32)
        return jax.lax.scan(add, start, (jnp.arange(num_blocks), padded))[0]

    return project

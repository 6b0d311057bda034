"""Residual blocks from any mixer and any feed-forward part, and stacks of them under one scan."""

from collections.abc import Callable
from typing import Any, Literal

import jax

from jaxml.core import check
from jaxml.core.types import Array, PyTree

type Layer = Callable[[Array], Array]
"""Any map [b, t, d] -> [b, t, d], its parameters already inside."""

REMAT = {
    "full": None,
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
}
"""What the backward pass keeps of each block: nothing, or the results of its matrix products."""


def pre_norm(x: Array, *parts: tuple[Layer, Layer]) -> Array:
    """`x + part(norm(x))` for each pair (norm, part) in turn.

    >>> import jax.numpy as jnp
    >>> float(pre_norm(jnp.float32(1.0), (jnp.negative, jnp.exp), (jnp.sign, jnp.sin))) > 1
    True
    """
    for norm, part in parts:
        x = x + part(norm(x))
    return x


def post_norm(x: Array, *parts: tuple[Layer, Layer]) -> Array:
    """`norm(x + part(x))` for each pair (norm, part) in turn."""
    for norm, part in parts:
        x = norm(x + part(x))
    return x


def scan_layers(
    block: Callable[[PyTree, Any, Any], tuple[Any, Any]],
    stacked_params: PyTree,
    x: Any,
    inputs: Any = None,
    *,
    remat: Literal["full", "dots"] | None = None,
    unroll: int = 1,
) -> tuple[Any, Any]:
    """Runs the layers one after the other, compiled once.

    Args:
      block: `(p, x, inputs) -> (x, outputs)`, one layer.
      stacked_params: parameters with a leading layer axis (`param.stack`).
      x: what passes from layer to layer; any tree.
      inputs: a tree with a leading layer axis, one slice per layer (keys, caches, masks).
      remat: recompute each block in the backward pass, wholly or all but its matrix products.
      unroll: layers per iteration of the loop.

    Returns:
      The last `x`, and the outputs of all layers, stacked.

    Raises:
      ValueError: another word for `remat`.

    >>> import jax.numpy as jnp
    >>> scan_layers(lambda p, x, _: (p * x, x), jnp.array([2, 3]), jnp.int32(1))
    (Array(6, dtype=int32), Array([1, 2], dtype=int32))
    """
    if remat is not None:
        check.one_of(REMAT, remat=remat)
        block = jax.checkpoint(block, policy=REMAT[remat], prevent_cse=False)

    def body(carry: Any, layer: tuple[PyTree, Any]) -> tuple[Any, Any]:
        return block(layer[0], carry, layer[1])

    return jax.lax.scan(body, x, (stacked_params, inputs), unroll=unroll)

"""One-shot pruning without training (Wanda, Sun et al. 2023): |weight| times its input's norm.

Weights that feed the same output compete with each other, as in the paper; nothing is updated.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp

from jaxml.cap.calibrate import InputNorms, input_norms
from jaxml.cap.masks import nm_mask, topk_mask
from jaxml.cap.transform import is_kernel
from jaxml.core import tree
from jaxml.core.types import Array, PyTree


def calibrated(
    apply: Callable[..., Any], params: PyTree, batches: Iterable[Any]
) -> dict[str, InputNorms]:
    """Sums of squares of inputs over batches; `apply(params, batch)` is compiled once."""
    axes: dict[str, tuple[int, ...]] = {}

    @jax.jit
    def measure(params: PyTree, batch: Any) -> dict[str, Array]:
        found = input_norms(apply, params, batch)
        axes.update({path: x.axes for path, x in found.items()})  # while it is traced
        return {path: x.squares for path, x in found.items()}

    total: dict[str, Array] = {}
    for batch in batches:
        seen = measure(params, batch)
        total = {path: total[path] + x if path in total else x for path, x in seen.items()}
    return {path: InputNorms(x, axes[path]) for path, x in total.items()}


def wanda_masks(
    params: PyTree,
    norms: dict[str, InputNorms],
    keep: float,
    *,
    select: Callable[[str, Array], bool] = is_kernel,
    pattern: tuple[int, int] | None = None,
) -> dict[str, Array]:
    """Masks by path: of the inputs of every output, the `keep` most telling stay.

    Args:
      params: nested dict.
      norms: from `calibrated`.
      keep: share in (0, 1].
      select: which of the calibrated parameters are pruned.
      pattern: (n, m): n of every m consecutive inputs instead of a share.
    """
    leaves, masks = tree.flatten(params), {}
    for path, found in norms.items():
        leaf = leaves[path]
        if not select(path, leaf):
            continue
        scores = jnp.abs(leaf) * jnp.sqrt(found.squares)
        first = [a for a in range(leaf.ndim) if a not in found.axes]
        moved = jnp.transpose(scores, (*first, *found.axes))
        flat = moved.reshape(-1, 1, math.prod(leaf.shape[a] for a in found.axes))
        mask = topk_mask(flat, keep) if pattern is None else nm_mask(flat, *pattern, axis=-1)
        order = [*first, *found.axes]
        masks[path] = jnp.transpose(
            mask.reshape(moved.shape), [order.index(a) for a in range(leaf.ndim)]
        )
    return masks


def apply_masks(params: PyTree, masks: dict[str, Array]) -> PyTree:
    """Parameters with what the masks (by path) remove set to zero."""
    leaves = tree.flatten(params)
    leaves |= {path: leaves[path] * m.astype(leaves[path].dtype) for path, m in masks.items()}
    return tree.unflatten(leaves)

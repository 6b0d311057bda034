"""Pruning as an optax transformation: any trainer's parameters reach a share of zeros.

It wraps an optimiser. Masks follow a schedule; what they remove becomes zero with the very update
and its gradient is zero from then on, so that moments of removed weights fade.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxml.cap.masks import topk_mask
from jaxml.core import check, tree
from jaxml.core.types import Array, PyTree

type MaskFn = Callable[[Array, Array], Array]
"""`(scores [m, i, o], keep) -> bool [m, i, o]`; `topk_mask`, or a pattern that ignores keep."""


class PruningState(NamedTuple):
    """Masks like the parameters (one True where nothing is pruned), steps done, the inner state."""

    masks: PyTree
    count: Array
    inner: Any


def is_kernel(path: str, leaf: Array) -> bool:
    """What is pruned by default: arrays of two or more dimensions that are no embedding."""
    return leaf.ndim >= 2 and "embed" not in path


def pruning(
    inner: optax.GradientTransformation,
    schedule: Callable[[Array], Array],
    *,
    every: int = 1,
    mask_fn: MaskFn = topk_mask,
    select: Callable[[str, Array], bool] = is_kernel,
    num_stacked: Callable[[str], int] = lambda path: 0,
) -> optax.GradientTransformationExtraArgs:
    """Magnitude pruning around an optimiser.

    Args:
      inner: the optimiser.
      schedule: steps done -> share kept, in (0, 1]; e.g. `cubic_threshold` with its ends bound.
      every: steps between new masks.
      mask_fn: which weights of matrices stay, by their sizes.
      select: `(path, leaf) -> bool`, which parameters are pruned.
      num_stacked: leading axes of a leaf that number separate matrices (layers); what is left is
        one ranking, or with three or more axes a matrix whose rows are all but the last axis.

    Raises:
      ValueError: every < 1, or an update without parameters.

    >>> make = pruning(optax.sgd(0.1), lambda count: jnp.float32(0.5))
    >>> params = {"kernel": jnp.array([[1.0, 2.0], [3.0, 4.0]])}
    >>> state = make.init(params)
    >>> updates, state = make.update(jax.tree.map(jnp.zeros_like, params), state, params)
    >>> optax.apply_updates(params, updates)["kernel"].tolist()
    [[0.0, 0.0], [3.0, 4.0]]
    """
    check.positive(every=every)
    rest = optax.with_extra_args_support(inner)

    def init(params: PyTree) -> PruningState:
        def start(path: str, leaf: Array) -> Array:
            return jnp.ones(leaf.shape if select(path, leaf) else (), bool)

        masks = tree.map_with_path(start, params)
        return PruningState(masks, jnp.zeros((), jnp.int32), rest.init(params))

    def remask(params: PyTree, keep: Array) -> PyTree:
        def one(path: str, leaf: Array) -> Array:
            if not select(path, leaf):
                return jnp.ones((), bool)
            stacked = as_matrices(leaf, num_stacked(path))
            return mask_fn(jnp.abs(stacked), keep).reshape(leaf.shape)

        return tree.map_with_path(one, params)

    def update(
        updates: PyTree, state: Any, params: PyTree | None = None, **extra: Any
    ) -> tuple[PyTree, Any]:
        if params is None:
            raise ValueError("params must be given to `update`: masks follow their sizes.")
        slopes = jax.tree.map(lambda g, m: g * m.astype(g.dtype), updates, state.masks)
        moves, deeper = rest.update(slopes, state.inner, params, **extra)
        moved = optax.apply_updates(params, moves)
        masks = jax.lax.cond(
            state.count % every == 0,
            lambda: remask(moved, schedule(state.count)),
            lambda: state.masks,
        )
        moves = jax.tree.map(lambda u, p, m: jnp.where(m, u, -p), moves, params, masks)
        return moves, PruningState(masks, state.count + 1, deeper)

    return optax.GradientTransformationExtraArgs(init, update)


def as_matrices(leaf: Array, num_stacked: int = 0) -> Array:
    """A leaf [stacked..., rows..., o] as matrices [m, rows, o]."""
    check.between(0, leaf.ndim - 1, num_stacked=num_stacked)
    return leaf.reshape(math.prod(leaf.shape[:num_stacked]), -1, leaf.shape[-1])


def density(params: PyTree, select: Callable[[str, Array], bool] = is_kernel) -> float:
    """Share of the selected weights that are not zero.

    >>> density({"kernel": jnp.array([[0.0, 1.0]]), "bias": jnp.zeros(2)})
    0.5
    """
    chosen = [leaf for path, leaf in tree.flatten(params).items() if select(path, leaf)]
    return float(sum(jnp.count_nonzero(leaf) for leaf in chosen)) / sum(x.size for x in chosen)

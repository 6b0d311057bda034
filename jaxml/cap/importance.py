"""Structured pruning: first-order importance of heads and neurons, and steps that remove them."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxml.core import check
from jaxml.core.types import Array, PyTree


class Masks(NamedTuple):
    """What is alive: `heads` [l, h] and feed-forward neurons `ffn` [l, f], 1 or 0 (or slopes)."""

    heads: Any
    ffn: Any


def full_masks(num_layers: int, num_heads: int, hidden: int) -> Masks:
    """Everything alive."""
    check.positive(num_layers=num_layers, num_heads=num_heads, hidden=hidden)
    return Masks(jnp.ones((num_layers, num_heads)), jnp.ones((num_layers, hidden)))


def first_order_importance(
    loss_fn: Callable[[Masks, PyTree], Array],
    masks: Masks,
    batches: PyTree,
    normalize: Literal["layer"] | None = "layer",
) -> Masks:
    """Sum over batches of |d(mean loss of the batch) / d mask| (Michel et al. 2019).

    Args:
      loss_fn: `(masks, batch) -> []`, without dropout; jit the call, not this.
      masks: where the slope is taken.
      batches: every leaf stacked, [batches, ...].
      normalize: divide by the L2 norm of each layer, heads and neurons apart.

    Raises:
      ValueError: another word for `normalize`.
    """
    if normalize not in ("layer", None):
        raise ValueError(f"normalize must be 'layer' or None; got normalize={normalize!r}.")

    def add(total: Masks, batch: PyTree) -> tuple[Masks, None]:
        slope = jax.grad(loss_fn)(masks, batch)
        return jax.tree.map(lambda t, s: t + jnp.abs(s), total, slope), None

    total, _ = jax.lax.scan(add, jax.tree.map(jnp.zeros_like, masks), batches)
    if normalize is None:
        return total
    return jax.tree.map(lambda x: x / (jnp.linalg.norm(x, axis=-1, keepdims=True) + 1e-20), total)


def structured_step(
    importance: Masks, masks: Masks, percent: float, *, before: float = 0.0, min_heads: int = 1
) -> Masks:
    """Masks with the least important heads and neurons removed, one ranking over all layers each.

    Removed ones stay removed. In every layer the `min_heads` most important living heads are not
    ranked, so that the layer keeps them.

    Args:
      importance: from `first_order_importance`.
      masks: of the step before.
      percent: to be removed in all after this step: `int(total * percent / 100)` of each kind.
      before: percentage of the step before.
      min_heads: heads that stay in every layer.

    Raises:
      ValueError: percent does not grow or is above 100, min_heads above the number of heads, or
        more heads to remove than protection leaves.
    """
    if not before < percent <= 100:
        raise ValueError(
            f"percent must grow and be <= 100; got percent={percent}, before={before}."
        )
    num_heads = np.shape(masks.heads)[1]
    if not 0 <= min_heads <= num_heads:
        raise ValueError(
            f"min_heads must be <= the number of heads; got min_heads={min_heads}, "
            f"heads={num_heads}."
        )
    return Masks(
        jnp.asarray(_remove("heads", importance.heads, masks.heads, percent, min_heads)),
        jnp.asarray(_remove("neurons", importance.ffn, masks.ffn, percent, 0)),
    )


def _remove(name: str, importance: Any, mask: Any, percent: float, protect: int) -> np.ndarray:
    importance = np.asarray(importance, np.float64)
    alive = np.asarray(mask) > 0
    goal = int(alive.size * percent / 100)
    num = goal - int((~alive).sum())
    rank = np.argsort(np.argsort(np.where(alive, -importance, np.inf), 1, kind="stable"), 1)
    open_to = alive & (rank >= protect)
    if num > open_to.sum():
        raise ValueError(
            f"percent={percent} would remove {goal} of {alive.size} {name}, but "
            f"min_heads={protect} leaves only {int((~alive).sum() + open_to.sum())} to remove."
        )
    order = np.argsort(np.where(open_to, importance, np.inf), None, kind="stable")
    left = alive.copy()
    left.reshape(-1)[order[: max(num, 0)]] = False
    return left.astype(np.float32)

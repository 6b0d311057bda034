"""Masks of single weights: by size or learned scores, top-k or threshold, and 2:4 patterns.

An array [..., i, o] is a stack of matrices; a mask keeps exactly `int(keep * i * o)` weights of
each, however many scores are equal: among equal ones the lower index stays. The threshold is found
by bisection on the bits of the scores, which sorts nothing.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp

from jaxml.core import check
from jaxml.core.types import Array, PyTree

type Keep = float | Array


def num_kept(keep: Keep, size: int) -> Any:
    """`int(keep * size)`; int32 where `keep` is traced.

    Raises:
      ValueError: keep outside (0, 1].
    """
    if isinstance(keep, jax.Array):
        return jnp.clip(jnp.floor(keep * size), 0, size).astype(jnp.int32)
    if not 0 < keep <= 1:
        raise ValueError(f"keep must lie in (0, 1]; got keep={keep}.")
    return int(keep * size)


def topk_mask(scores: Array, keep: Keep) -> Array:
    """True for the largest scores of every matrix of a stack [..., i, o].

    Args:
      scores: floating; a vector or matrix is one ranking.
      keep: share in (0, 1].

    >>> topk_mask(jnp.zeros((2, 3)), 0.5).tolist()
    [[True, True, True], [False, False, False]]
    """
    size = math.prod(scores.shape[-2:])
    rows = _ordered(scores.reshape(-1, size))
    return _largest(rows, num_kept(keep, size)).reshape(scores.shape)


def topk_masks(scores: PyTree, keep: Keep, scope: Literal["matrix", "global"] = "matrix") -> PyTree:
    """`topk_mask` of every leaf, or one ranking of all leaves together."""
    check.one_of(("matrix", "global"), scope=scope)
    leaves, structure = jax.tree.flatten(scores)
    sizes = [leaf.size if scope == "global" else math.prod(leaf.shape[-2:]) for leaf in leaves]
    made: list[Any] = [None] * len(leaves)
    groups = [list(range(len(leaves)))] if scope == "global" else _alike(sizes)
    for group in groups:  # matrices of one size are ranked in one sweep
        size = sum(sizes) if scope == "global" else sizes[group[0]]
        flat = jnp.concatenate([leaves[i].reshape(-1) for i in group]).reshape(-1, size)
        kept = _largest(_ordered(flat), num_kept(keep, size)).reshape(-1)
        start = 0
        for i in group:
            made[i] = kept[start : start + leaves[i].size].reshape(leaves[i].shape)
            start += leaves[i].size
    return jax.tree.unflatten(structure, made)


def _alike(sizes: Sequence[int]) -> list[list[int]]:
    """Indices of equal sizes together."""
    return [[i for i, s in enumerate(sizes) if s == size] for size in dict.fromkeys(sizes)]


def _ordered(x: Array) -> Array:
    """Unsigned integers in the order of the floats; -0 and 0 are equal."""
    x = x.astype(jnp.float32)
    bits = jax.lax.bitcast_convert_type(jnp.where(x == 0, jnp.zeros_like(x), x), jnp.uint32)
    sign = jnp.uint32(1) << 31
    return jnp.where(bits >= sign, ~bits, bits | sign)


@jax.jit
def _largest(rows: Array, k: Any) -> Array:
    """True for the k largest of each row of unsigned integers [m, n]."""
    wanted = jnp.full((rows.shape[0],), k, jnp.int32)

    def bit(i: Any, floor: Array) -> Array:
        higher = floor | (jnp.uint32(1) << (31 - i).astype(jnp.uint32))
        enough = jnp.sum(rows >= higher[:, None], -1, dtype=jnp.int32) >= wanted
        return jnp.where(enough, higher, floor)

    start = jnp.zeros(rows.shape[0], jnp.uint32)
    kth = jax.lax.fori_loop(0, 32, bit, start)[:, None]
    above, equal = rows > kth, rows == kth
    missing = wanted - jnp.sum(above, -1, dtype=jnp.int32)
    tied = jnp.any(jnp.sum(equal, -1, dtype=jnp.int32) != missing)
    place = jnp.broadcast_to(jnp.arange(rows.shape[1], dtype=jnp.int32), rows.shape)

    def first_places(_: Any) -> Array:
        return _end_of(equal, place, missing)

    def every_place(_: Any) -> Array:
        return jnp.where(missing > 0, rows.shape[1], 0)

    end = jax.lax.cond(tied, first_places, every_place, None)
    return above | (equal & (place < end[:, None]))


def _end_of(equal: Array, place: Array, missing: Array) -> Array:
    """The index before which `missing` of the equal ones lie, int32 [m]."""

    def bit(i: Any, end: Array) -> Array:
        later = end + (jnp.int32(1) << (30 - i).astype(jnp.int32))
        few = jnp.sum(equal & (place < later[:, None]), -1, dtype=jnp.int32) <= missing
        return jnp.where(few, later, end)

    # Bits above the length cannot matter, so that the sum never overflows.
    start = jnp.zeros(missing.shape, jnp.int32)
    skip = 31 - place.shape[1].bit_length()
    return jax.lax.fori_loop(skip, 31, bit, start)


def sigmoid_mask(scores: Array, threshold: Keep, min_keep: float = 0.005) -> Array:
    """True where `sigmoid(score) > threshold`, in every matrix at least the `min_keep` best.

    Args:
      scores: [..., i, o].
      threshold: in [0, 1], may be traced.
      min_keep: where fewer than `int(min_keep * i * o) + 1` pass, so many are kept.
    """
    size = math.prod(scores.shape[-2:])
    rows = scores.reshape(-1, size)
    passed = jax.nn.sigmoid(rows.astype(jnp.float32)) > threshold
    least = int(min_keep * size) + 1
    few = jnp.sum(passed, -1) < least
    best = jax.lax.cond(
        jnp.any(few),
        lambda x: _largest(_ordered(x), least),
        lambda x: jnp.zeros(x.shape, bool),
        rows,
    )
    return jnp.where(few[:, None], best, passed).reshape(scores.shape)


def nm_mask(scores: Array, n: int = 2, m: int = 4, axis: int = -2) -> Array:
    """True for the n largest of every m consecutive entries along the input axis (2:4 sparsity).

    Raises:
      ValueError: m does not divide the axis, or n > m.

    >>> nm_mask(jnp.array([[1.0], [4.0], [3.0], [2.0]]))[:, 0].tolist()
    [False, True, True, False]
    """
    check.between(1, m, n=n)
    moved = jnp.moveaxis(scores, axis, -1)
    check.divides(m=m, axis_size=moved.shape[-1])
    groups = moved.reshape(-1, m)
    order = jnp.argsort(-groups, axis=-1, stable=True)
    rank = jnp.argsort(order, axis=-1)
    return jnp.moveaxis((rank < n).reshape(moved.shape), -1, axis)


@jax.custom_vjp
def straight_through(weight: Array, scores: Array, mask: Array) -> Array:
    """`weight * mask`, whose gradient reaches the scores as if the mask were they.

    dL/dweight = dL/dy * mask, dL/dscores = dL/dy * weight (Sanh et al. 2020, eq. 4).
    """
    del scores
    return weight * mask.astype(weight.dtype)


def _forward(weight: Array, scores: Array, mask: Array) -> tuple[Array, Any]:
    return straight_through(weight, scores, mask), (weight, mask, jnp.zeros((), scores.dtype))


def _backward(kept: Any, slope: Array) -> tuple[Array, Array, None]:
    weight, mask, like = kept
    return slope * mask.astype(slope.dtype), (slope * weight).astype(like.dtype), None


straight_through.defvjp(_forward, _backward)


def score_masks(
    method: str,
    weights: PyTree,
    scores: PyTree,
    level: Keep,
    *,
    scope: Literal["matrix", "global"] = "matrix",
    fixed_threshold: bool = False,
) -> PyTree:
    """The masks of a method at a level of its schedule.

    Args:
      method: "magnitude" ranks |weight|, "movement" and "soft" the scores.
      weights: kernels [..., i, o].
      scores: like them; unused by "magnitude".
      level: the share kept, or with `fixed_threshold` what a sigmoid must pass.
      scope: of the ranking; "soft" always ranks globally.
      fixed_threshold: "soft" only.

    Raises:
      ValueError: another method.
    """
    check.one_of(("magnitude", "movement", "soft"), method=method)
    if method == "magnitude":
        return topk_masks(jax.tree.map(jnp.abs, weights), level, scope)
    if method == "movement":
        return topk_masks(scores, level, scope)
    if fixed_threshold:
        return jax.tree.map(lambda leaf: sigmoid_mask(leaf, level), scores)
    return topk_masks(scores, level, "global")


def masked_dense(
    x: Array, kernel: Array, bias: Array | None, scores: Array, level: Keep, method: str
) -> Array:
    """`x @ (kernel * mask) + bias` [..., i] -> [..., o] with gradients for the scores [i, o].

    `level` is the share kept; for "soft" it is the sigmoid's threshold.
    """
    mask = score_masks(method, kernel, scores, level, fixed_threshold=method == "soft")
    y = x @ straight_through(kernel, scores, mask)
    return y if bias is None else y + jnp.broadcast_to(bias, y.shape)


def score_penalty(scores: PyTree) -> Array:
    """Mean over matrices of the mean sigmoid of their scores, float32 []."""
    each = [
        jnp.mean(jax.nn.sigmoid(leaf.astype(jnp.float32)), (-2, -1)).reshape(-1)
        for leaf in jax.tree.leaves(scores)
    ]
    return jnp.mean(jnp.concatenate(each))


def cubic_threshold(
    step: Any, total: int, start: float, end: float, warmup: int = 0, cooldown: int = 0
) -> Array:
    """A level that stays at `start`, then nears `end` with the third power of what is left.

    Args:
      step: steps done, may be traced.
      total: steps in all.
      start: level up to and including step `warmup`.
      end: level after step `total - cooldown`.
      warmup: steps (the published i * w).
      cooldown: steps (the published f * w).

    Raises:
      ValueError: warmup and cooldown leave no step between them.

    >>> [round(float(cubic_threshold(s, 100, 1.0, 0.1, 10, 10)), 4) for s in (0, 50, 95)]
    [1.0, 0.2125, 0.1]
    """
    if warmup + cooldown >= total:
        raise ValueError(
            f"warmup + cooldown must be < total; got {warmup} + {cooldown}, total={total}."
        )
    left = 1 - (jnp.asarray(step, jnp.float32) - warmup) / (total - warmup - cooldown)
    moving = end + (start - end) * left**3
    late = jnp.where(jnp.asarray(step) > total - cooldown, end, moving)
    return jnp.where(jnp.asarray(step) <= warmup, start, late).astype(jnp.float32)

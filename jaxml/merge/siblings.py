"""Merging networks fine-tuned from one base: no alignment needed, only arithmetic on weights.

Linear averages (`basis.average`), SLERP, task arithmetic (arXiv 2212.04089), TIES (arXiv
2306.01708) and DARE (arXiv 2311.03099). All act on trees of floating-point arrays; other leaves
are the base's.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxml.core import check, rng, tree
from jaxml.core.types import Array, Key, PyTree
from jaxml.merge.spec import check_models


def _floating(leaf: Array) -> bool:
    return jnp.issubdtype(jnp.asarray(leaf).dtype, jnp.floating)


def slerp(a: PyTree, b: PyTree, t: float, *, per_leaf: bool = True) -> PyTree:
    """Interpolation along the great circle from `a` (t = 0) to `b` (t = 1).

    Args:
      a: a network.
      b: another.
      t: in [0, 1].
      per_leaf: an angle for each array; False: one for all parameters together.

    Raises:
      ValueError: trees that differ, or t outside [0, 1].

    >>> a, b = {"w": jnp.array([1.0, 0.0])}, {"w": jnp.array([0.0, 1.0])}
    >>> slerp(a, b, 0.5)["w"].round(3).tolist()
    [0.7070000171661377, 0.7070000171661377]
    """
    check_models([a, b])
    check.between(0, 1, t=t)
    pairs = [
        (x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True) if _floating(x)
    ]
    whole = None if per_leaf else _shares(pairs, t)

    def one(x: Array, y: Array) -> Array:
        if not _floating(x):
            return x
        u, v = whole or _shares([(x, y)], t)
        wide = u * jnp.asarray(x, jnp.float32) + v * jnp.asarray(y, jnp.float32)
        return wide.astype(jnp.asarray(x).dtype)

    return jax.tree.map(one, a, b)


def _shares(pairs: list[tuple[Array, Array]], t: float) -> tuple[Array, Array]:
    """Coefficients of the two ends; those of the straight line where they are nearly parallel."""
    wide = [(jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32)) for x, y in pairs]
    inner = sum(jnp.sum(x * y) for x, y in wide)
    norms = [jnp.sqrt(sum(jnp.sum(jnp.square(p[i])) for p in wide)) for i in (0, 1)]
    cosine = jnp.clip(inner / jnp.maximum(norms[0] * norms[1], 1e-30), -1, 1)
    angle = jnp.arccos(cosine)
    straight = jnp.abs(cosine) > 1 - 1e-6
    sine = jnp.where(straight, 1.0, jnp.sin(angle))
    u = jnp.where(straight, 1 - t, jnp.sin((1 - t) * angle) / sine)
    v = jnp.where(straight, t, jnp.sin(t * angle) / sine)
    return u, v


def task_vector(base: PyTree, tuned: PyTree) -> PyTree:
    """What fine-tuning changed, float32; zero for leaves that are no floating-point numbers."""
    check_models([base, tuned])
    return jax.tree.map(
        lambda x, y: (
            jnp.asarray(y, jnp.float32) - jnp.asarray(x, jnp.float32)
            if _floating(x)
            else jnp.zeros(jnp.shape(x))
        ),
        base,
        tuned,
    )


def add_vector(base: PyTree, vector: PyTree, scale: float = 1.0) -> PyTree:
    """`base + scale * vector`, in the base's dtypes."""

    def one(x: Array, change: Array) -> Array:
        if not _floating(x):
            return x
        x = jnp.asarray(x)
        return (x.astype(jnp.float32) + scale * change).astype(x.dtype)

    return jax.tree.map(one, base, vector)


def task_arithmetic(base: PyTree, tuned: Sequence[PyTree], scale: float = 0.4) -> PyTree:
    """`base + scale * sum of task vectors`; a negative scale makes it forget.

    Raises:
      ValueError: no network, or trees that differ.
    """
    return add_vector(base, _sum([task_vector(base, one) for one in _some(tuned)]), scale)


def ties(base: PyTree, tuned: Sequence[PyTree], density: float = 0.2, scale: float = 1.0) -> PyTree:
    """TIES: trim small changes, elect a sign per parameter, average those that agree with it.

    Args:
      base: what all were tuned from.
      tuned: the networks.
      density: share of each network's changes that is kept, the largest of all its parameters.
      scale: of the merged change.

    Raises:
      ValueError: density outside (0, 1], no network, or trees that differ.
    """
    _check_density(density)
    vectors = [_trimmed(task_vector(base, one), density) for one in _some(tuned)]

    def merge(*changes: Array) -> Array:
        stack = jnp.stack(changes)
        elected = jnp.sign(jnp.sum(stack, 0))
        agree = (jnp.sign(stack) == elected[None]) & (stack != 0)
        count = jnp.maximum(jnp.sum(agree, 0), 1)
        return jnp.sum(jnp.where(agree, stack, 0.0), 0) / count

    return add_vector(base, jax.tree.map(merge, *vectors), scale)


def _trimmed(vector: PyTree, density: float) -> PyTree:
    sizes = jnp.concatenate([jnp.abs(leaf).reshape(-1) for leaf in jax.tree.leaves(vector)])
    keep = max(1, int(density * sizes.size))
    threshold = jax.lax.top_k(sizes, keep)[0][-1]
    return jax.tree.map(lambda x: jnp.where(jnp.abs(x) >= threshold, x, 0.0), vector)


def dare(
    key: Key, base: PyTree, tuned: Sequence[PyTree], density: float = 0.5, scale: float = 1.0
) -> PyTree:
    """DARE: drop changes at random, rescale the rest by 1 / density, average over networks.

    Args:
      key: of the draws; each network and array has its own.
      base: what all were tuned from.
      tuned: the networks.
      density: share of changes that survives.
      scale: of the merged change.

    Raises:
      ValueError: density outside (0, 1], no network, or trees that differ.
    """
    _check_density(density)
    kept = []
    for i, one in enumerate(_some(tuned)):
        own = rng.fold(key, "dare", i)

        def drop(path: str, x: Array, own: Key = own) -> Array:
            stays = jax.random.bernoulli(rng.fold(own, path), density, x.shape)
            return jnp.where(stays, x / density, 0.0)

        kept.append(tree.map_with_path(drop, task_vector(base, one)))
    return add_vector(base, _sum(kept), scale / len(kept))


def _sum(vectors: Sequence[PyTree]) -> PyTree:
    return jax.tree.map(lambda *leaves: sum(leaves[1:], start=leaves[0]), *vectors)


def _some(tuned: Sequence[PyTree]) -> Sequence[PyTree]:
    if not tuned:
        raise ValueError("tuned must hold at least one network; got none.")
    return tuned


def _check_density(density: float) -> None:
    if not 0 < density <= 1:
        raise ValueError(f"density must lie in (0, 1]; got density={density}.")

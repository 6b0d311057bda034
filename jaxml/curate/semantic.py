"""Semantic duplicates: embeddings too close to a neighbour within their cluster (SemDeDup)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxml.core import check
from jaxml.core.types import Array, Key


@functools.partial(jax.jit, static_argnames=("num_clusters", "num_steps"))
def spherical_kmeans(
    key: Key, unit_nd: Array, num_clusters: int, num_steps: int = 100
) -> tuple[Array, Array]:
    """Clusters of directions: unit centres [k, d] and labels int32 [n]; an empty one stays."""
    first = jax.random.choice(key, unit_nd.shape[0], (num_clusters,), replace=False)

    def nearest(centres: Array) -> Array:
        return jnp.argmax(unit_nd @ centres.T, -1).astype(jnp.int32)

    def step(centres: Array, _: None) -> tuple[Array, None]:
        total = jax.ops.segment_sum(unit_nd, nearest(centres), num_clusters)
        norm = jnp.linalg.norm(total, axis=-1, keepdims=True)
        return jnp.where(norm > 0, total / jnp.maximum(norm, 1e-12), centres), None

    centres, _ = jax.lax.scan(step, unit_nd[first], length=num_steps)
    return centres, nearest(centres)


def semantic(
    emb: np.ndarray | Array,
    key: Key,
    k: int,
    eps: float,
    *,
    num_steps: int = 100,
    transitive: bool = True,
) -> np.ndarray:
    """Which items stay when near copies within a cluster go (Abbas et al. 2023, "hard").

    Within a cluster items are sorted by increasing cosine to the centre, so that far ones stay;
    item j goes if an earlier item i has cosine above `1 - eps`.

    Args:
      emb: embeddings [n, d]; scaled to unit length here.
      key: draws the first centres.
      k: number of clusters, at most n.
      eps: in (0, 2); larger removes more.
      num_steps: iterations of k-means.
      transitive: compare also with items that were removed, as the paper; else with kept ones.

    Returns:
      bool [n].

    Raises:
      ValueError: k outside [1, n], eps outside (0, 2), or a zero or non-finite row.
    """
    emb = np.asarray(emb, np.float32)
    check.shape("emb", emb, ["n", "d"])
    check.between(1, len(emb), k=k)
    if not 0 < eps < 2:
        raise ValueError(f"eps must lie in (0, 2); got eps={eps}.")
    norm = np.linalg.norm(emb, axis=1, keepdims=True)
    if not np.all(np.isfinite(norm) & (norm > 0)):
        bad = int(np.flatnonzero(~(np.isfinite(norm) & (norm > 0)).ravel())[0])
        raise ValueError(f"emb must have finite rows that are not zero; got emb[{bad}].")
    unit = emb / norm
    centres, labels = map(np.asarray, spherical_kmeans(key, unit, k, num_steps))
    return prune_clusters(unit, centres, labels, eps, transitive=transitive)


def prune_clusters(
    unit_nd: np.ndarray,
    centres_kd: np.ndarray,
    labels_n: np.ndarray,
    eps: float,
    *,
    transitive: bool = True,
    block: int = 2048,
) -> np.ndarray:
    """The second half of `semantic`, for clusters that are known: bool [n]."""
    keep = np.ones(len(unit_nd), bool)
    to_centre = np.sum(unit_nd * centres_kd[labels_n], 1)
    order = np.lexsort((np.arange(len(unit_nd)), to_centre, labels_n))
    bounds = np.searchsorted(labels_n[order], np.arange(len(centres_kd) + 1))
    for a, b in zip(bounds[:-1], bounds[1:], strict=True):
        members = order[a:b]
        keep[members] = ~too_close(unit_nd[members], eps, transitive=transitive, block=block)
    return keep


def too_close(
    unit_nd: np.ndarray, eps: float, *, transitive: bool = True, block: int = 2048
) -> np.ndarray:
    """Which rows of one cluster have an earlier one with cosine above `1 - eps`: bool [n]."""
    decide = _any_earlier if transitive else _kept_earlier
    return decide(unit_nd, 1.0 - eps, block)


def _any_earlier(rows: np.ndarray, limit: float, block: int) -> np.ndarray:
    drop = np.zeros(len(rows), bool)
    for a in range(0, len(rows), block):
        cosine = rows[: a + block] @ rows[a : a + block].T
        earlier = np.arange(len(cosine))[:, None] < np.arange(a, a + cosine.shape[1])[None]
        drop[a : a + block] = np.any((cosine > limit) & earlier, axis=0)
    return drop


def _kept_earlier(rows: np.ndarray, limit: float, block: int) -> np.ndarray:
    drop = np.zeros(len(rows), bool)
    for j in range(1, len(rows)):
        drop[j] = np.any(rows[:j][~drop[:j]] @ rows[j] > limit)
    return drop

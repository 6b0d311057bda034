"""Dense linear algebra that several systems share."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxml.core import check
from jaxml.core.types import Array, Key


def procrustes(source_nd: Array, target_nd: Array) -> Array:
    """The orthogonal matrix R [d, d] that minimises `||source R - target||` (Frobenius).

    Raises:
      ValueError: the two are not of one shape [n, d].
    """
    sizes = check.shape("source_nd", source_nd, ["n", "d"])
    check.shape("target_nd", target_nd, [sizes["n"], sizes["d"]])
    left, _, right = jnp.linalg.svd(source_nd.T @ target_nd, full_matrices=False)
    return left @ right


class KMeans(NamedTuple):
    """Centres [k, d], the nearest centre of each point [n], and the mean squared distance []."""

    centres: Array
    labels: Array
    inertia: Array


def _squared_distances(x_nd: Array, y_md: Array) -> Array:
    norms = jnp.sum(x_nd**2, -1)[:, None] + jnp.sum(y_md**2, -1)[None, :]
    return jnp.maximum(norms - 2.0 * x_nd @ y_md.T, 0.0)


def kmeans(key: Key, x_nd: Array, num_clusters: int, num_steps: int = 50) -> KMeans:
    """Lloyd's algorithm from k-means++ centres; an empty cluster keeps its centre.

    Args:
      key: draws the first centres.
      x_nd: points [n, d].
      num_clusters: k, at most n.
      num_steps: Lloyd steps.

    Raises:
      ValueError: k outside [1, n].
    """
    n = x_nd.shape[0]
    check.between(1, n, num_clusters=num_clusters)
    keys = jax.random.split(key, num_clusters)
    first = x_nd[jax.random.randint(keys[0], (), 0, n)]

    def seed(nearest: Array, key: Key) -> tuple[Array, Array]:
        weights = jnp.where(jnp.any(nearest > 0), nearest, 1.0)
        centre = x_nd[jax.random.categorical(key, jnp.log(weights))]
        return jnp.minimum(nearest, _squared_distances(x_nd, centre[None])[:, 0]), centre

    start = _squared_distances(x_nd, first[None])[:, 0]
    _, rest = jax.lax.scan(seed, start, keys[1:])

    def step(centres: Array, _: None) -> tuple[Array, None]:
        member = jax.nn.one_hot(jnp.argmin(_squared_distances(x_nd, centres), -1), num_clusters)
        size = member.sum(0)[:, None]
        return jnp.where(size > 0, member.T @ x_nd / jnp.maximum(size, 1.0), centres), None

    centres, _ = jax.lax.scan(step, jnp.concatenate([first[None], rest]), length=num_steps)
    distances = _squared_distances(x_nd, centres)
    return KMeans(centres, jnp.argmin(distances, -1), jnp.mean(jnp.min(distances, -1)))


def top_k(queries_qd: Array, gallery_nd: Array, k: int, block: int = 4096) -> tuple[Array, Array]:
    """The k largest inner products of each query, without the [q, n] matrix in memory.

    Args:
      queries_qd: [q, d].
      gallery_nd: [n, d].
      k: at most n.
      block: gallery rows compared at a time.

    Returns:
      Scores [q, k], highest first, and their rows in the gallery, int32 [q, k]; among equal
      scores the smaller row comes first.

    Raises:
      ValueError: k outside [1, n], or widths that differ.
    """
    check.shape("queries_qd", queries_qd, ["q", gallery_nd.shape[1]])
    n = gallery_nd.shape[0]
    check.between(1, n, k=k)
    block = min(block, n)
    num_blocks = -(-n // block)
    padded = jnp.pad(gallery_nd, ((0, num_blocks * block - n), (0, 0)))

    def merge(best: tuple[Array, Array], index: Array) -> tuple[tuple[Array, Array], None]:
        rows = index * block + jnp.arange(block, dtype=jnp.int32)
        scores = queries_qd @ jax.lax.dynamic_slice_in_dim(padded, index * block, block).T
        scores = jnp.where(rows < n, scores, -jnp.inf)
        every = jnp.concatenate([best[0], scores], -1)
        ids = jnp.concatenate([best[1], jnp.broadcast_to(rows, scores.shape)], -1)
        values, where = jax.lax.top_k(every, k)
        return (values, jnp.take_along_axis(ids, where, -1)), None

    num_queries = queries_qd.shape[0]
    scores = jnp.full((num_queries, k), -jnp.inf, queries_qd.dtype)
    none = (scores, jnp.full((num_queries, k), n, jnp.int32))
    best, _ = jax.lax.scan(merge, none, jnp.arange(num_blocks, dtype=jnp.int32))
    return best

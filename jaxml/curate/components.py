"""Connected components of the pairs of near duplicates, and who survives."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxml.core import check
from jaxml.core.types import Array


@functools.partial(jax.jit, static_argnames="num")
def _labels(edges_e2: Array, num: int) -> Array:
    u, v = edges_e2[:, 0], edges_e2[:, 1]

    def round_(state: tuple[Array, Array]) -> tuple[Array, Array]:
        label, _ = state
        low = jnp.minimum(label[u], label[v])
        hooked = label.at[label[u]].min(low).at[label[v]].min(low).at[u].min(low).at[v].min(low)
        hooked = hooked[hooked]
        return hooked, jnp.any(hooked != label)

    start = (jnp.arange(num, dtype=jnp.int32), jnp.array(True))
    return jax.lax.while_loop(lambda state: state[1], round_, start)[0]


def components(edges: np.ndarray, n: int) -> np.ndarray:
    """The smallest index of each node's connected component: int32 [n].

    Minimum labels move along edges onto the roots, then paths are halved, until nothing changes;
    each round is linear in nodes and edges.

    Args:
      edges: int [e, 2], in any order, either direction.
      n: number of nodes.

    Raises:
      ValueError: an index outside [0, n).

    >>> components(np.array([[1, 3], [3, 2]]), 5).tolist()
    [0, 1, 1, 1, 4]
    """
    edges = np.asarray(edges, np.int32).reshape(-1, 2)
    if not len(edges):
        return np.arange(n, dtype=np.int32)
    check.between(0, n - 1, smallest_index=int(edges.min()), largest_index=int(edges.max()))
    room = 1 << max(len(edges) - 1, 1023).bit_length()
    padded = np.zeros((room, 2), np.int32)
    padded[: len(edges)] = edges
    nodes = 1 << max(n - 1, 1023).bit_length()
    return np.asarray(_labels(padded, nodes))[:n]


def survivors(labels: np.ndarray, order: np.ndarray | None = None) -> np.ndarray:
    """Which nodes stay: of each component the one that comes first in `order`.

    Args:
      labels: int [n], equal within a component.
      order: [n] numbers or strings to sort by, e.g. ids; positions by default.

    Returns:
      bool [n].
    """
    ranked = np.arange(len(labels)) if order is None else np.argsort(order, kind="stable")
    keep = np.zeros(len(labels), bool)
    _, first = np.unique(np.asarray(labels)[ranked], return_index=True)
    keep[ranked[first]] = True
    return keep

"""Alignment of features that move as blocks: the heads of attention."""

from collections.abc import Callable

import numpy as np

from jaxml.merge.align import Alignment, assign

type Pair = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Covariances (reference, other, between)."""


def align_blocks(
    sxx: np.ndarray,
    syy: np.ndarray,
    sxy: np.ndarray,
    block: int,
    align: Callable[[np.ndarray, np.ndarray, np.ndarray], Alignment],
    score: Callable[[Alignment, Pair], float],
) -> Alignment:
    """Matches blocks one to one, and changes the basis inside each.

    Args:
      sxx: [d, d], of the reference.
      syy: of the other network.
      sxy: between them, rows the reference.
      block: features of a block; divides d.
      align: inside one pair of blocks, from its three covariances.
      score: how well a pair fits; the sum over pairs is maximised.

    Returns:
      An alignment whose `order` moves whole blocks.
    """
    num = len(sxx) // block
    cuts = [slice(i * block, (i + 1) * block) for i in range(num)]
    pairs = [[(sxx[a, a], syy[b, b], sxy[a, b]) for b in cuts] for a in cuts]
    found = [[align(*pair) for pair in row] for row in pairs]
    scores = [
        [score(f, p) for f, p in zip(*rows, strict=True)] for rows in zip(found, pairs, strict=True)
    ]
    match = assign(np.asarray(scores))
    matrix, inverse = np.zeros_like(sxx), np.zeros_like(sxx)
    for i, j in enumerate(match):
        matrix[cuts[i], cuts[j]] = found[i][j].matrix
        inverse[cuts[j], cuts[i]] = found[i][j].inverse
    order = (match[:, None] * block + np.arange(block)).reshape(-1)
    correlations = [found[i][j].correlations for i, j in enumerate(match)]
    known = [c for c in correlations if c is not None]
    joined = np.sort(np.concatenate(known))[::-1] if known else None
    dead = sum(found[i][j].num_dead for i, j in enumerate(match))
    return Alignment(matrix, inverse, order, joined, dead)

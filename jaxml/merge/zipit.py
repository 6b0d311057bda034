"""ZipIt! (arXiv 2305.03053): features are merged within networks as well as between them."""

import numpy as np

from jaxml.core import check
from jaxml.merge.align import Alignment


def zipit_match(
    correlation: np.ndarray, num_models: int, alpha: float = 1e-4, beta: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Greedy merging of the features of all networks until one network's number is left.

    The most correlated pair becomes one feature, whose correlation with any other is the smaller
    of the two, times `alpha`. Once a network has spent its share of merges within itself (counted
    after each of them), its remaining features merge with others' only.

    Args:
      correlation: [n d, n d], features of all networks side by side.
      num_models: n.
      alpha: how much a merged feature is held back from merging again, in [0, 1]; 0: it cannot.
      beta: share of the merges that may join features of one network, in [0, 1].

    Returns:
      `merge` [n d, d], columns that average, times n; and `unmerge` [n d, d], membership.

    Raises:
      ValueError: n does not divide the matrix, or alpha or beta outside [0, 1].
    """
    total = check.shape("correlation", correlation, ["nd", "nd"])["nd"]
    check.divides(num_models=num_models, width=total)
    check.between(0, 1, alpha=alpha, beta=beta)
    d = total // num_models
    similar = np.array(correlation, np.float64)
    np.fill_diagonal(similar, -np.inf)
    owner = np.repeat(np.arange(num_models), d)
    member = np.arange(total)  # the remaining feature that each original one is part of
    budget = np.full(num_models, int((total - d) // num_models * beta + 1e-4))
    best = similar.argmax(1)
    values = similar[np.arange(total), best]
    for _ in range(total - d):
        i, j = _pair(values, best, member)
        member[member == j] = i
        _join(similar, i, j, alpha)
        stale = (best == i) | (best == j)
        stale[[i, j]] = True
        if owner[i] == owner[j]:
            budget[owner[i]] -= 1
            if budget[owner[i]] <= 0:
                mine = owner == owner[i]
                similar[np.ix_(mine, mine)] = -np.inf
                stale |= mine
        owner[j] = num_models  # gone
        rows = np.flatnonzero(stale)
        best[rows] = similar[rows].argmax(1)
        values[rows] = similar[rows, best[rows]]
        better = similar[:, i] > values
        best[better], values[better] = i, similar[better, i]
    unmerge = (member[:, None] == np.unique(member)[None, :]).astype(np.float64)
    return unmerge / (unmerge.sum(0) + 1e-5) * num_models, unmerge


def _pair(values: np.ndarray, best: np.ndarray, member: np.ndarray) -> tuple[int, int]:
    """The most similar two features, smaller index first; any two if none may merge."""
    i = int(values.argmax())
    if values[i] == -np.inf:
        left = np.unique(member)
        return int(left[0]), int(left[1])
    j = int(best[i])
    return min(i, j), max(i, j)


def _join(similar: np.ndarray, i: int, j: int, alpha: float) -> None:
    """Feature i becomes both; feature j goes."""
    joined = np.minimum(similar[i], similar[j])
    joined = joined * alpha if alpha > 0 else np.full_like(joined, -np.inf)
    joined[[i, j]] = -np.inf
    similar[i], similar[:, i] = joined, joined
    similar[j], similar[:, j] = -np.inf, -np.inf


def zipit_align(
    correlation: np.ndarray, num_models: int, alpha: float, beta: float
) -> list[Alignment]:
    """The matching as one change of basis per network, the reference's included."""
    merge, unmerge = zipit_match(correlation, num_models, alpha, beta)
    d = merge.shape[1]
    return [
        Alignment(merge[k : k + d].T, unmerge[k : k + d], np.arange(d))
        for k in range(0, num_models * d, d)
    ]

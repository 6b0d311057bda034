"""Changes of basis from the features y of one network to the features x of the reference.

All decompositions run in float64 on the host: polar factors of nearly singular matrices are
where float32 is wrong by percents.
"""

from typing import NamedTuple

import numpy as np

from jaxml.core import check

DEAD = 1e-10
"""A channel below this share of the mean variance is dead."""
UNCORRELATED = 1e-6
"""Canonical correlations below this say nothing about direction."""


type Roots = tuple[np.ndarray, np.ndarray]
"""A square root R of a covariance, R R^T = S, and its inverse."""


class Alignment(NamedTuple):
    """A change of basis of one node.

    Attributes:
      matrix: T [d, d]: aligned features are `T y`.
      inverse: what readers are multiplied by, [d, d]: T^-1, or what a method has in its place.
      order: the permutation part: aligned feature i is feature `order[i]`; for rigid axes.
      correlations: canonical correlations, largest first; None where the method has none.
      num_dead: channels without variance, the more numerous of the two networks'.
    """

    matrix: np.ndarray
    inverse: np.ndarray
    order: np.ndarray
    correlations: np.ndarray | None = None
    num_dead: int = 0

    @property
    def condition(self) -> float:
        """Largest over smallest singular value of T."""
        values = np.linalg.svd(self.matrix, compute_uv=False)
        return float(values[0] / values[-1]) if values[-1] > 0 else float("inf")


def identity(size: int) -> Alignment:
    """The change of basis that changes nothing."""
    eye = np.eye(size)
    return Alignment(eye, eye, np.arange(size))


def permutation(order: np.ndarray) -> Alignment:
    """Aligned feature i is feature `order[i]`.

    >>> permutation(np.array([2, 0, 1])).matrix @ np.array([10.0, 20.0, 30.0])
    array([30., 10., 20.])
    """
    matrix = np.eye(len(order))[order]
    return Alignment(matrix, matrix.T, np.asarray(order))


def assign(scores: np.ndarray) -> np.ndarray:
    """The permutation that maximises the sum of `scores[i, order[i]]`, int64 [d].

    Raises:
      ValueError: not square, or not finite.
    """
    from scipy.optimize import linear_sum_assignment

    check.shape("scores", scores, ["d", "d"])
    _check_finite(scores=scores)
    return linear_sum_assignment(scores, maximize=True)[1]


def permute_align(correlation: np.ndarray) -> Alignment:
    """The permutation of highest total correlation (activation matching).

    Args:
      correlation: [d, d], rows the reference's features, columns the other's.
    """
    return permutation(assign(correlation))


def correlation(sxx: np.ndarray, syy: np.ndarray, sxy: np.ndarray) -> np.ndarray:
    """Correlations [d, d] from covariances; deviations below 1e-7 count as 1e-7."""
    deviations = [np.sqrt(np.clip(np.diag(s), 1e-14, None)) for s in (sxx, syy)]
    return sxy / np.outer(*deviations)


def cca_align(
    sxx: np.ndarray,
    syy: np.ndarray,
    sxy: np.ndarray,
    gamma: float = 0.1,
    *,
    relative: bool = True,
    reference_roots: Roots | None = None,
) -> Alignment:
    """The canonical-correlation change of basis (CCA Merge, arXiv 2407.05385).

    With C = Sxx^-1/2 Sxy Syy^-1/2 = U diag(s) V^T: T = Sxx^1/2 U V^T Syy^-1/2, which satisfies
    T Syy T^T = Sxx. Sxx and Syy have gamma on their diagonal, Sxy has not. Where s vanishes U V^T
    is arbitrary; there it is the rotation nearest to matching the features one by one. Channels
    without variance in both networks are matched with each other and left out.

    Args:
      sxx: covariance of the reference, [d, d].
      syy: of the other network.
      sxy: between them, rows the reference.
      gamma: added to the diagonals, >= 0.
      relative: gamma is in units of the mean variance, trace(S) / d, of each network; the
        paper's is absolute.
      reference_roots: `regularised_roots(sxx, ...)`, to make them once for many networks.

    Raises:
      ValueError: gamma < 0, shapes that differ, values that are not finite, or gamma = 0 with a
        covariance that is singular (fewer samples than features, or features that depend on
        each other).

    >>> mix, s = np.array([[2.0, 1.0], [0.0, 1.0]]), np.array([[2.0, 0.5], [0.5, 1.0]])
    >>> found = cca_align(s, mix @ s @ mix.T, s @ mix.T, gamma=0.0).matrix @ mix
    >>> bool(np.allclose(found, np.eye(2)))
    True
    """
    d = check.shape("sxx", sxx, ["d", "d"])["d"]
    for name, matrix in (("syy", syy), ("sxy", sxy)):
        check.shape(name, matrix, [d, d])
    check.at_least(0, gamma=gamma)
    sxx, syy, sxy = (np.asarray(s, np.float64) for s in (sxx, syy, sxy))
    _check_finite(sxx=sxx, syy=syy, sxy=sxy)
    match = assign(correlation(sxx, syy, sxy))
    live_x, live_y, num_dead = _live(sxx, syy, match)
    matrix, inverse = np.eye(d)[match], np.eye(d)[match].T
    inner = np.searchsorted(np.sort(live_y), match[live_x])
    columns = np.sort(live_y)
    share = [gamma * (np.trace(s) / d if relative else 1.0) for s in (sxx, syy)]
    x_roots = reference_roots if len(live_x) == d else None
    found = _cca(
        x_roots or _roots(sxx[np.ix_(live_x, live_x)], share[0], "sxx"),
        _roots(syy[np.ix_(columns, columns)], share[1], "syy"),
        sxy[np.ix_(live_x, columns)],
        np.eye(len(columns))[inner],
    )
    matrix[np.ix_(live_x, columns)], inverse[np.ix_(columns, live_x)] = found[:2]
    return Alignment(matrix, inverse, match, found[2], num_dead)


def _live(
    sxx: np.ndarray, syy: np.ndarray, match: np.ndarray
) -> tuple[np.ndarray, np.ndarray, int]:
    """Features that vary in either network of a matched pair: rows, their partners, the dead."""
    dead_x, dead_y = (np.diag(s) <= DEAD * np.trace(s) / len(s) for s in (sxx, syy))
    both = dead_x & dead_y[match]
    rows = np.flatnonzero(~both)
    if not len(rows):
        raise ValueError("features must vary; every channel has zero variance.")
    return rows, match[rows], int(max(dead_x.sum(), dead_y.sum()))


def _cca(
    x_roots: Roots, y_roots: Roots, sxy: np.ndarray, prior: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """T, its inverse, and the canonical correlations."""
    (x_root, x_white), (y_root, y_white) = x_roots, y_roots
    left, correlations, right = np.linalg.svd(x_white @ sxy @ y_white.T)
    rotation = _polar(left, correlations, right, x_white @ prior @ y_root)
    return x_root @ rotation @ y_white, y_root @ rotation.T @ x_white, correlations


def regularised_roots(s: np.ndarray, gamma: float, *, relative: bool = True) -> Roots:
    """A root of S + gamma I of the reference and its inverse; arguments as in `cca_align`."""
    check.at_least(0, gamma=gamma)
    share = gamma * (np.trace(s) / len(s) if relative else 1.0)
    return _roots(np.asarray(s, np.float64), share, "sxx")


def _roots(s: np.ndarray, gamma: float, name: str) -> Roots:
    """A root of S + gamma I and its inverse.

    Any root will do: another one R O, with O orthogonal, turns U V^T by O on its side, and T stays.
    So it is the triangular one, where that is safe, and the symmetric one else.
    """
    from scipy.linalg import solve_triangular

    eye = np.eye(len(s))
    try:
        low = np.linalg.cholesky((s + s.T) / 2 + gamma * eye)
    except np.linalg.LinAlgError:
        low = np.zeros_like(eye)
    pivots = np.diag(low)
    if pivots.min() > 1e-5 * pivots.max():
        return low, solve_triangular(low, eye, lower=True)
    values, vectors = np.linalg.eigh((s + s.T) / 2)
    values = np.clip(values, 0.0, None) + gamma
    if values[0] <= 1e-13 * values[-1]:
        raise ValueError(
            f"gamma must be > 0 where a covariance is singular; got gamma={gamma:g}, and {name} "
            f"has rank {int(np.sum(values > 1e-13 * values[-1]))} of {len(values)} (more samples, "
            "or a larger gamma)."
        )
    roots = np.sqrt(values)
    return (vectors * roots) @ vectors.T, (vectors / roots) @ vectors.T


def _polar(left: np.ndarray, s: np.ndarray, right: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """The orthogonal factor U V^T; in the null space, the rotation nearest to `prior`."""
    known = s > UNCORRELATED * max(s[0], np.finfo(float).tiny)
    if known.all():
        return left @ right
    u0, v0 = left[:, ~known], right[~known]
    a, _, b = np.linalg.svd(u0.T @ prior @ v0.T)
    return left[:, known] @ right[known] + u0 @ (a @ b) @ v0


def _check_finite(**arrays: np.ndarray) -> None:
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise ValueError(f"{name} must be finite; it holds NaN or infinity.")

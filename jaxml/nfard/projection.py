"""Making the neurons of two models comparable: linear projections, and matching one to one.

Fit on one half of the suite, measure on the other: on the rows it was fitted to, any model with
enough neurons looks like the victim.
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxml.core import check
from jaxml.core.types import Array
from jaxml.nfard.distance import check_finite

Method = Literal["lstsq", "procrustes"]
METHODS = ("lstsq", "procrustes")


class Projection(NamedTuple):
    """S -> (S - s_mean) matrix + v_mean; matrix [d_s, d_v], means [d_s] and [d_v]."""

    matrix: Array
    s_mean: Array
    v_mean: Array


def ridge_map(s_nd: Array, v_nd: Array, ridge: float | Array) -> Projection:
    """`fit_projection` by least squares, pure; `ridge` > 0."""
    s_mean, v_mean = jnp.mean(s_nd, 0), jnp.mean(v_nd, 0)
    s, v = s_nd - s_mean[None, :], v_nd - v_mean[None, :]
    gram = s.T @ s
    # A suspect that says nothing has a zero Gram matrix: any positive shift maps it to the mean.
    shift = ridge * jnp.trace(gram) / s.shape[1]
    shift = jnp.where(shift > 0, shift, 1.0)
    matrix = jnp.linalg.solve(gram + shift * jnp.eye(s.shape[1], dtype=s.dtype), s.T @ v)
    return Projection(matrix, s_mean, v_mean)


_ridge_map = jax.jit(ridge_map)


def fit_projection(
    s_fit: Array | np.ndarray,
    v_fit: Array | np.ndarray,
    method: Method = "lstsq",
    ridge: float = 1e-3,
) -> Projection:
    """The linear map from the suspect's neurons to the victim's.

    `lstsq`: argmin ||S P - V||^2 + ridge tr(S'S)/d_s ||P||^2, columns centred. `procrustes`: the
    semi-orthogonal U W' of the thin SVD S'V = U diag W'. Which of them the paper calls the optimal
    projection matrix is not known to us.

    Args:
      s_fit: the suspect's NFs on the fit half [N, d_s].
      v_fit: the victim's [N, d_v].
      method: one of the two.
      ridge: >= 0, relative; procrustes has none.

    Raises:
      ValueError: N that differ, NaN or infinity, or ridge 0 with N <= d_s.
    """
    check.one_of(METHODS, method=method)
    check.at_least(0, ridge=ridge)
    n = check.shape("s_fit", s_fit, ["N", "d_s"])["N"]
    check.shape("v_fit", v_fit, [n, "d_v"])
    check_finite(s_fit=s_fit, v_fit=v_fit)
    if method == "lstsq" and ridge == 0 and n <= s_fit.shape[1]:
        raise ValueError(
            f"ridge must be > 0 with no more samples than neurons; got ridge=0, N={n}, "
            f"d_s={s_fit.shape[1]}."
        )
    s, v = jnp.asarray(s_fit), jnp.asarray(v_fit)
    if method == "lstsq" and ridge > 0:
        return _ridge_map(s, v, ridge)
    s_mean, v_mean = jnp.mean(s, 0), jnp.mean(v, 0)
    s, v = s - s_mean[None, :], v - v_mean[None, :]
    if method == "lstsq":
        return Projection(jnp.linalg.lstsq(s, v)[0], s_mean, v_mean)
    left, _, right = jnp.linalg.svd(s.T @ v, full_matrices=False)
    return Projection(left @ right, s_mean, v_mean)


def apply_projection(projection: Projection, s: Array | np.ndarray) -> Array:
    """The suspect's NFs [N, d_s] as the victim's neurons would say it, [N, d_v]."""
    moved = jnp.asarray(s) - projection.s_mean[None, :]
    return moved @ projection.matrix + projection.v_mean[None, :]


def match_neurons(v_fit: Array | np.ndarray, s_fit: Array | np.ndarray) -> np.ndarray:
    """Which neuron of the suspect is which of the victim: the assignment of largest correlation.

    Undoes reordering and positive rescaling of neurons (Hungarian algorithm).

    Args:
      v_fit: the victim's NFs on the fit half [N, d].
      s_fit: the suspect's [N, d].

    Returns:
      order int64 [d]: the victim's neuron j is the suspect's neuron `order[j]`.

    Raises:
      ValueError: shapes that differ, NaN or infinity.
    """
    from scipy.optimize import linear_sum_assignment

    sizes = check.shape("v_fit", v_fit, ["N", "d"])
    check.shape("s_fit", s_fit, [sizes["N"], sizes["d"]])
    check_finite(v_fit=v_fit, s_fit=s_fit)
    v, s = (_standardised(np.asarray(x, np.float64)) for x in (v_fit, s_fit))
    return linear_sum_assignment(v.T @ s, maximize=True)[1]


def _standardised(x: np.ndarray) -> np.ndarray:
    x = x - x.mean(0)
    norm = np.linalg.norm(x, axis=0)
    return x / np.where(norm > 0, norm, 1.0)

"""Distances between the NF matrices of a victim V and a suspect S: lower is closer.

Both are differences of columns, so a copy is at distance zero exactly, in any precision.
"""

import functools
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxml.core import check
from jaxml.core.types import Array
from jaxml.nn import precision

Metric = Literal["cosine", "euclidean", "euclidean_z"]
METRICS = ("cosine", "euclidean", "euclidean_z")
CONSTANT = 1e-6
"""A neuron of the suspect whose deviation is below this share of its size is constant."""


class Distance(NamedTuple):
    """Attributes: mean over living neurons, each neuron's [d] (NaN for dead ones), their number."""

    value: float
    per_neuron: np.ndarray
    n_alive: int


def alive(v_nd: Array, tol: float = 1e-6) -> Array:
    """Neurons of the victim whose standard deviation over the samples exceeds `tol`, bool [d]."""
    return jnp.std(precision.widen(v_nd), 0) > tol


def _directions(x_nd: Array, center: bool) -> tuple[Array, Array]:
    """Columns of norm one (zero where constant), and which are constant."""
    x = precision.widen(x_nd)
    size = jnp.sqrt(jnp.mean(x**2, 0, keepdims=True))
    x = x - jnp.mean(x, 0, keepdims=True) if center else x
    norm = jnp.linalg.norm(x, axis=0, keepdims=True)
    constant = norm <= CONSTANT * size * x.shape[0] ** 0.5
    return x / jnp.where(constant, 1.0, norm), constant[0]


def per_neuron(v_nd: Array, s_nd: Array, metric: str = "cosine", center: bool = True) -> Array:
    """Distance of each pair of neurons, [d]; pure, for `vmap` and `jit`. See `nf_distance`."""
    if metric == "euclidean":
        return jnp.sqrt(jnp.mean((precision.widen(v_nd) - precision.widen(s_nd)) ** 2, 0))
    centring = center or metric == "euclidean_z"
    (v, v_none), (s, s_none) = _directions(v_nd, centring), _directions(s_nd, centring)
    squared = jnp.sum((v - s) ** 2, 0)  # of unit vectors: 2 - 2 cos, and n times their z-scores'
    squared = jnp.where(v_none | s_none, 2.0, squared)
    return jnp.sqrt(squared) if metric == "euclidean_z" else squared / 2


def mean_alive(per: Array, living: Array) -> Array:
    """Mean of [..., d] over the neurons that live, [...]; 1 if none does."""
    total = jnp.sum(jnp.where(living, per, 0.0), -1)
    return jnp.where(jnp.any(living), total / jnp.maximum(jnp.sum(living), 1), 1.0)


@functools.partial(jax.jit, static_argnames=("metric", "center"))
def _both(v: Array, s: Array, tol: Array, metric: str, center: bool) -> tuple[Array, Array]:
    return per_neuron(v, s, metric, center), jnp.std(precision.widen(v), 0) > tol


def nf_distance(
    v: Array | np.ndarray,
    s: Array | np.ndarray,
    metric: Metric = "cosine",
    *,
    center: bool = True,
    alive_tol: float = 1e-6,
) -> Distance:
    """Mean distance of the neurons of two models, over those that live in the victim.

    `cosine`: 1 - cos of the columns, centred (1 where one is constant). `euclidean`: root mean
    square of their difference. `euclidean_z`: the same of their z-scores, sqrt(2 cosine).

    Args:
      v: the victim's NF matrix [N, d].
      s: the suspect's, [N, d], neurons in the same order.
      metric: one of the three.
      center: subtract each column's mean before the cosine.
      alive_tol: a neuron of the victim with a smaller deviation is dead and left out.

    Raises:
      ValueError: shapes that differ, NaN or infinity, or no neuron of the victim alive.

    >>> x = np.arange(12.0).reshape(4, 3) ** 2
    >>> nf_distance(x, 5 * x + 1).value < 1e-6
    True
    """
    check.one_of(METRICS, metric=metric)
    check_pair(v, s)
    per, living = _both(jnp.asarray(v), jnp.asarray(s), jnp.asarray(alive_tol), metric, center)
    per, living = np.asarray(per), np.asarray(living)
    if not living.any():
        raise ValueError(f"the victim must have neurons that vary; all {len(living)} are dead.")
    return Distance(
        float(per[living].mean(dtype=np.float64)), np.where(living, per, np.nan), int(living.sum())
    )


def check_pair(v: Array | np.ndarray, s: Array | np.ndarray) -> None:
    """Raises ValueError unless both are finite and of one shape [N, d]."""
    sizes = check.shape("v", v, ["N", "d"])
    have = check.shape("s", s, ["N", "d"])
    if have["N"] != sizes["N"]:
        raise ValueError(
            f"both models must see the same samples; got N={sizes['N']} for the victim, "
            f"N={have['N']} for the suspect."
        )
    if have["d"] != sizes["d"]:
        raise ValueError(
            f"NF matrices must have as many neurons; got d={sizes['d']} and {have['d']} "
            "(use a projection)."
        )
    check_finite(v=v, s=s)


def check_finite(**matrices: Array | np.ndarray) -> None:
    """Raises ValueError if a matrix holds NaN or infinity."""
    for name, x in matrices.items():
        if not bool(np.isfinite(np.asarray(x)).all()):
            raise ValueError(f"{name} must be finite; it holds NaN or infinity.")


@functools.partial(jax.jit, static_argnames=("metric", "center"))
def nf_distances(
    v_nd: Array, s_knd: Array, metric: Metric = "cosine", center: bool = True, tol: float = 1e-6
) -> Array:
    """`nf_distance(v, s).value` of many suspects [k, N, d] at once, [k]."""
    per = jax.vmap(lambda s: per_neuron(v_nd, s, metric, center))(s_knd)
    living = jnp.std(precision.widen(v_nd), 0) > tol
    return jax.vmap(lambda p: mean_alive(p, living))(per)

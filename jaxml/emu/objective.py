"""Losses of semantic specialisation on sentence embeddings; cosine is what they are judged by.

L2-constrained softmax (Ranjan et al. 2017), center loss (Wen et al. 2016), contrast of pairs.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxml.core import check
from jaxml.core.types import Array
from jaxml.nn import loss

TINY = 1e-12
"""Squared norms below this count as this."""


def unit(f_bd: Array) -> Array:
    """Rows divided by their Euclidean norm, [b, d].

    >>> unit(jnp.array([[3.0, 4.0]])).round(3).tolist()
    [[0.6000000238418579, 0.800000011920929]]
    """
    return f_bd * jax.lax.rsqrt(jnp.maximum(jnp.sum(f_bd * f_bd, -1, keepdims=True), TINY))


def lowest_radius(num_classes: int, p: float = 0.9) -> float:
    """Radius below which a softmax over K classes cannot reach probability p (Ranjan, eq. 8).

    >>> round(lowest_radius(16), 3)
    4.836
    """
    check.at_least(3, num_classes=num_classes)
    if not 0 < p < 1:
        raise ValueError(f"p must lie in (0, 1); got p={p}.")
    return math.log(p * (num_classes - 2) / (1 - p))


def check_labels(labels: Array | np.ndarray, num_classes: int, name: str = "labels") -> None:
    """Raises ValueError where a label lies outside [0, K); traced labels are not looked at."""
    if isinstance(labels, Tracer) or labels.size == 0:
        return
    known = np.asarray(labels)  # on the host: inside jit this would be traced
    low, high = int(known.min()), int(known.max())
    if low < 0 or high >= num_classes:
        raise ValueError(f"{name} must lie in [0, {num_classes}); got {low} ... {high}.")


def logits(u_bd: Array, w_dk: Array, b_k: Array, alpha: Array | float = 1.0) -> Array:
    """`alpha * u W + b`, [b, K]."""
    product = alpha * (u_bd @ w_dk)
    return product + jnp.broadcast_to(b_k, product.shape)


def softmax_loss(f_bd: Array, labels_b: Array, w_dk: Array, b_k: Array) -> Array:
    """Cross-entropy of `f W + b` on embeddings as they are: the baseline that ignores cosine."""
    check_labels(labels_b, b_k.shape[0])
    return loss.cross_entropy(logits(f_bd, w_dk, b_k), labels_b)[0]


def l2_softmax_loss(
    f_bd: Array, labels_b: Array, w_dk: Array, b_k: Array, alpha: Array | float
) -> Array:
    """L2-constrained softmax: cross-entropy of `alpha * W u + b`, u = f / |f|.

    Args:
      f_bd: embeddings of any norm above zero; only their direction counts.
      labels_b: integers in [0, K).
      w_dk: weights of the classes.
      b_k: their biases.
      alpha: radius, above 0.

    Returns:
      The mean in nats, [].

    Raises:
      ValueError: alpha <= 0, a label outside [0, K), or shapes that do not fit.
    """
    sizes = check.shape("f_bd", f_bd, ["b", "d"])
    check.shape("w_dk", w_dk, [sizes["d"], b_k.shape[0]])
    if not isinstance(alpha, Tracer):
        check.positive(alpha=float(alpha))
    check_labels(labels_b, b_k.shape[0])
    return loss.cross_entropy(logits(unit(f_bd), w_dk, b_k, alpha), labels_b)[0]


def center_loss(u_bd: Array, labels_b: Array, centers_kd: Array) -> Array:
    """Half the mean squared distance to the centre of the class; no gradient to the centres."""
    check_labels(labels_b, centers_kd.shape[0])
    gap = u_bd - jax.lax.stop_gradient(centers_kd)[labels_b]
    return 0.5 * jnp.mean(jnp.sum(gap * gap, -1))


def update_centers(
    u_bd: Array,
    labels_b: Array,
    centers_kd: Array,
    eta: float = 0.5,
    *,
    axis_name: str | None = None,
) -> Array:
    """One step of the centres: `c - eta * sum_i (c - u_i) / (1 + n)` (Wen et al., eq. 4).

    Args:
      u_bd: embeddings of the batch.
      labels_b: their classes.
      centers_kd: before; those of classes without an example stay.
      eta: in (0, 1].
      axis_name: mapped axis over which the batch is split: sums and counts go over all of it.

    Raises:
      ValueError: eta outside (0, 1], or a label outside [0, K).
    """
    if not 0 < eta <= 1:
        raise ValueError(f"eta must lie in (0, 1]; got eta={eta}.")
    num_classes = centers_kd.shape[0]
    check_labels(labels_b, num_classes)
    member_bk = jax.nn.one_hot(labels_b, num_classes, dtype=u_bd.dtype)
    sums, counts = member_bk.T @ u_bd, member_bk.sum(0)
    if axis_name is not None:
        sums, counts = jax.lax.psum((sums, counts), axis_name)
    delta = (counts[:, None] * centers_kd - sums) / (1 + counts)[:, None]
    return jax.lax.stop_gradient(centers_kd - eta * delta)


def class_means(u_nd: np.ndarray, labels_n: np.ndarray, num_classes: int) -> np.ndarray:
    """Mean embedding of every class, float32 [K, d]: where centres begin.

    Raises:
      ValueError: a class without an example, or a label outside [0, K).
    """
    labels = np.asarray(labels_n)
    check_labels(labels, num_classes)
    counts = np.bincount(labels, minlength=num_classes)
    if (empty := np.flatnonzero(counts == 0)).size:
        raise ValueError(f"every class must have an example; classes {empty.tolist()} have none.")
    sums = np.zeros((num_classes, u_nd.shape[1]))
    np.add.at(sums, labels, np.asarray(u_nd, np.float64))
    return (sums / counts[:, None]).astype(np.float32)


def pair_loss(u_bd: Array, labels_b: Array) -> Array:
    """Contrast as in SetFit: cosine of a pair towards 1 in one class, 0 across classes.

    Squared errors are averaged over the pairs of each kind, then over the two kinds, as SetFit
    draws as many of one as of the other. A batch without pairs of a kind leaves it out.
    """
    cosine = u_bd @ u_bd.T
    same = labels_b[:, None] == labels_b[None, :]
    pairs = jnp.triu(jnp.ones_like(same), 1)
    kinds = jnp.stack([same & pairs, ~same & pairs]).astype(cosine.dtype)
    errors = jnp.sum(kinds * jnp.stack([(1 - cosine) ** 2, cosine**2]), (1, 2))
    counts = kinds.sum((1, 2))
    return jnp.sum(errors / jnp.maximum(counts, 1)) / jnp.maximum(jnp.sum(counts > 0), 1)


def anchor_loss(u_bd: Array, original_bd: Array, weight_b: Array | None = None) -> Array:
    """Mean of `weight * |u - u_original|^2`: holds embeddings near those of the first encoder."""
    gap = u_bd - jax.lax.stop_gradient(original_bd)
    squares = jnp.sum(gap * gap, -1)
    return jnp.mean(squares if weight_b is None else weight_b * squares)

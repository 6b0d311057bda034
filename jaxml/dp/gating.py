"""Random gates, gated features and the model that is linear in them."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxml.core import check
from jaxml.core.types import Array, Key
from jaxml.dist.collective import AxisName, psum
from jaxml.dp.config import ConvexReLUConfig


def sample_gates(key: Key, in_dim: int, num_gates: int) -> Array:
    """Directions u_p ~ N(0, I), [d, P]: drawn before any example is seen, so free of privacy cost.

    Raises:
      ValueError: a size below 1.
    """
    check.positive(in_dim=in_dim, num_gates=num_gates)
    return jax.random.normal(key, (in_dim, num_gates))


def gates(x: Array, u: Array) -> Array:
    """Which half-spaces each example lies in: `1[x.u >= 0]`, bool [n, P].

    Args:
      x: examples [n, d].
      u: directions [d, P]; the same ones at training and test time.

    >>> gates(jnp.array([[1.0, 2.0]]), jnp.array([[1.0, -1.0], [0.0, 0.0]])).tolist()
    [[True, False]]
    """
    return jnp.matmul(x, u, precision="highest") >= 0


def raw_norms(x: Array, g: Array, gate_axis: AxisName = None) -> Array:
    """`||g (x) x||` before any scaling, [n]; gates may be split over a mesh axis."""
    active = psum(jnp.sum(g.astype(x.dtype), axis=1), gate_axis)
    return jnp.sqrt(active * jnp.sum(jnp.square(x), axis=1))


def scales(x: Array, g: Array, cfg: ConvexReLUConfig, gate_axis: AxisName = None) -> Array:
    """What each example's features are multiplied by, [n]: a map of that example alone."""
    norms = raw_norms(x, g, gate_axis)
    if cfg.norm_bound is not None:
        return jnp.minimum(1.0, cfg.norm_bound / jnp.where(norms > 0, norms, 1.0))
    return jnp.where(norms > 0, 1.0 / jnp.where(norms > 0, norms, 1.0), 0.0)


def feature_norms(x: Array, g: Array, cfg: ConvexReLUConfig) -> Array:
    """`||phi(x)||` after scaling, [n]: 1 (0 for a blank example), or at most `norm_bound`."""
    return raw_norms(x, g) * scales(x, g, cfg)


def features(x: Array, g: Array, cfg: ConvexReLUConfig) -> Array:
    """phi(x) itself, [n, P d]: for small problems and for baselines."""
    scaled = x * scales(x, g, cfg)[:, None]
    return (g[:, :, None] * scaled[:, None, :]).reshape(x.shape[0], -1)


def gated_sum(v: Array, x: Array, g: Array) -> Array:
    """`sum_p g_p x^T V_p` without scaling, [n, K]: one product of matrices."""
    each = jnp.einsum("bd,pdk->bpk", x, v)
    return jnp.sum(jnp.where(g[:, :, None], each, jnp.zeros_like(each)), axis=1)


def logits(v: Array, x: Array, g: Array, cfg: ConvexReLUConfig) -> Array:
    """The model's output [n, K].

    Args:
      v: [P, d, K].
      x: examples [n, d], as they were at training time.
      g: their gates bool [n, P].
      cfg: the model.

    Raises:
      ValueError: shapes that do not belong together.
    """
    sizes = (cfg.num_gates, cfg.in_dim, cfg.num_classes)
    check.shape("v", v, sizes)
    bound = check.shape("x", x, ["n", cfg.in_dim])
    check.shape("g", g, [bound["n"], cfg.num_gates])
    return gated_sum(v, x, g) * scales(x, g, cfg)[:, None]


@jax.jit
def _right(v: Array, u: Array, x: Array, labels: Array) -> Array:
    # A positive factor per example does not change which logit is the largest.
    return jnp.sum(jnp.argmax(gated_sum(v, x, gates(x, u)), axis=1) == labels)


def accuracy(v: Array, u: Array, x: Any, labels: Any, chunk: int = 5000) -> float:
    """Percent of examples whose largest logit is their label's.

    Args:
      v: [P, d, K].
      u: the directions it was trained with [d, P].
      x: [n, d].
      labels: int [n].
      chunk: examples at a time.
    """
    parts = range(0, x.shape[0], chunk)
    right = sum(int(_right(v, u, x[i : i + chunk], labels[i : i + chunk])) for i in parts)
    return 100.0 * right / x.shape[0]

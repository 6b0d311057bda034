"""Bounded gradients in closed form: no per-example gradient is ever held.

An example's gradient is `phi (x) r` with r the residual of its logits, so its norm is
`||phi|| ||r||`: bounding r bounds it, and the mean over a batch is one product of matrices.
"""

import jax
import jax.numpy as jnp

from jaxml.core import check
from jaxml.core.types import Array
from jaxml.dist.collective import AxisName, axis_size_or_one, psum
from jaxml.dp import gating
from jaxml.dp.config import ClipMode, ConvexReLUConfig, Loss, check_mode
from jaxml.dp.envelope import envelope_residual


def residual(z: Array, label: Array, loss: Loss) -> Array:
    """Derivative of an example's loss in its logits, [n, K]."""
    own = jax.nn.one_hot(label, z.shape[1], dtype=z.dtype)
    if loss == "softmax_ce":
        return jax.nn.softmax(z, axis=1) - own
    return (jax.nn.sigmoid(z) if loss == "logistic" else z) - own


def loss_values(z: Array, label: Array, loss: Loss) -> Array:
    """The loss of each example, [n]."""
    own = jax.nn.one_hot(label, z.shape[1], dtype=z.dtype)
    if loss == "softmax_ce":
        return jax.nn.logsumexp(z, axis=1) - jnp.sum(own * z, axis=1)
    if loss == "logistic":
        return jnp.sum(jax.nn.softplus(z) - own * z, axis=1)
    return 0.5 * jnp.sum(jnp.square(z - own), axis=1)


def shrink(r: Array, radius: Array) -> Array:
    """Rows scaled to a norm of at most `radius` [n] (flat clipping)."""
    norm = jnp.linalg.norm(r, axis=1)
    return r * jnp.minimum(1.0, radius / jnp.where(norm > 0, norm, 1.0))[:, None]


def bounded_residual(z: Array, label: Array, radius: Array, mode: ClipMode, loss: Loss) -> Array:
    """The residual [n, K], its norm at most `radius` [n] unless the mode is "lipschitz".

    Args:
      z: logits [n, K].
      label: int [n].
      radius: clip norm over the norm of the features, [n].
      mode: "envelope": the gradient of a convex loss (for "squared" that is shrinking);
        "flat": shrink, as DP-SGD does; "per_class": each class's derivative cut at
        `radius / sqrt(K)`; "lipschitz": as it is.
      loss: of the model.
    """
    if mode == "envelope" and loss == "softmax_ce" and z.shape[1] > 1:
        return envelope_residual(z, label, radius)
    r = residual(z, label, loss)
    if mode == "lipschitz":
        return r
    if mode == "per_class":
        most = (radius / jnp.sqrt(jnp.asarray(z.shape[1], z.dtype)))[:, None]
        return jnp.clip(r, -most, most)
    return shrink(r, radius)


def clipped_grad(
    v: Array,
    x: Array,
    g: Array,
    label: Array,
    clip_norm: Array | float,
    mode: ClipMode = "envelope",
    cfg: ConvexReLUConfig | None = None,
    *,
    gate_axis: AxisName = None,
    batch_axis: AxisName = None,
) -> tuple[Array, dict[str, Array]]:
    """Mean over a batch of each example's bounded gradient; memory O(b P K + P d K).

    Args:
      v: parameters [P, d, K].
      x: examples [b, d].
      g: their gates bool [b, P].
      label: int [b].
      clip_norm: C.
      mode: see `bounded_residual`.
      cfg: the model; by default softmax cross-entropy on features of norm 1.
      gate_axis: mesh axis that `v` and `g` are split over, inside `shard_map`.
      batch_axis: mesh axis that the batch is split over.

    Returns:
      The mean gradient, like `v`, without ridge term and noise; and, of the batch, the mean `loss`
      and the share of `clipped` examples. These two are not private.

    Raises:
      ValueError: shapes that do not fit, or a mode that the loss does not have.
    """
    sizes = check.shape("v", v, ["p", "d", "k"])
    check.shape("g", g, [check.shape("x", x, ["b", sizes["d"]])["b"], sizes["p"]])
    if cfg is None:
        cfg = ConvexReLUConfig(sizes["d"], sizes["k"], sizes["p"])
    check_mode(mode, cfg)
    scale = gating.scales(x, g, cfg, gate_axis)
    norm = gating.raw_norms(x, g, gate_axis) * scale
    z = psum(gating.gated_sum(v, x, g), gate_axis) * scale[:, None]
    radius = clip_norm / jnp.where(norm > 0, norm, 1.0)
    r = bounded_residual(z, label, radius, mode, cfg.loss)
    num = x.shape[0] * axis_size_or_one(batch_axis)
    each = jnp.where(g[:, :, None], (r * (scale / num)[:, None])[:, None, :], 0.0)
    mean = psum(jnp.einsum("bd,bpk->pdk", x, each), batch_axis)
    raw = residual(z, label, cfg.loss)
    clipped = jnp.sum(raw**2, axis=1) > radius**2 * (1 + 1e-6)
    seen = loss_values(z, label, cfg.loss), clipped.astype(x.dtype)
    loss, share = (psum(jnp.sum(value) / num, batch_axis) for value in seen)
    return mean, {"loss": loss, "clipped": share}

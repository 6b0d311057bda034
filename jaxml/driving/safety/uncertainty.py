"""How far probabilities can be trusted: calibration error, temperature, ensembles, Gaussian NLL."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxml.core import check
from jaxml.core.types import Array


class Calibration(NamedTuple):
    """Expected calibration error [], and by bin: mean confidence, share right, share of all."""

    ece: Array
    confidence: Array
    accuracy: Array
    share: Array


def calibration(log_prob: Array, label: Array, num_bins: int = 15) -> Calibration:
    """Confidence of the likeliest class against how often it is right (Guo et al. 2017).

    Bins are `(i / b, (i + 1) / b]`.

    Args:
      log_prob: [n, k].
      label: the right class, integers [n].
      num_bins: b.

    Raises:
      ValueError: shapes that do not fit.
    """
    check.positive(num_bins=num_bins)
    n = check.shape("log_prob", log_prob, ["n", "k"])["n"]
    check.shape("label", label, [n])
    confidence = jnp.exp(jnp.max(log_prob, 1))
    right = (jnp.argmax(log_prob, 1) == label).astype(confidence.dtype)
    bins = jnp.clip(jnp.ceil(confidence * num_bins).astype(jnp.int32) - 1, 0, num_bins - 1)
    ones = jax.ops.segment_sum(jnp.ones_like(right), bins, num_bins)
    size = jnp.maximum(ones, 1.0)
    mean = jax.ops.segment_sum(confidence, bins, num_bins) / size
    accuracy = jax.ops.segment_sum(right, bins, num_bins) / size
    share = ones / n
    return Calibration(jnp.sum(share * jnp.abs(mean - accuracy)), mean, accuracy, share)


def temperature(log_prob: Array, label: Array, num_steps: int = 40) -> Array:
    """The temperature T > 0 that makes `softmax(log_prob / T)` most likely for `label`, [].

    Fit it on held-out data. The problem is convex in 1 / T; Newton steps in log T.

    Raises:
      ValueError: shapes that do not fit.
    """
    n = check.shape("log_prob", log_prob, ["n", "k"])["n"]
    check.shape("label", label, [n])

    def loss(log_t: Array) -> Array:
        scaled = jax.nn.log_softmax(log_prob * jnp.exp(-log_t))
        return -jnp.mean(jnp.take_along_axis(scaled, label[:, None], 1))

    def step(log_t: Array, _: None) -> tuple[Array, None]:
        slope, bend = jax.grad(loss)(log_t), jax.grad(jax.grad(loss))(log_t)
        move = slope / jnp.maximum(jnp.abs(bend), 1e-4)
        return log_t - jnp.clip(move, -0.5, 0.5), None

    return jnp.exp(jax.lax.scan(step, jnp.zeros((), log_prob.dtype), length=num_steps)[0])


class Ensemble(NamedTuple):
    """Members' mixtures as one: all modes of all members, and how far the members disagree.

    Attributes:
      paths: [n, e * m, s, 2].
      log_prob: [n, e * m].
      scale: [n, e * m, s].
      epistemic_m: standard deviation of the members' mean paths at the last step, metres [n].
    """

    paths: Array
    log_prob: Array
    scale: Array
    epistemic_m: Array


def ensemble(paths: Array, log_prob: Array, scale: Array) -> Ensemble:
    """A deep ensemble (Lakshminarayanan et al. 2017) of mixtures over paths.

    Args:
      paths: of every member, [e, n, m, s, 2].
      log_prob: [e, n, m].
      scale: [e, n, m, s].

    Raises:
      ValueError: shapes that do not fit.
    """
    size = check.shape("paths", paths, ["e", "n", "m", "s", 2])
    check.shape("log_prob", log_prob, [size["e"], size["n"], size["m"]])
    check.shape("scale", scale, [size["e"], size["n"], size["m"], size["s"]])
    mean = jnp.einsum("enm,enmx->enx", jnp.exp(log_prob), paths[..., -1, :])
    apart = jnp.sqrt(jnp.sum(jnp.var(mean, 0), -1))

    def one(x: Array) -> Array:
        moved = jnp.moveaxis(x, 0, 1)
        return moved.reshape(moved.shape[0], -1, *moved.shape[3:])

    return Ensemble(one(paths), one(log_prob) - jnp.log(size["e"]), one(scale), apart)


def gaussian_nll(mean: Array, log_scale: Array, truth: Array) -> Array:
    """Heteroscedastic negative log density of independent Gaussians, nats, like `mean`."""
    error = (truth - mean) * jnp.exp(-log_scale)
    return 0.5 * error**2 + log_scale + 0.5 * jnp.log(2 * jnp.pi)

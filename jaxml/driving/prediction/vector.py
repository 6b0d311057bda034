"""VectorNet-style encoder (Gao et al. 2020) and a query decoder whose paths a car could drive.

Every history and every map line becomes one token (a point-wise network and a maximum), tokens
attend to each other, and K learned queries read them. A query answers with accelerations and
curvatures, which the bicycle model turns into a path, with a Gaussian around every step, and with
a probability. What an agent's own motion suggests is where every path begins
(`kinematics.py`); the first mode is that path, and the network corrects all others.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxml.core import param
from jaxml.core.param import Param
from jaxml.core.types import Array, Key, PyTree
from jaxml.driving.planning import bicycle
from jaxml.driving.prediction import kinematics
from jaxml.driving.prediction.config import VehicleConfig
from jaxml.driving.prediction.scene import Scene
from jaxml.nn import attention, initializer, linear, mlp, norm
from jaxml.nn.attention import AttentionConfig

METRES = 10.0
"""Distances are divided by this before they enter the network."""
GAIN = (2.0, 0.05)
"""Accelerations and curvatures of an output of one, summed over steps."""


class Gaussians(NamedTuple):
    """A mixture of K paths with a Gaussian around every step, in the agent's frame.

    Attributes:
      paths: metres [n, k, s, 2].
      log_prob: [n, k].
      log_scale: log standard deviations along x and y, [n, k, s, 2].
      correlation: in (-1, 1), [n, k, s].
    """

    paths: Any
    log_prob: Any
    log_scale: Any
    correlation: Any


def _attention(cfg: VehicleConfig) -> AttentionConfig:
    return AttentionConfig(cfg.width, cfg.num_heads, causal=False, bias=True, rope=False)


def _polyline(in_width: int, width: int) -> PyTree:
    return {"first": linear.params(in_width, width), "second": linear.params(2 * width, width)}


def params(cfg: VehicleConfig, num_future: int = 15) -> PyTree:
    """Declares the network; its last layers start at zero: straight on at constant speed."""
    w = cfg.width
    layer = {
        "norm": norm.layer_params(w), "attention": attention.params(_attention(cfg)),
        "mlp_norm": norm.layer_params(w), "mlp": mlp.params(w, 2 * w),
    }  # fmt: skip
    declared = {
        "motion": kinematics.params(),
        "agent": _polyline(6, w),
        "size": linear.params(2, w),
        "layers": {str(i): layer for i in range(cfg.num_layers)},
        "query": Param((cfg.num_modes, w), (None, "embed"), initializer.normal(0.5)),
        "read": {**layer, "context": linear.params(w, w)},
        "head_norm": norm.layer_params(w),
        "head": linear.params(w, 5 * num_future + 3, init=initializer.zeros),
    }
    if cfg.num_lines:
        declared["line"] = _polyline(8, w)
    return declared


def init(key: Key, cfg: VehicleConfig, num_future: int = 15) -> PyTree:
    """Makes the parameters."""
    return param.init(key, params(cfg, num_future))


def _token(p: PyTree, points: Array) -> Array:
    """One vector per polyline [..., points, f] -> [..., w]: local, joined with the maximum."""
    x = jax.nn.relu(linear.apply(p["first"], points))
    top = jnp.broadcast_to(jnp.max(x, -2, keepdims=True), x.shape)
    return jnp.max(linear.apply(p["second"], jnp.concatenate([x, top], -1)), -2)


def _timed(points: Array) -> Array:
    """Adds when (0 is now) and how far from now each point is; [..., t, 4] -> [..., t, 6]."""
    t = points.shape[-2]
    when = jnp.linspace(-1.0, 0.0, t, dtype=points.dtype).reshape((1,) * (points.ndim - 2) + (t, 1))
    far = jnp.linalg.norm(points[..., :2], axis=-1, keepdims=True) / METRES
    return jnp.concatenate(
        [points[..., :2] / METRES, points[..., 2:], jnp.broadcast_to(when, far.shape), far], -1
    )


def tokens(p: PyTree, cfg: VehicleConfig, scene: Scene) -> tuple[Array, Array]:
    """Tokens [n, 1 + p + m, w] that have attended to each other, and their mask."""
    own = _token(p["agent"], _timed(scene.history)) + linear.apply(p["size"], scene.size / METRES)
    parts, masks = [own[:, None]], [jnp.ones_like(own[:, :1], bool)]
    if cfg.num_neighbours:
        parts.append(_token(p["agent"], _timed(scene.others)))
        masks.append(scene.others_mask)
    if cfg.num_lines:
        place = jnp.concatenate([scene.lines[..., :2] / METRES, scene.lines[..., 2:]], -1)
        kind = jnp.broadcast_to(scene.kind[:, :, None], (*place.shape[:3], scene.kind.shape[-1]))
        parts.append(_token(p["line"], jnp.concatenate([place, kind], -1)))
        masks.append(scene.lines_mask)
    x, mask = jnp.concatenate(parts, 1), jnp.concatenate(masks, 1)
    for i in range(cfg.num_layers):
        layer = p["layers"][str(i)]
        seen = norm.layer(layer["norm"], x)
        x = x + attention.apply(layer["attention"], _attention(cfg), seen, mask=mask)
        x = x + mlp.apply(layer["mlp"], norm.layer(layer["mlp_norm"], x), jax.nn.gelu)
    return x, mask


def apply(p: PyTree, cfg: VehicleConfig, scene: Scene, step_s: float = 0.2) -> Gaussians:
    """Forecasts every agent in its own frame.

    Args:
      p: from `init`.
      cfg: its configuration.
      scene: n agents.
      step_s: seconds of a step.
    """
    x, mask = tokens(p, cfg, scene)
    n, k = x.shape[0], cfg.num_modes
    read = p["read"]
    query = jnp.broadcast_to(p["query"][None], (n, k, cfg.width))
    query = query + linear.apply(read["context"], x[:, :1])
    query = query + attention.apply_cross(
        read["attention"], _attention(cfg), norm.layer(read["norm"], query), x, mask=mask
    )
    query = query + mlp.apply(read["mlp"], norm.layer(read["mlp_norm"], query), jax.nn.gelu)
    out = linear.apply(p["head"], norm.layer(p["head_norm"], query))
    steps = out[..., 3:].reshape(n, k, -1, 5)
    begun = kinematics.start(p["motion"], scene, step_s, steps.shape[2])
    gain = cfg.gain * (jnp.arange(k) > 0).reshape(1, k, 1)
    bent = jnp.array(GAIN).reshape(1, 1, 1, 2) * jnp.cumsum(steps[..., :2], 2)
    actions = kinematics.bounded(begun.actions[:, None] + gain[..., None] * bent)
    state = begun.state[:, None] + gain * _correction(out)
    paths = bicycle.rollout(state, actions, step_s)[..., :2]
    when = step_s * jnp.arange(1, steps.shape[2] + 1, dtype=out.dtype)
    base = jnp.log(0.1 + 0.3 * when).reshape(1, 1, -1, 1)
    log_scale = base + jnp.clip(steps[..., 2:4], -4.0, 4.0)
    return Gaussians(
        paths, jax.nn.log_softmax(out[..., 2]), log_scale, 0.9 * jnp.tanh(steps[..., 4])
    )


def _correction(out: Array) -> Array:
    """Of heading and speed now, in states [n, k, 4]."""
    zero = jnp.zeros_like(out[..., 0])
    return jnp.stack([zero, zero, 0.1 * out[..., 1], 0.5 * out[..., 0]], -1)


def nll(found: Gaussians, truth: Array) -> Array:
    """Mean negative log density per step of each mode, nats [n, k], bivariate Gaussians.

    Args:
      found: see `apply`.
      truth: in the agent's frame [n, s, 2].
    """
    z = (truth[:, None] - found.paths) * jnp.exp(-found.log_scale)
    rho = found.correlation
    rest = 1 - rho**2
    square = (z[..., 0] ** 2 + z[..., 1] ** 2 - 2 * rho * z[..., 0] * z[..., 1]) / rest
    each = 0.5 * square + jnp.sum(found.log_scale, -1) + 0.5 * jnp.log(rest) + jnp.log(2 * jnp.pi)
    return jnp.mean(each, -1)


def loss(cfg: VehicleConfig, found: Gaussians, truth: Array) -> tuple[Array, dict[str, Array]]:
    """Mean loss [] and its parts.

    NLL of the mode that ends nearest, its cross-entropy, and the error expected under the
    forecast's own probabilities.
    """
    gap = jnp.sqrt(jnp.sum((found.paths - truth[:, None]) ** 2, -1) + 1e-6)
    nearest = jnp.argmin(gap[..., -1], 1)[:, None]
    own = jnp.take_along_axis(nll(found, truth), nearest, 1)
    chance = -jnp.take_along_axis(found.log_prob, nearest, 1)
    expected = jnp.sum(jnp.exp(found.log_prob) * (jnp.mean(gap, -1) + 0.3 * gap[..., -1]), -1)
    parts = {"nll": jnp.mean(own), "probability": jnp.mean(chance), "expected": jnp.mean(expected)}
    weighted = cfg.probability_weight * parts["probability"]
    return parts["nll"] + weighted + cfg.expected_weight * parts["expected"], parts

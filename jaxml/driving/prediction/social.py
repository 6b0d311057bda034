"""The forecaster of pedestrians: anchors in EigenTrajectory space, moved by what agents see.

An agent attends to its neighbours in its own frame, so the forecast turns and moves with the
world; each anchor gets a correction, a probability, and each step a width.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxml.core import param
from jaxml.core.types import Array, Key, PyTree
from jaxml.driving.prediction import eigen
from jaxml.driving.prediction.config import SocialConfig
from jaxml.driving.prediction.eigen import EigenSpace, Frame
from jaxml.driving.prediction.observed import Observed
from jaxml.nn import attention, linear, mlp, norm
from jaxml.nn.attention import AttentionConfig
from jaxml.nn.initializer import zeros

METRES = 4.0
"""Distances are divided by this before they enter the network."""


class Forecast(NamedTuple):
    """A mixture over paths.

    Attributes:
      paths: metres, relative to where `past` was, [n, m, s, 2].
      log_prob: of the modes, [n, m].
      scale: standard deviation of a position around its mode, metres [n, m, s].
    """

    paths: Any
    log_prob: Any
    scale: Any


def _attention(cfg: SocialConfig) -> AttentionConfig:
    return AttentionConfig(cfg.width, cfg.num_heads, causal=False, bias=True, rope=False)


def params(cfg: SocialConfig, num_past: int = 8, num_future: int = 12) -> PyTree:
    """Declares the network; its heads start at zero, so it starts as the anchors."""
    w, k = cfg.width, cfg.num_vectors
    outputs = 2 * cfg.num_modes * (k + 1) + num_future
    layer = {
        "norm": norm.layer_params(w),
        "mlp": mlp.params(w, 2 * w),
        "mlp_norm": norm.layer_params(w),
    }
    declared = {
        "agent": linear.params(k + 7 + 2 * num_past, w),
        "layers": {},
        "head_norm": norm.layer_params(w),
        "head": linear.params(w, outputs, init=zeros),
    }
    if cfg.num_neighbours:
        declared["other"] = mlp.params(2 * num_past + 8, w)
        declared["other"]["down"] = linear.params(w, w)
        declared["nobody"] = linear.params(1, w)
        layer["attention"] = attention.params(_attention(cfg))
    declared["layers"] = {str(i): layer for i in range(cfg.num_layers)}
    return declared


def init(key: Key, cfg: SocialConfig, num_past: int = 8, num_future: int = 12) -> PyTree:
    """Makes the parameters."""
    return param.init(key, params(cfg, num_past, num_future))


def agent_features(space: EigenSpace, own: Frame, seen: Observed) -> Array:
    """Coefficients of the past, the past itself, speed and place in the agent's frame."""
    n = seen.past.shape[0]
    metric = own._replace(scale=jnp.ones_like(own.scale))
    shape = eigen.normalise(own, seen.past).reshape(n, -1)
    code = eigen.encode(space.past_basis, own, seen.past)
    place = jnp.einsum("ni,nij->nj", seen.place, own.turn) / METRES
    still = eigen.normalise(metric, seen.past)
    speed = jnp.linalg.norm(still[:, -1] - still[:, 0], axis=-1) / (seen.past.shape[1] - 1)
    last = jnp.linalg.norm(still[:, -1] - still[:, -2], axis=-1)
    crowd = jnp.sum(seen.mask, -1) / 8.0
    rest = jnp.stack([speed, last, -jnp.log(own.scale), own.moves * 1.0, crowd], -1)
    return jnp.concatenate([code, shape, place, rest], -1)


def other_features(own: Frame, seen: Observed) -> Array:
    """Each neighbour's past in the agent's frame, and when and how near they would meet."""
    n, p = seen.mask.shape
    metric = own._replace(scale=jnp.ones_like(own.scale))
    others = eigen.normalise(metric, seen.others)
    mine = eigen.normalise(metric, seen.past)
    place = others[:, :, -1]
    velocity = (others[:, :, -1] - others[:, :, -3]) / 2
    closing = velocity - ((mine[:, -1] - mine[:, -3]) / 2)[:, None]
    speed2 = jnp.maximum(jnp.sum(closing**2, -1), 1e-4)
    when = jnp.clip(-jnp.sum(place * closing, -1) / speed2, 0.0, 12.0)
    gap = jnp.sqrt(jnp.sum((place + when[..., None] * closing) ** 2, -1) + 1e-6)
    far = jnp.sqrt(jnp.sum(place**2, -1) + 1e-6)
    extra = jnp.stack([when / 12.0, jnp.exp(-gap), jnp.exp(-far), far / METRES], -1)
    flat = others.reshape(n, p, -1) / METRES
    return jnp.concatenate([flat, velocity, closing, extra], -1)


def embed(p: PyTree, cfg: SocialConfig, space: EigenSpace, own: Frame, seen: Observed) -> Array:
    """What the network knows of each agent, [n, width]."""
    x = jax.nn.gelu(linear.apply(p["agent"], agent_features(space, own, seen)))[:, None]
    if cfg.num_neighbours:
        others = mlp.apply(p["other"], other_features(own, seen), jax.nn.gelu)
        nobody = jnp.broadcast_to(p["nobody"]["bias"], (x.shape[0], 1, cfg.width))
        memory = jnp.concatenate([nobody, others], 1)
        mask = jnp.concatenate([jnp.ones_like(seen.mask[:, :1]), seen.mask], 1)
    for i in range(cfg.num_layers):
        layer = p["layers"][str(i)]
        if cfg.num_neighbours:
            query = norm.layer(layer["norm"], x)
            x = x + attention.apply_cross(
                layer["attention"], _attention(cfg), query, memory, mask=mask
            )
        x = x + mlp.apply(layer["mlp"], norm.layer(layer["mlp_norm"], x), jax.nn.gelu)
    return norm.layer(p["head_norm"], x[:, 0])


class Coded(NamedTuple):
    """A forecast and its coefficients [n, m, k], which the loss compares."""

    forecast: Forecast
    coefficients: Array


def predict(p: PyTree, cfg: SocialConfig, space: EigenSpace, seen: Observed) -> Coded:
    """Forecasts every agent from the past alone, with the coefficients of the paths.

    Args:
      p: from `init`.
      cfg: its configuration.
      space: fitted to training paths.
      seen: n agents.
    """
    n, k, m = seen.past.shape[0], cfg.num_vectors, cfg.num_modes
    own = eigen.frame(seen.past, space.threshold)
    out = linear.apply(p["head"], embed(p, cfg, space, own, seen))
    num_steps = space.future_basis.shape[1] // 2
    modes, width = out[:, :-num_steps].reshape(n, 2, m, k + 1), out[:, -num_steps:]
    modes = jnp.where(own.moves[:, None, None], modes[:, 1], modes[:, 0])
    coefficients = eigen.choose(own, space.anchors) + modes[..., :k]
    paths = eigen.decode(space.future_basis, own, coefficients)
    base = 0.1 + 0.05 * jnp.arange(num_steps, dtype=out.dtype)
    scale = base[None] * jnp.exp(jnp.clip(width, -4.0, 4.0))
    scale = jnp.broadcast_to(scale[:, None], paths.shape[:3])
    return Coded(Forecast(paths, jax.nn.log_softmax(modes[..., k]), scale), coefficients)


def apply(p: PyTree, cfg: SocialConfig, space: EigenSpace, seen: Observed) -> Forecast:
    """`predict` without the coefficients."""
    return predict(p, cfg, space, seen).forecast

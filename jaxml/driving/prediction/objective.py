"""The loss of pedestrian forecasts: EigenTrajectory's minima and what probabilities need."""

import jax
import jax.numpy as jnp

from jaxml.core.types import Array
from jaxml.driving.metrics import trajectory
from jaxml.driving.prediction import eigen
from jaxml.driving.prediction.config import SocialConfig
from jaxml.driving.prediction.eigen import EigenSpace
from jaxml.driving.prediction.observed import Observed
from jaxml.driving.prediction.social import Coded


def loss(
    cfg: SocialConfig, space: EigenSpace, seen: Observed, coded: Coded, truth: Array
) -> tuple[Array, dict[str, Array]]:
    """Mean loss [] over agents, and its parts.

    Args:
      cfg: weights.
      space: that the forecast was made in.
      seen: pasts.
      coded: see `social.predict`.
      truth: [n, s, 2], relative as the forecast is.
    """
    own = eigen.frame(seen.past, space.threshold)
    wanted = eigen.encode(space.future_basis, own, truth)
    forecast, given = coded
    apart = jnp.sqrt(jnp.sum((given - wanted[:, None]) ** 2, -1) + 1e-9)
    gap = jnp.sqrt(jnp.sum((forecast.paths - truth[:, None]) ** 2, -1) + 1e-9)
    ade, fde = jnp.mean(gap, -1), gap[..., -1]
    fixed = forecast._replace(paths=jax.lax.stop_gradient(forecast.paths))
    dense = jax.nn.softmax(-jax.lax.stop_gradient(ade) / cfg.temperature_m)
    parts = {
        "coefficients": jnp.mean(jnp.min(apart, 1)),
        "ade": jnp.mean(jnp.min(ade, 1)),
        "fde": jnp.mean(jnp.min(fde, 1)),
        "probability": -jnp.mean(jnp.sum(dense * forecast.log_prob, -1)),
        "first": jnp.mean(ade[:, 0] + fde[:, 0]),
        "density": jnp.mean(trajectory.mixture_nll(*fixed, truth)),
        "expected": jnp.mean(
            jnp.sum(jnp.exp(jax.lax.stop_gradient(forecast.log_prob)) * (ade + fde), -1)
        ),
    }
    weights = {
        "probability": cfg.probability_weight,
        "density": cfg.density_weight,
        "expected": cfg.expected_weight,
        "first": cfg.first_weight,
    }
    total = sum((weights.get(name, 1.0) * x for name, x in parts.items()), jnp.float32(0.0))
    return total, parts

"""A monitor that scores any planner by what its vehicle did among the others."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxml.core import check
from jaxml.core.types import Array
from jaxml.driving.safety import overlap, rss
from jaxml.driving.safety.config import RSSConfig

RULES = RSSConfig()


class Verdict(NamedTuple):
    """One drive, each [].

    Attributes:
      collided: 1 if the ego vehicle ever touched another, else 0.
      first_contact_s: time of the first touch, infinite if there was none.
      least_ttc_s: smallest time to collision met, infinite if there was none.
      least_clearance_m: smallest gap to another box.
      dangerous: share of steps in a dangerous situation by RSS.
      blamed: share of steps that are dangerous and in which the ego vehicle, being behind, did not
        brake by at least `brake_min`.
      progress_m: way driven.
      harsh: share of steps with more than 4 m/s^2 of acceleration along or across.
    """

    collided: Array
    first_contact_s: Array
    least_ttc_s: Array
    least_clearance_m: Array
    dangerous: Array
    blamed: Array
    progress_m: Array
    harsh: Array


HARSH = 4.0


def judge(ego: Array, others: Array, mask: Array, step_s: float, cfg: RSSConfig = RULES) -> Verdict:
    """Scores one drive; map it over drives with `jax.vmap`.

    Args:
      ego: x, y, heading, length, width, speed at every step, [t, 6].
      others: the same of the other vehicles, [t, o, 6].
      mask: [t, o], False where there is none.
      step_s: seconds of a step.
      cfg: what others are assumed to do.

    Raises:
      ValueError: shapes that do not fit, a time that is not positive.
    """
    check.positive(step_s=step_s)
    t = check.shape("ego", ego, ["t", 6])["t"]
    o = check.shape("others", others, [t, "o", 6])["o"]
    check.shape("mask", mask, [t, o])
    boxes = jnp.broadcast_to(ego[:, None], others.shape)
    velocity, theirs = _velocity(boxes), _velocity(others)
    gap = jnp.where(mask, overlap.clearance(boxes[..., :5], others[..., :5]), jnp.inf)
    ttc = overlap.time_to_collision(boxes[..., :5], velocity, others[..., :5], theirs)
    ttc = jnp.where(mask, ttc, jnp.inf)
    hit = jnp.any(gap <= 0.0, -1)
    dangerous, behind = _rss(boxes, others, cfg)
    dangerous, behind = dangerous & mask, behind & mask
    accel = jnp.diff(ego[:, 5], append=ego[-1:, 5]) / step_s
    turn = jnp.diff(jnp.unwrap(ego[:, 2]), append=ego[-1:, 2]) / step_s
    turn = turn.at[-1].set(0.0)
    lazy = accel > -cfg.brake_min
    way = jnp.linalg.norm(jnp.diff(ego[:, :2], axis=0), axis=-1)
    when = jnp.where(hit, jnp.arange(t) * step_s, jnp.inf)
    harsh = (jnp.abs(accel) > HARSH) | (jnp.abs(turn * ego[:, 5]) > HARSH)
    return Verdict(
        jnp.any(hit).astype(jnp.float32), jnp.min(when), jnp.min(ttc), jnp.min(gap),
        jnp.mean(jnp.any(dangerous, -1)), jnp.mean(jnp.any(behind & dangerous, -1) & lazy),
        jnp.sum(way), jnp.mean(harsh),
    )  # fmt: skip


def _velocity(box: Array) -> Array:
    ahead = jnp.stack([jnp.cos(box[..., 2]), jnp.sin(box[..., 2])], -1)
    return ahead * box[..., 5:6]


def _rss(ego: Array, others: Array, cfg: RSSConfig) -> tuple[Array, Array]:
    """Whether each pair is dangerous, and whether the ego vehicle is the one behind, [t, o].

    Gaps and speeds are taken along and across the ego vehicle's heading.
    """
    cos, sin = jnp.cos(ego[..., 2]), jnp.sin(ego[..., 2])
    apart = others[..., :2] - ego[..., :2]
    along = apart[..., 0] * cos + apart[..., 1] * sin
    across = apart[..., 1] * cos - apart[..., 0] * sin
    turn = others[..., 2] - ego[..., 2]
    long = (jnp.abs(jnp.cos(turn)) * others[..., 3] + jnp.abs(jnp.sin(turn)) * others[..., 4]) / 2
    wide = (jnp.abs(jnp.sin(turn)) * others[..., 3] + jnp.abs(jnp.cos(turn)) * others[..., 4]) / 2
    gap = jnp.abs(along) - long - ego[..., 3] / 2
    side = jnp.abs(across) - wide - ego[..., 4] / 2
    ahead, aside = others[..., 5] * jnp.cos(turn), others[..., 5] * jnp.sin(turn)
    behind = along > 0
    rear = jnp.where(behind, ego[..., 5], jnp.maximum(ahead, 0.0))
    front = jnp.where(behind, jnp.maximum(ahead, 0.0), ego[..., 5])
    oncoming = ahead < -0.5
    safe = jnp.where(
        oncoming & behind,
        gap >= rss.opposite_direction(ego[..., 5], jnp.abs(ahead), cfg),
        (gap >= rss.same_direction(rear, front, cfg)) | (oncoming & ~behind),
    )
    closing = -jnp.sign(across) * aside
    clear = side >= rss.lateral(jnp.zeros_like(closing), -closing, cfg)
    return ~(safe | clear), behind


judge_all = jax.jit(jax.vmap(judge, in_axes=(0, 0, 0, None)), static_argnums=3)
"""`judge` of many drives [d, t, ...] at once."""

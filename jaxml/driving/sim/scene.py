"""What agents of one scene sense, and what there is to find."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxml.core import rng
from jaxml.core.types import Array, Key
from jaxml.driving.boxes.box3d import Box3D
from jaxml.driving.geometry import se3
from jaxml.driving.sim.camera import Picture, look
from jaxml.driving.sim.config import SimConfig
from jaxml.driving.sim.layout import Layouts
from jaxml.driving.sim.raycast import scan


class Scene(NamedTuple):
    """The clouds of all agents and the labels; batches have a leading axis.

    Attributes:
      points: x, y, z, intensity in each agent's own LiDAR frame [a, r, 4].
      seen: which rays returned, bool [a, r].
      pose: each agent's LiDAR to the ego's [a, 4, 4]; the ego is agent 0.
      there: which agents there are, bool [a].
      truth: boxes in the ego's LiDAR frame; the mask holds what some agent sees and is near.
      hits: returns of each box from each agent, int32 [a, room].
    """

    points: Array
    seen: Array
    pose: Array
    there: Array
    truth: Box3D
    hits: Array


class Views(NamedTuple):
    """Which boxes of a scene are agents: index [a] and whether they are there [a]."""

    index: Array
    there: Array


def viewpoints(key: Key, cfg: SimConfig, boxes: Array, label: Array, mask: Array) -> Views:
    """Draws a car as ego, and the nearest other cars as further agents."""
    boxes, label, mask = (jnp.asarray(x) for x in (boxes, label, mask))
    car = mask & (label == 0)
    weight = jnp.where(car, 0.0, -jnp.inf)
    ego = jax.random.categorical(rng.fold(key, "ego"), jnp.where(car.any(), weight, 0.0))
    gap = jnp.linalg.norm(boxes[:, :2] - boxes[ego, :2][None], axis=-1)
    near = jnp.where(car & (gap < cfg.reach_m), gap, jnp.inf).at[ego].set(-1.0)
    order = jnp.argsort(near)[: cfg.agents]
    return Views(order.astype(jnp.int32), jnp.isfinite(near[order]))


def scenes_of(layouts: Layouts) -> dict[str, np.ndarray]:
    """The arrays of layouts that `observe` and `delayed` take, by name."""
    names = ("boxes", "label", "mask", "velocity")
    return {name: getattr(layouts, name) for name in names}


def agent_poses(cfg: SimConfig, boxes: Array, views: Views) -> Array:
    """Each agent's LiDAR to the layout's frame [a, 4, 4]."""
    at = boxes[views.index]
    height = jnp.full(at.shape[0], cfg.lidar.height_m)
    return se3.planar(at[:, 0], at[:, 1], at[:, 6], height)


def observe(key: Key, cfg: SimConfig, boxes: Array, label: Array, mask: Array) -> Scene:
    """One scene of a layout [n, 7], seen from cars that `key` draws.

    The vehicle that carries a sensor does not see itself, and the ego is no label.
    """
    boxes, label, mask = (jnp.asarray(x) for x in (boxes, label, mask))
    views = viewpoints(key, cfg, boxes, label, mask)
    poses = agent_poses(cfg, boxes, views)
    points, seen, hits = _scans(key, cfg, boxes, mask, views)
    to_ego = se3.inverse(poses[0])[None] @ poses
    mine = se3.boxes_to(se3.inverse(poses[0]), boxes)
    near = jnp.max(jnp.abs(mine[:, :2]), -1) < cfg.reach_m
    found = jnp.max(hits, 0) >= cfg.least_points
    real = mask & near & found & (jnp.arange(len(mask)) != views.index[0])
    truth = Box3D(mine, label, jnp.ones_like(mine[:, 0]), real)
    return Scene(points, seen, to_ego, views.there, truth, hits)


def delayed(
    key: Key,
    cfg: SimConfig,
    boxes: Array,
    label: Array,
    mask: Array,
    velocity: Array,
    delay_s: Array | float,
) -> Scene:
    """The scene of `observe`, but what the others sensed is `delay_s` old.

    Everything was then where its velocity [n, 2] puts it, the others' poses are those of then, and
    the ego, its own cloud and the labels are those of now.
    """
    boxes, label, mask = (jnp.asarray(x) for x in (boxes, label, mask))
    now = observe(key, cfg, boxes, label, mask)
    views = viewpoints(key, cfg, boxes, label, mask)
    then = boxes.at[:, :2].add(-delay_s * velocity)
    points, seen, _ = _scans(key, cfg, then, mask, views)
    ego = se3.inverse(agent_poses(cfg, boxes, views)[0])
    poses = ego[None] @ agent_poses(cfg, then, views)
    return now._replace(
        points=points.at[0].set(now.points[0]),
        seen=seen.at[0].set(now.seen[0]),
        pose=poses.at[0].set(now.pose[0]),
    )


def _scans(
    key: Key, cfg: SimConfig, boxes: Array, mask: Array, views: Views
) -> tuple[Array, Array, Array]:
    """Clouds [a, r, 4], which rays returned [a, r], and returns of each box [a, n]."""
    poses = agent_poses(cfg, boxes, views)
    albedo = 0.3 + 0.6 * jax.random.uniform(rng.fold(key, "albedo"), mask.shape)

    def sense(number: Array, pose: Array, own: Array, there: Array):
        mine = se3.boxes_to(se3.inverse(pose), boxes)
        others = mask & (jnp.arange(len(mask)) != own) & there
        points, seen, hit = scan(rng.fold(key, "scan", number), cfg.lidar, mine, others, albedo)
        seen = seen & there
        count = jnp.zeros(len(mask), jnp.int32).at[jnp.where(seen & (hit >= 0), hit, len(mask))]
        return points, seen, count.add(1, mode="drop")

    number = jnp.arange(cfg.agents)
    return jax.vmap(sense)(number, poses, views.index, views.there)


def picture(key: Key, cfg: SimConfig, boxes: Array, label: Array, mask: Array) -> Picture:
    """The ego's camera image of the scene that `observe` makes of the same key."""
    boxes, label, mask = (jnp.asarray(x) for x in (boxes, label, mask))
    views = viewpoints(key, cfg, boxes, label, mask)
    pose = agent_poses(cfg, boxes, views)[0]
    mine = se3.boxes_to(se3.inverse(pose), boxes)
    others = mask & (jnp.arange(len(mask)) != views.index[0])
    return look(cfg.camera, mine, others, label, pose, -cfg.lidar.height_m)

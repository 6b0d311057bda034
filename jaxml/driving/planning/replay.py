"""Closed loop over recorded drives: a planner takes the place of the recording car.

Others do what the log says, they do not react; the route is the way that the recording car took;
and the planner knows only what the simulated LiDAR on its own roof hits. Planners think of a
straight road, so the route is straightened for them: x along it, y across, and the route's own
curvature is added to what they ask for.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxml.core import check, rng
from jaxml.core.types import Array, Key
from jaxml.driving.geometry import se3
from jaxml.driving.planning import bicycle
from jaxml.driving.planning.traffic import Planner, Traffic
from jaxml.driving.sim import layout
from jaxml.driving.sim.config import LidarConfig
from jaxml.driving.sim.raycast import scan
from jaxml.driving.tracks import kitti


@dataclasses.dataclass(frozen=True)
class ReplayConfig:
    """Pieces of drives and how they are driven again.

    Attributes:
      seconds: of a piece, at the log's 10 Hz.
      every_s: a piece begins so often.
      room: others that a piece holds.
      least_m: pieces in which the recording car came less far are left out.
      lane_m: width of the way that others may block.
      lidar: of the planner.
      least_points: others with fewer returns are not seen.
    """

    seconds: float = 10.0
    every_s: float = 20.0
    room: int = 24
    least_m: float = 30.0
    lane_m: float = 3.2
    lidar: LidarConfig = LidarConfig(16, 256)
    least_points: int = 2

    def __post_init__(self):
        check.types(self)
        check.positive(seconds=self.seconds, every_s=self.every_s, room=self.room)
        check.positive(least_m=self.least_m, lane_m=self.lane_m)
        check.at_least(0, least_points=self.least_points)

    @property
    def num_steps(self) -> int:
        """Of a piece."""
        return round(self.seconds / layout.SECONDS)


class Pieces(NamedTuple):
    """p pieces of drives; places in metres from where the recording car was at the beginning.

    Attributes:
      route: x, y, heading of the way, one entry a metre [p, ROUTE_M, 3].
      others: boxes [p, t + 1, n, 7].
      speed: of each along its heading, m/s [p, t + 1, n].
      mask: [p, t + 1, n].
      logged: the recording car's x, y, heading and speed [p, t + 1, 4].
      name: drive and frame of each.
    """

    route: np.ndarray
    others: np.ndarray
    speed: np.ndarray
    mask: np.ndarray
    logged: np.ndarray
    name: tuple[str, ...]


ROUTE_M = 400


def pieces(cfg: ReplayConfig, drives: Mapping[int, kitti.Layout]) -> Pieces:
    """Pieces of drives in which the recording car moved.

    Raises:
      ValueError: there is none.
    """
    found: list[tuple] = []
    t, every = cfg.num_steps, round(cfg.every_s / layout.SECONDS)
    for drive in drives.values():
        car = _smooth(drive.lidar)
        others = _others(drive)
        for first in range(0, len(car) - t - 1, every):
            way = np.linalg.norm(np.diff(car[first : first + t + 1, :2], axis=0), axis=-1)
            if way.sum() >= cfg.least_m:
                found.append((*_piece(cfg, car, others, first), f"{drive.name}/{first}"))
    if not found:
        raise ValueError(f"drives must hold a piece of least_m; got least_m={cfg.least_m}.")
    *arrays, names = zip(*found, strict=True)
    route, others, speed, mask, logged = (np.stack(x) for x in arrays)
    return Pieces(route, others, speed, mask, logged, tuple(names))


def _smooth(place: np.ndarray) -> np.ndarray:
    """The middle of the car and its speed [f, 4] of LiDAR places [f, 3]."""
    ahead = np.stack([np.cos(place[:, 2]), np.sin(place[:, 2])], -1)
    middle = place[:, :2] - layout.BEHIND_M * ahead
    velocity = np.gradient(middle, axis=0) / layout.SECONDS
    return np.column_stack([middle, np.unwrap(place[:, 2]), np.sum(velocity * ahead, -1)])


def _others(drive: kitti.Layout) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Frames and rows (box, speed) [f, 8] of every track."""
    by_track: dict[int, list[kitti.Box]] = {}
    for box in drive.boxes:
        by_track.setdefault(box.track, []).append(box)
    found = {}
    for track, boxes in by_track.items():
        boxes = sorted(boxes, key=lambda b: b.frame)
        frame = np.array([b.frame for b in boxes])
        rows = np.array(
            [[b.x, b.y, b.height / 2, b.length, b.width, b.height, b.heading] for b in boxes]
        )
        speed = np.zeros(len(rows))
        if len(rows) > 1:
            velocity = np.gradient(rows[:, :2], frame * layout.SECONDS, axis=0)
            speed = np.sum(velocity * np.stack([np.cos(rows[:, 6]), np.sin(rows[:, 6])], -1), -1)
        found[track] = frame, np.column_stack([rows, speed])
    return found


def _piece(cfg: ReplayConfig, car: np.ndarray, others: Mapping, first: int) -> tuple:
    t, origin = cfg.num_steps, np.array([*car[first, :2], 0.0, 0.0])
    rows = np.zeros((t + 1, cfg.room, 8))
    rows[..., :2], rows[..., 3:6] = 1e4, 1.0
    mask, near = np.zeros((t + 1, cfg.room), bool), []
    for track, (frame, _) in others.items():
        inside = (frame >= first) & (frame <= first + t)
        if inside.any():
            gap = others[track][1][inside, :2] - car[frame[inside], :2]
            near.append((np.linalg.norm(gap, axis=-1).min(), track))
    for slot, (_, track) in enumerate(sorted(near)[: cfg.room]):
        frame, values = others[track]
        inside = (frame >= first) & (frame <= first + t)
        rows[frame[inside] - first, slot] = values[inside]
        mask[frame[inside] - first, slot] = True
    rows[..., :2] -= origin[:2]
    logged = car[first : first + t + 1] - origin
    return _route(car[first:] - origin), rows[..., :7], rows[..., 7], mask, logged


def _route(car: np.ndarray) -> np.ndarray:
    """The way every metre [ROUTE_M, 3]; it goes straight on where the log ends."""
    way = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(car[:, :2], axis=0), axis=-1))])
    at = np.arange(ROUTE_M, dtype=float)
    keep = np.concatenate([[True], np.diff(way) > 1e-3])
    route = np.stack([np.interp(at, way[keep], car[keep, i]) for i in range(3)], -1)
    beyond = np.maximum(at - way[-1], 0.0)[:, None]
    route[:, :2] += beyond * [np.cos(car[-1, 2]), np.sin(car[-1, 2])]
    return route


def straightened(route: Array, place: Array) -> tuple[Array, Array]:
    """Along, across and heading of x, y, heading [..., 3] beside the route; its curvature there."""
    gap = place[..., None, :2] - jnp.reshape(route[:, :2], (1,) * (place.ndim - 1) + (-1, 2))
    at = jnp.argmin(jnp.sum(gap**2, -1), -1)
    base = route[at]
    d = place[..., :2] - base[..., :2]
    cos, sin = jnp.cos(base[..., 2]), jnp.sin(base[..., 2])
    along = at + cos * d[..., 0] + sin * d[..., 1]
    across = cos * d[..., 1] - sin * d[..., 0]
    turn = bicycle.wrap(place[..., 2] - base[..., 2])
    ahead = jnp.clip(at + 3, 0, len(route) - 1)
    curvature = (route[ahead, 2] - base[..., 2]) / jnp.maximum(ahead - at, 1)
    return jnp.stack([along, across, turn], -1), curvature


class Drive(NamedTuple):
    """What a planner did: vehicles (x, y, heading, length, width, speed) as the monitor takes them.

    Attributes:
      ego: [p, t, 6].
      others: [p, t, n, 6].
      mask: who was there, seen or not [p, t, n].
      seen: whom the LiDAR hit [p, t, n].
    """

    ego: Array
    others: Array
    mask: Array
    seen: Array


BODY = jnp.array([4.5, 1.8])


def drive(key: Key, cfg: ReplayConfig, planner: Planner, some: Pieces) -> Drive:
    """Drives every piece again, all in one program."""
    keys = jax.random.split(key, len(some.name))
    wanted = some.logged[..., 3].max(1)
    arrays = [jnp.asarray(x, jnp.float32) for x in (*some[:3], some.logged[:, 0], wanted)]
    run = jax.jit(jax.vmap(lambda k, m, *x: _one(k, cfg, planner, m, *x)))
    return run(keys, jnp.asarray(some.mask), *arrays)


def _one(
    key: Key, cfg: ReplayConfig, planner: Planner, mask: Array, route: Array, others: Array,
    speed: Array, start: Array, wanted: Array,
) -> Drive:  # fmt: skip
    def step(state: Array, now: Sequence[Array]) -> tuple[Array, Drive]:
        number, boxes, speeds, there = now
        seen = _hit(rng.fold(key, number), cfg, state, boxes, there)
        ego = jnp.concatenate([state[:3], BODY, state[3:]])
        around = jnp.concatenate([boxes[:, :2], boxes[:, 6:], boxes[:, 3:5], speeds[:, None]], -1)
        mine, curvature = straightened(route, ego[:3])
        theirs, _ = straightened(route, around[:, :3])
        view = Traffic(
            jnp.concatenate([mine, ego[3:]]), jnp.concatenate([theirs, around[:, 3:]], -1), seen,
            jnp.zeros(1), wanted, jnp.float32(cfg.lane_m),
        )  # fmt: skip
        action = planner(view)
        bend = curvature / jnp.maximum(1 - curvature * mine[1], 0.2)
        action = bicycle.clip_action(action.at[1].add(bend))
        brake = -state[3] / layout.SECONDS  # no vehicle rolls back
        after = bicycle.step(state, action.at[0].max(brake), layout.SECONDS)
        return after, Drive(ego, around, there, seen)

    steps = (jnp.arange(len(mask)), others, speed, mask)
    return jax.lax.scan(step, start, steps)[1]


def _hit(key: Key, cfg: ReplayConfig, state: Array, boxes: Array, there: Array) -> Array:
    """Who returns enough of the LiDAR's rays, bool [n]."""
    height = jnp.float32(cfg.lidar.height_m)
    pose = se3.planar(state[0], state[1], state[2], height)
    mine = se3.boxes_to(se3.inverse(pose), boxes)
    _, returned, box = scan(key, cfg.lidar, mine, there, jnp.full(len(boxes), 0.5))
    count = jnp.zeros(len(boxes), jnp.int32)
    count = count.at[jnp.where(returned & (box >= 0), box, len(boxes))].add(1, mode="drop")
    return there & (count >= cfg.least_points)

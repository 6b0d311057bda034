"""Closed loop in highway-env, a public simulator, through its public interface only.

All episodes run side by side, so a planner is one jitted call for all of them.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxml.core import check
from jaxml.driving.planning.bicycle import clip_action
from jaxml.driving.planning.traffic import LANE_M, Planner, Traffic

FEATURES = ("presence", "x", "y", "vx", "vy", "heading")
LENGTH_M, WIDTH_M = 5.0, 2.0
STEER = np.pi / 4


@dataclasses.dataclass(frozen=True)
class HighwayConfig:
    """A road and its traffic.

    Attributes:
      num_lanes: of the road, 4 m wide each.
      num_vehicles: others, driven by the simulator's IDM and MOBIL.
      density: of traffic.
      num_seen: nearest others that a planner sees.
      duration_s: of an episode; a collision ends it.
      step_s: seconds of an action.
      simulation_hz: of the simulator.
      speed: wanted, m/s.
    """

    num_lanes: int = 3
    num_vehicles: int = 15
    density: float = 1.0
    num_seen: int = 12
    duration_s: float = 12.0
    step_s: float = 0.2
    simulation_hz: int = 5
    speed: float = 28.0

    def __post_init__(self):
        check.positive(num_lanes=self.num_lanes, num_seen=self.num_seen, speed=self.speed)
        check.positive(duration_s=self.duration_s, step_s=self.step_s, density=self.density)

    @property
    def num_steps(self) -> int:
        """Actions of an episode."""
        return round(self.duration_s / self.step_s)


class Drives(NamedTuple):
    """What happened in d episodes of at most t steps.

    Attributes:
      ego: vehicles (x, y, heading, length, width, speed), [d, t, 6]; the last one repeats after
        the end of an episode.
      others: [d, t, o, 6].
      mask: [d, t, o].
      steps: steps made, [d].
      crashed: the simulator's own verdict, bool [d].
    """

    ego: np.ndarray
    others: np.ndarray
    mask: np.ndarray
    steps: np.ndarray
    crashed: np.ndarray


def make(cfg: HighwayConfig) -> Any:
    """One environment.

    Raises:
      ImportError: highway-env is not installed; says how to get it.
    """
    try:
        import gymnasium
        import highway_env  # noqa: F401  (registers its environments)
    except ImportError:
        raise ImportError(
            "the closed loop needs highway-env: pip install 'jaxml-lab[driving]'."
        ) from None
    observation = {
        "type": "Kinematics", "features": list(FEATURES), "absolute": True, "normalize": False,
        "vehicles_count": cfg.num_seen + 1, "see_behind": True, "order": "sorted",
    }  # fmt: skip
    action = {
        "type": "ContinuousAction", "acceleration_range": [-6.0, 6.0],
        "steering_range": [-STEER, STEER], "longitudinal": True, "lateral": True,
    }  # fmt: skip
    return gymnasium.make(
        "highway-fast-v0",
        config={
            "observation": observation, "action": action, "lanes_count": cfg.num_lanes,
            "vehicles_count": cfg.num_vehicles, "vehicles_density": cfg.density,
            "duration": cfg.duration_s, "simulation_frequency": cfg.simulation_hz,
            "policy_frequency": round(1 / cfg.step_s), "offroad_terminal": True,
            "offscreen_rendering": True,
        },
    )  # fmt: skip


def see(cfg: HighwayConfig, rows: np.ndarray) -> Traffic:
    """What planners see of observations [d, 1 + o, 6], leaves [d, ...]."""
    heading = rows[..., 5]
    speed = rows[..., 3] * np.cos(heading) + rows[..., 4] * np.sin(heading)
    size = np.broadcast_to([LENGTH_M, WIDTH_M], (*rows.shape[:2], 2))
    cars = np.concatenate(
        [rows[..., 1:3], heading[..., None], size, speed[..., None]], -1, dtype=np.float32
    )
    mask = rows[:, 1:, 0] > 0.5
    return _on_lanes(cfg, cars[:, 0], cars[:, 1:], mask)


def _on_lanes(cfg: HighwayConfig, ego: np.ndarray, others: np.ndarray, mask: np.ndarray) -> Traffic:
    """Vehicles of n moments with the road's lanes and the speed wanted."""
    centres = np.arange(cfg.num_lanes, dtype=np.float32) * LANE_M
    lanes = np.broadcast_to(centres, (len(ego), cfg.num_lanes))
    wanted, wide = (np.full(len(ego), x, np.float32) for x in (cfg.speed, LANE_M))
    return Traffic(*(jnp.asarray(x) for x in (ego, others, mask, lanes, wanted, wide)))


def steering(action: np.ndarray) -> np.ndarray:
    """The simulator's actions in [-1, 1] of accelerations and curvatures [d, 2].

    Its bicycle turns by `v sin(b) / (L / 2)` with `tan b = tan(steer) / 2`.
    """
    slip = np.arcsin(np.clip(action[:, 1] * LENGTH_M / 2, -0.9, 0.9))
    steer = np.arctan(2 * np.tan(slip))
    return np.clip(np.stack([action[:, 0] / 6.0, steer / STEER], -1), -1, 1)


def drive(cfg: HighwayConfig, planner: Planner, seeds: list[int]) -> Drives:
    """Runs one episode per seed.

    Args:
      cfg: of the road.
      planner: of the ego vehicle.
      seeds: of the traffic.

    Raises:
      ImportError: see `make`.
    """
    envs = [make(cfg) for _ in seeds]
    first = [env.reset(seed=seed)[0] for env, seed in zip(envs, seeds, strict=True)]
    rows = np.stack(first).astype(np.float64)
    act = jax.jit(lambda seen: clip_action(jax.vmap(planner)(seen)))
    alive, crashed = np.ones(len(seeds), bool), np.zeros(len(seeds), bool)
    steps, told = np.zeros(len(seeds), int), []
    for _ in range(cfg.num_steps):
        seen = see(cfg, rows)
        told.append(jax.tree.map(np.asarray, seen[:3]))
        actions = steering(np.asarray(act(seen)))
        for i in np.flatnonzero(alive):
            rows[i], _, ended, over, about = envs[i].step(actions[i])
            steps[i] += 1
            crashed[i] = bool(about["crashed"])
            alive[i] = not (ended or over)
        if not alive.any():
            break
    told.append(jax.tree.map(np.asarray, see(cfg, rows)[:3]))
    for env in envs:
        env.close()
    ego, others, mask = (np.stack(x, 1) for x in zip(*told, strict=True))
    return Drives(ego, others, mask, steps, crashed)


def moments(cfg: HighwayConfig, drives: Drives, every: int) -> Traffic:
    """Moments of drives as one batch [n, ...], every so many steps while they lasted."""
    t = np.arange(0, drives.ego.shape[1], every)
    keep = t[None] < drives.steps[:, None]
    return _on_lanes(cfg, *(x[:, t][keep] for x in drives[:3]))

"""The closed-loop comparison: a driver, a controller and a learner on the same seeded episodes."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxml.core import check, config, files, rng
from jaxml.core.types import Array, Key, PyTree
from jaxml.driving.planning import highway, imitation, planners
from jaxml.driving.planning.highway import Drives, HighwayConfig
from jaxml.driving.planning.imitation import ImitationConfig
from jaxml.driving.planning.traffic import Planner, Traffic

PLANNERS = ("idm", "mpc", "imitation")
TRAIN_SEED = 100_000
"""Traffic that is learnt from starts here; episodes that are scored count from 0."""


@dataclasses.dataclass(frozen=True)
class LoopConfig:
    """One comparison.

    Attributes:
      road: the simulator's.
      learner: the imitation planner; its expert is the controller compared.
      num_episodes: scored, seeds 0, 1, ...
      num_demos: episodes that the expert drives to be learnt from.
      every: steps between the moments taken from them.
      num_moved: moved starts of every moment, each answered by the expert.
    """

    road: HighwayConfig = HighwayConfig()
    learner: ImitationConfig = ImitationConfig()
    num_episodes: int = 100
    num_demos: int = 20
    every: int = 2
    num_moved: int = 4

    def __post_init__(self):
        check.positive(num_episodes=self.num_episodes, num_demos=self.num_demos, every=self.every)
        check.at_least(0, num_moved=self.num_moved)
        check.between(1, TRAIN_SEED, num_episodes=self.num_episodes)


def lessons(key: Key, cfg: LoopConfig) -> tuple[Traffic, Array]:
    """Moments of the expert's drives, moved starts among them, and the expert's answers."""
    expert = planners.planned(cfg.learner.expert)
    seeds = [TRAIN_SEED + i for i in range(cfg.num_demos)]
    seen = highway.moments(cfg.road, highway.drive(cfg.road, expert, seeds), cfg.every)
    moved = [
        imitation.perturb(rng.fold(key, "moved", i), cfg.learner, seen)
        for i in range(cfg.num_moved)
    ]
    every = jax.tree.map(lambda *x: jnp.concatenate(x), seen, *moved)
    return every, jax.jit(lambda s: imitation.answers(cfg.learner, s))(every)


def learn(key: Key, cfg: LoopConfig, say: Callable[[str], None] = lambda line: None) -> PyTree:
    """The learner's parameters."""
    seen, wanted = lessons(key, cfg)
    params, losses = imitation.fit(rng.fold(key, "fit"), cfg.learner, seen, wanted)
    say(
        f"imitation: {len(wanted)} lessons, loss {losses[:20].mean():.3f} to "
        f"{losses[-20:].mean():.3f}"
    )
    return params


def planner(name: str, cfg: LoopConfig, params: PyTree | None = None) -> Planner:
    """A planner by name.

    Raises:
      ValueError: another name, or a learner without parameters.
    """
    check.one_of(PLANNERS, name=name)
    if name == "imitation":
        if params is None:
            raise ValueError("params must be given for the imitation planner; got None.")
        return imitation.imitating(params, cfg.learner)
    make = planners.keep_lane if name == "idm" else planners.planned
    return make(cfg.learner.expert)


class Result(NamedTuple):
    """Means over episodes of one planner.

    Attributes:
      episodes: driven.
      crashes: of them, by the simulator.
      progress_m: way along the road.
      speed: m/s.
      seconds: driven per episode.
    """

    episodes: int
    crashes: int
    progress_m: float
    speed: float
    seconds: float


def summary(cfg: LoopConfig, drives: Drives) -> Result:
    """Crashes and progress of a planner's episodes."""
    way = drives.ego[:, -1, 0] - drives.ego[:, 0, 0]
    seconds = drives.steps * cfg.road.step_s
    return Result(
        len(way), int(drives.crashed.sum()), float(way.mean()), float(way.sum() / seconds.sum()),
        float(seconds.mean()),
    )  # fmt: skip


def run(
    key: Key, cfg: LoopConfig, folder: Path, names: Sequence[str] = PLANNERS,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Drives]:  # fmt: skip
    """Episodes of every planner; what lies in `folder` is taken over.

    Raises:
      ImportError: the simulator is not installed.
    """
    found, mark, params = {}, config.fingerprint(cfg), None
    for name in names:
        path = folder / f"drives-{name}-{mark}.npz"
        if not path.exists():
            if name == "imitation":
                params = learn(key, cfg, say)
            seeds = list(range(cfg.num_episodes))
            drives = highway.drive(cfg.road, planner(name, cfg, params), seeds)
            with files.aside(path) as part, part.open("wb") as out:
                np.savez_compressed(out, **drives._asdict())  # pyright: ignore[reportArgumentType]
        with np.load(path, allow_pickle=False) as kept:
            found[name] = Drives(*(kept[n] for n in Drives._fields))
        say(f"{name}: {summary(cfg, found[name])}")
    return found

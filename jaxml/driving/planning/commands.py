"""`jaxml driving plan` and what it drives."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import jax
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from jaxml.core import check
from jaxml.driving.planning import loop, pictures
from jaxml.driving.planning.loop import LoopConfig
from jaxml.driving.safety import monitor


def plan(
    planner: Annotated[tuple[Literal["idm", "mpc", "imitation"], ...], tyro.conf.Positional] = (
        "idm",
        "mpc",
    ),
    /,
    episodes: int = 10,
    duration_s: float = 12.0,
    vehicles: int = 15,
    out: Path = Path("runs/driving-plan"),
    seed: int = 0,
) -> None:
    """Drives seeded episodes of highway-env and prints crashes, progress and the monitor's view.

    Args:
      planner: which planners; imitation is trained first.
      episodes: seeds 0, 1, ...
      duration_s: of an episode.
      vehicles: others on the road.
      out: folder of the drives and of a GIF per planner.
      seed: of training.
    """
    check.positive(episodes=episodes, duration_s=duration_s, vehicles=vehicles)
    say, base = Console(), LoopConfig()
    road = dataclasses.replace(base.road, duration_s=duration_s, num_vehicles=vehicles)
    cfg = dataclasses.replace(base, road=road, num_episodes=episodes)
    drives = loop.run(jax.random.key(seed), cfg, out, planner)
    results = {name: loop.summary(cfg, d) for name, d in drives.items()}
    judged = {
        name: jax.tree.map(np.asarray, monitor.judge_all(d.ego, d.others, d.mask, road.step_s))
        for name, d in drives.items()
    }
    shown = pictures.outcomes(results, judged)
    table = Table(*shown.columns)
    for row in shown.rows:
        table.add_row(*row)
    say.print(table)
    for name, drive in drives.items():
        pictures.animate(drive, out / f"{name}.gif")
    say.print(f"written to {out}")

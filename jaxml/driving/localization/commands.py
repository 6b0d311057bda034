"""`jaxml driving odometry eval|demo`."""

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro

from jaxml.core import files
from jaxml.driving.localization import recipe


def odometry(
    action: Annotated[Literal["eval", "demo"], tyro.conf.Positional],
    /,
    preset: Literal["tiny", "laptop"] = "laptop",
    residual: Literal["point", "plane"] = "point",
    frames: int | None = None,
    path: Path | None = None,
    out: Path = Path("odometry.svg"),
) -> None:
    """LiDAR odometry on a real drive of 78 frames, or on a simulated one without the data.

    Nothing is trained: there is no `train`.

    Args:
      action: eval: errors against the reference path; demo: a picture of both paths.
      preset: size of map and clouds.
      residual: point to point (as KISS-ICP) or point to plane.
      frames: the first so many (default: all).
      path: of the data (default: found).
      out: picture to write (demo).
    """
    run = recipe.paths(preset, residual, frames, path)
    print(f"{run.source}: {len(run.found)} frames, {run.length_m:.2f} m, {run.reference}")
    share = 100 * run.max_m / run.length_m
    print(f"largest distance to it {run.max_m:.3f} m ({share:.2f} % of the path)")
    if action == "demo":
        files.write_text(out, recipe.picture(run).svg)
        end = np.round(run.found[-1, :3, 3], 3).tolist()
        print(f"the last position is {end}; picture in {out}")

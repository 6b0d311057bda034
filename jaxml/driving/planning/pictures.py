"""Tables and pictures of closed-loop drives."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxml.core import files
from jaxml.driving.planning.highway import Drives
from jaxml.driving.planning.loop import Result
from jaxml.driving.planning.replay import Drive, Pieces
from jaxml.driving.safety import monitor
from jaxml.driving.safety.monitor import Verdict
from jaxml.driving.sim.layout import SECONDS
from jaxml.report import figure
from jaxml.report.recipe import Figure, Table

NAMES = {"idm": "IDM, keeps its lane", "mpc": "MPC among lanes", "imitation": "imitation of MPC"}


def outcomes(results: Mapping[str, Result], judged: Mapping[str, Verdict]) -> Table:
    """One line per planner: what the simulator says, and what the monitor says."""
    body = []
    for name, result in results.items():
        verdict = judged[name]
        ttc = np.minimum(np.asarray(verdict.least_ttc_s), 10.0)
        body.append((
            NAMES.get(name, name), str(result.episodes), str(result.crashes),
            f"{result.progress_m:.0f}", f"{result.speed:.2f}", f"{np.median(ttc):.2f}",
            f"{100 * np.mean(verdict.dangerous):.1f}", f"{100 * np.mean(verdict.blamed):.1f}",
            f"{100 * np.mean(verdict.harsh):.1f}",
        ))  # fmt: skip
    columns = (
        "planner", "episodes", "crashes", "progress m", "speed m/s", "median least TTC s",
        "RSS dangerous %", "RSS to blame %", "harsh %",
    )  # fmt: skip
    caption = (
        "highway-env, the same seeds for all. Crashes are the simulator's. The monitor's shares "
        "are of time; RSS assumes hard braking ahead and late, soft braking behind, so dense "
        "traffic at motorway speed is 'dangerous' most of the time."
    )
    return Table("Closed loop", columns, tuple(body), caption)


def replays(drives: Mapping[str, Drive], pieces: Pieces) -> Table:
    """One line per planner: how it went in the recording car's place."""
    way = np.linalg.norm(np.diff(pieces.logged[..., :2], axis=1), axis=-1).sum(1)
    body = []
    for name, drive in drives.items():
        verdict = monitor.judge_all(drive.ego, drive.others, drive.mask, SECONDS)
        ttc = np.minimum(np.asarray(verdict.least_ttc_s), 10.0)
        seen = np.asarray(drive.seen).sum() / max(np.asarray(drive.mask).sum(), 1)
        body.append((
            NAMES.get(name, name), str(len(way)), f"{np.sum(verdict.collided):.0f}",
            f"{100 * np.sum(verdict.progress_m) / way.sum():.0f}", f"{np.median(ttc):.2f}",
            f"{100 * np.mean(verdict.harsh):.1f}", f"{100 * seen:.0f}",
        ))  # fmt: skip
    columns = (
        "planner", "pieces", "touched another", "way, % of the log's", "median least TTC s",
        "harsh %", "others seen %",
    )  # fmt: skip
    caption = (
        "KITTI drives, a planner in the recording car's place. Others do what the log says and do "
        "not react, so who is slower than the recording car is run into from behind. The planner "
        "knows only what its simulated LiDAR hits."
    )
    return Table("Real drives replayed", columns, tuple(body), caption)


def ways(drives: Mapping[str, Drives], episode: int = 0) -> Figure:
    """Where each planner drove in one episode."""

    def plot(axes: Any) -> None:
        for name, drive in drives.items():
            steps = int(drive.steps[episode]) + 1
            axes.plot(*drive.ego[episode, :steps, :2].T, label=NAMES.get(name, name))
        axes.set(xlabel="along the road, m", ylabel="across, m")
        axes.invert_yaxis()
        axes.legend()

    caption = "Lanes are centred at 0, 4 and 8 m; a planner that overtakes comes further."
    return figure.draw("driving-ways", "One episode, three planners", caption, plot, (7.0, 3.0))


def animate(drive: Drives, path: Path, episode: int = 0, ahead_m: float = 90.0) -> None:
    """A GIF of one episode, seen from above, moving with the ego vehicle."""
    from PIL import Image, ImageDraw

    scale, height, frames = 6.0, 110, []
    for t in range(int(drive.steps[episode]) + 1):
        ego = drive.ego[episode, t]
        image = Image.new("RGB", (int(1.4 * ahead_m * scale), height), (236, 236, 236))
        pen = ImageDraw.Draw(image)
        for y in np.arange(-2.0, 13.0, 4.0):
            row = 30 + scale * y
            pen.line((0, row, image.width, row), fill=(170, 170, 170))
        cars = [(*drive.others[episode, t, i], 0) for i in np.flatnonzero(drive.mask[episode, t])]
        for x, y, _, length, width, _, own in [*cars, (*ego, 1)]:
            left, top = (x - ego[0] + 0.4 * ahead_m) * scale, 30 + scale * y
            box = (left - length / 2 * scale, top - width / 2 * scale,
                   left + length / 2 * scale, top + width / 2 * scale)  # fmt: skip
            pen.rectangle(box, fill=(224, 112, 44) if own else (59, 125, 216))
        frames.append(image)
    with files.aside(path) as part, part.open("wb") as out:
        frames[0].save(
            out, format="GIF", save_all=True, append_images=frames[1:], duration=200, loop=0
        )

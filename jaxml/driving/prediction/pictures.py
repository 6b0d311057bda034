"""Tables and pictures of forecasts, and an animation as GIF."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxml.core import files
from jaxml.driving.prediction.evaluate import Scores
from jaxml.driving.prediction.social import Forecast
from jaxml.driving.tracks.windows import Windows
from jaxml.report import figure
from jaxml.report.recipe import Figure, Table

NAMES = {
    "velocity": "constant velocity", "line": "least-squares line", "anchors": "20 anchors only",
    "model": "anchors + attention",
}  # fmt: skip
COLUMNS = {
    "min_ade": "minADE20", "min_fde": "minFDE20", "scene_ade": "scene minADE20",
    "scene_fde": "scene minFDE20", "ml_ade": "most likely ADE", "ml_fde": "most likely FDE",
    "single_ade": "single ADE", "single_fde": "single FDE",
    "nll": "NLL (nats/step)", "miss": "missed (2 m)", "collision": "touch (0.2 m)",
}  # fmt: skip


def errors(rows: Mapping[str, Mapping[str, Scores]]) -> Table:
    """One line per forecaster and scene."""
    body = [
        (NAMES.get(row, row), scene, str(s.num_agents), *(f"{getattr(s, c):.3f}" for c in COLUMNS))
        for row, scenes in rows.items()
        for scene, s in scenes.items()
    ]
    caption = (
        "Metres, means over agents; the last line of each is the mean over scenes. minADE20 and "
        "minFDE20 are chosen for each agent and each by itself; the scene minimum takes one sample "
        "for all agents of a window. The most likely path has the highest probability; the "
        "single one the least error expected under the forecast's own probabilities. A forecaster "
        "of one path has one number for all variants."
    )
    return Table(
        "Pedestrians", ("forecast", "scene", "agents", *COLUMNS.values()), tuple(body), caption
    )


def _densest(windows: Windows) -> int:
    return int(np.argmax(np.bincount(windows.group)))


def paths(windows: Windows, forecast: Forecast, id: str, title: str) -> Figure:
    """One crowded window: what was seen, what came, what was forecast."""
    rows = np.flatnonzero(windows.group == _densest(windows))[:12]

    def plot(axes: Any) -> None:
        for i in rows:
            last = windows.past[i, -1]
            order = np.argsort(forecast.log_prob[i])
            for k in order:
                share = float(np.exp(forecast.log_prob[i, k]))
                way = np.concatenate([last[None], forecast.paths[i, k] + last])
                axes.plot(*way.T, color=figure.COLOURS[0], alpha=min(0.1 + share, 1), lw=1)
            best = np.concatenate([last[None], forecast.paths[i, order[-1]] + last])
            axes.plot(*best.T, color=figure.COLOURS[0], lw=2)
            axes.plot(*windows.past[i].T, color=figure.INK, lw=2)
            axes.plot(*windows.future[i].T, color=figure.COLOURS[1], lw=2, ls="--")
        axes.set(xlabel="m", ylabel="m", aspect="equal")

    caption = "Dark: 3.2 s seen; blue: forecasts, the most likely one bold; orange: what came."
    return figure.draw(id, title, caption, plot, (6.4, 4.6))


def ranks(rows: Mapping[str, Mapping[str, Scores]]) -> Figure:
    """Best of 20 beside the most likely path, by forecaster."""
    means = {NAMES[n]: scenes["mean"] for n, scenes in rows.items() if n in NAMES}

    def plot(axes: Any) -> None:
        place = np.arange(len(means))
        for shift, field, label in (
            (-0.2, "min_fde", "best of 20"),
            (0.2, "ml_fde", "most likely"),
        ):
            axes.bar(place + shift, [getattr(s, field) for s in means.values()], 0.38, label=label)
        axes.set_xticks(place, list(means))
        axes.set(ylabel="final error, m")
        axes.legend()

    caption = "Means over the five scenes. What one would act on is the most likely path."
    return figure.draw("driving-ranks", "Best of 20 and most likely", caption, plot, (6.8, 3.6))


def gif(path: Path, frames: Sequence[np.ndarray], step_ms: int = 200) -> None:
    """Writes pictures [h, w, 3] as an endless GIF."""
    from PIL import Image

    images = [Image.fromarray(np.asarray(frame, np.uint8)) for frame in frames]
    with files.aside(path) as part, part.open("wb") as out:
        images[0].save(
            out, format="GIF", save_all=True, append_images=images[1:], duration=step_ms, loop=0
        )


def animate(windows: Windows, forecast: Forecast, path: Path, size: int = 360) -> None:
    """A GIF of a crowded window: the past, then the truth beside the most likely paths."""
    from PIL import Image, ImageDraw

    rows = np.flatnonzero(windows.group == _densest(windows))[:20]
    best = np.argmax(forecast.log_prob[rows], 1)
    likely = forecast.paths[rows, best] + windows.past[rows, -1:]
    whole = np.concatenate([windows.past[rows], windows.future[rows]], 1)
    low, high = whole.min((0, 1)) - 1, whole.max((0, 1)) + 1
    scale = size / float((high - low).max())

    def at(points: np.ndarray) -> list[tuple[float, float]]:
        return [(float(x), float(size - y)) for x, y in (points - low) * scale]

    frames, num_past = [], windows.past.shape[1]
    for t in range(whole.shape[1]):
        image = Image.new("RGB", (size, size), "white")
        pen = ImageDraw.Draw(image)
        for i in range(len(rows)):
            pen.line(at(whole[i, : t + 1]), fill=(40, 40, 40), width=2)
            if t >= num_past - 1:
                ahead = np.concatenate([whole[i, num_past - 1 : num_past], likely[i]])
                pen.line(at(ahead[: t - num_past + 2]), fill=(59, 125, 216), width=2)
            x, y = at(whole[i, t : t + 1])[0]
            pen.ellipse((x - 4, y - 4, x + 4, y + 4), fill=(224, 112, 44))
        frames.append(np.asarray(image))
    gif(path, frames)

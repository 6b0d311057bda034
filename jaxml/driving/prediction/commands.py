"""`jaxml driving predict`: forecasts of the pedestrians in a recording."""

import json
from pathlib import Path
from typing import Annotated

import jax
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from jaxml.core import check, files
from jaxml.driving.prediction import baselines, evaluate, pictures, train
from jaxml.driving.prediction.config import PRESETS
from jaxml.driving.tracks import ethucy, toy
from jaxml.driving.tracks.ethucy import SCENES, Fold


def predict(
    scene: Annotated[str, tyro.conf.Positional] = "zara1",
    /,
    tracks: Path | None = None,
    preset: str = "laptop",
    steps: int | None = None,
    made: bool = False,
    out: Path = Path("runs/driving-predict"),
    seed: int = 0,
) -> None:
    """Trains on the other scenes, forecasts one, and prints its errors beside simple rows.

    Args:
      scene: eth, hotel, univ, zara1 or zara2: what is left out.
      tracks: a recording of your own to forecast (lines of frame, agent, x, y in metres, one frame
        every 0.4 s) instead of that scene.
      preset: tiny, laptop or h100.
      steps: of training (default: the preset's).
      made: made tracks instead of recordings.
      out: folder of forecasts.npz, scores.json and forecasts.gif.
      seed: of everything.
    """
    check.one_of(SCENES, scene=scene)
    check.one_of(PRESETS, preset=preset)
    say, cfg = Console(), PRESETS[preset]
    if steps is not None:
        from jaxml.driving.prediction.h100 import shorter

        check.positive(steps=steps)
        cfg = shorter(cfg, steps)
    fold: Fold = (toy.folds(seed) if made else ethucy.load()[0])[scene]
    test = fold.test if tracks is None else ethucy.parse(tracks.read_text(), tracks.name)
    if not len(test):
        raise ValueError(f"tracks must hold agents seen in 20 successive frames; got {tracks}.")
    fitted = train.fit(
        jax.random.key(seed), cfg, {scene: fold.train}, {scene: fold.validation}, say.print
    )
    found = train.forecast(cfg.model, *fitted.fold(scene), test)
    velocity = baselines.constant_velocity
    wide = baselines.spread(velocity(fold.train.past, 12), fold.train.future).scale
    rows = {
        "constant velocity": evaluate.single(test, velocity(test.past, 12), wide),
        "forecast": evaluate.score(test, found),
    }
    table = Table("", *pictures.COLUMNS.values())
    for name, scores in rows.items():
        table.add_row(name, *(f"{getattr(scores, c):.3f}" for c in pictures.COLUMNS))
    say.print(table)
    scores = {name: row._asdict() for name, row in rows.items()}
    files.write_text(out / "scores.json", json.dumps(scores, indent=1) + "\n")
    with files.aside(out / "forecasts.npz") as part, part.open("wb") as handle:
        np.savez_compressed(handle, **found._asdict(), past=test.past, group=test.group)  # pyright: ignore[reportArgumentType]
    pictures.animate(test, found, out / "forecasts.gif")
    say.print(f"written to {out}")

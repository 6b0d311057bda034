"""Camera, sparse LiDAR, or both: the order on simulated scenes."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxml.core import files
from jaxml.driving.fusion import model, pictures
from jaxml.driving.fusion import train as training
from jaxml.driving.fusion.config import PRESETS, SENSORS, FusionConfig
from jaxml.driving.sim.layout import Layouts, crowded, layouts, split
from jaxml.driving.sim.scene import scenes_of
from jaxml.report.claim import Claim, Promise, at_least
from jaxml.report.recipe import Context, Outcome, Table

PAPER = "BEVFusion, nuScenes val mAP: fused 68.5, LiDAR 64.7, camera 35.6"
_RULE = "3 seeds, mean gap in simulated AP@0.7 of cars; below 2 points is called a tie"


def _gap(id: str, words: str) -> Promise:
    return Promise("driving", id, words, PAPER, "second-hand", "points of AP", at_least(2.0, _RULE))


FUSED = _gap("fused-over-lidar", "Camera and LiDAR fused find more than LiDAR alone")
LIDAR = _gap("lidar-over-camera", "LiDAR alone finds more than the camera alone")
WHY = "needs a GPU: `jaxml reproduce driving --scale h100`, or `python -m jaxml.driving.gpu`"


def scores(cfg: FusionConfig, every: Layouts, folder: Path, num: int) -> dict[str, float]:
    """Trains and scores one choice of sensors; a finished one is read again."""
    path = folder / "scores.json"
    if path.exists():
        return json.loads(path.read_text())
    train, held = split(crowded(every, 3))
    done = training.train(cfg, train, folder)
    found = training.evaluate(done, cfg, held, num)
    files.write_text(path, json.dumps(found) + "\n")
    return found


def gaps(promise: Promise, better: Any, worse: Any, scale: str, key: str = "AP@0.7") -> Claim:
    """The claim that one list of scores (by seed) lies above another."""
    each = [100 * (a[key] - b[key]) for a, b in zip(better, worse, strict=True)]
    mean, spread = float(np.mean(each)), float(np.std(each))
    tie = "a tie; " if abs(mean) < 2 else ""
    two = " and ".join(f"{100 * np.mean([s[key] for s in side]):.1f}" for side in (better, worse))
    return promise.measured(mean, scale, spread, f"{tie}SIMULATED {key}: {two}")


def measure(scale: str, context: Context) -> Outcome:
    """At "h100" three seeds of three choices; otherwise only what the camera sees."""
    cfg = PRESETS[scale]
    every = layouts(cfg.sim.room)
    figure = _look(cfg, every)
    if scale != "h100":
        return Outcome([p.missing(WHY, context.scale) for p in (FUSED, LIDAR)], [figure])
    found = {name: [] for name in SENSORS}
    for seed in range(3):
        for name in SENSORS:
            context.say(f"fusion: {name}, seed {seed}")
            one = dataclasses.replace(cfg, sensors=name, seed=seed)
            folder = context.folder / f"fusion-{name}-{seed}"
            found[name].append(scores(one, every, folder, 512))
    claims = [
        gaps(FUSED, found["fused"], found["lidar"], context.scale),
        gaps(LIDAR, found["lidar"], found["camera"], context.scale),
    ]
    return Outcome(claims, [figure], [table("Sensors, simulated", found)])


def table(title: str, found: dict[str, list[dict[str, float]]]) -> Table:
    """Means and standard deviations over seeds."""
    rows = []
    for name, each in found.items():
        cells = []
        for key in ("AP@0.5", "AP@0.7"):
            values = [100 * one[key] for one in each]
            cells.append(f"{np.mean(values):.1f} +- {np.std(values):.1f}")
        rows.append((name, *cells))
    return Table(title, ("", "AP@0.5, %", "AP@0.7, %"), tuple(rows), "Simulated; not nuScenes.")


def _look(cfg: FusionConfig, every: Layouts) -> Any:
    batch = {name: x[:1] for name, x in scenes_of(split(every)[1]).items()}
    _, seen = model.sense(jax.random.key(1), cfg, batch)
    return pictures.colour_and_depth(np.asarray(seen.colour[0]), np.asarray(seen.depth[0]))

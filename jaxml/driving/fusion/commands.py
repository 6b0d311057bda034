"""`jaxml driving fuse train|eval|demo`."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import jax
import numpy as np
import tyro

from jaxml.core import files
from jaxml.driving.detection3d import stored
from jaxml.driving.detection3d.train import Trained
from jaxml.driving.fusion import model, pictures
from jaxml.driving.fusion import train as training
from jaxml.driving.fusion.config import PRESETS, FusionConfig
from jaxml.driving.sim.layout import layouts, split
from jaxml.driving.sim.scene import scenes_of


def fuse(
    action: Annotated[Literal["train", "eval", "demo"], tyro.conf.Positional],
    folder: Annotated[Path, tyro.conf.Positional] = Path("runs/fuse"),
    /,
    sensors: Literal["camera", "lidar", "fused"] = "fused",
    preset: Literal["tiny", "laptop", "h100"] = "laptop",
    steps: int | None = None,
    scenes: int = 64,
    out: Path = Path("fuse.svg"),
    seed: int = 0,
) -> None:
    """Cars from a simulated camera, a sparse LiDAR, or both on one map.

    Args:
      action: train in the folder, eval what it holds, or demo: a picture and its exact depth.
      folder: of the run.
      sensors: which are used (train).
      preset: size of network and sensors (train).
      steps: updates (train; default: the preset's).
      scenes: to evaluate on, a multiple of the batch.
      out: picture to write (demo).
      seed: of everything (train).
    """
    if action == "train":
        cfg = dataclasses.replace(PRESETS[preset], sensors=sensors, seed=seed)
        stored.on_layouts(training.train, stored.with_steps(cfg, steps), folder)
        return
    cfg, params, state = stored.load(FusionConfig, folder)
    _, held = split(layouts(cfg.sim.room))
    if action == "eval":
        scores = training.evaluate(Trained(params, state), cfg, held, scenes)
        print(f"simulated cars ahead, {cfg.sensors}, {held.source} layouts held out")
        print("  ".join(f"{k} {100 * v:.1f}" for k, v in scores.items()))
        return
    batch = {name: x[:1] for name, x in scenes_of(held).items()}
    _, seen = model.sense(jax.random.key(seed), cfg, batch)
    figure = pictures.colour_and_depth(np.asarray(seen.colour[0]), np.asarray(seen.depth[0]))
    files.write_text(out, figure.svg)
    print(f"the simulated image above its exact depth; picture in {out}")

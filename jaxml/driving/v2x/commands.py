"""`jaxml driving v2x train|eval|demo`."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import jax
import numpy as np
import tyro

from jaxml.core import files
from jaxml.driving.detection3d import pictures, stored
from jaxml.driving.detection3d.train import Trained
from jaxml.driving.geometry import se3
from jaxml.driving.sim.layout import layouts, split
from jaxml.driving.sim.scene import scenes_of
from jaxml.driving.v2x import model
from jaxml.driving.v2x import train as training
from jaxml.driving.v2x.bandwidth import bytes_per_agent
from jaxml.driving.v2x.config import PRESETS, NoiseConfig, V2XConfig


def v2x(
    action: Annotated[Literal["train", "eval", "demo"], tyro.conf.Positional],
    folder: Annotated[Path, tyro.conf.Positional] = Path("runs/v2x"),
    /,
    method: Literal["none", "late", "early", "fcooper", "v2vnet"] = "v2vnet",
    preset: Literal["tiny", "laptop", "h100"] = "laptop",
    steps: int | None = None,
    scenes: int = 64,
    noise_m: float = 0.0,
    noise_deg: float = 0.0,
    delay: float = 0.0,
    out: Path = Path("v2x.svg"),
    seed: int = 0,
) -> None:
    """Cars from the simulated LiDARs of several vehicles.

    Args:
      action: train in the folder, eval what it holds, or demo: a scene of all agents from above.
      folder: of the run.
      method: what the vehicles share (train); none and late also evaluate each other's model.
      preset: size of network and sensors (train).
      steps: updates (train; default: the preset's).
      scenes: to evaluate on, a multiple of the batch.
      noise_m: standard deviation of reported positions (eval).
      noise_deg: of reported headings (eval).
      delay: age of what the others send, in seconds (eval).
      out: picture to write (demo).
      seed: of everything (train).
    """
    if action == "train":
        cfg = dataclasses.replace(PRESETS[preset], method=method, seed=seed)
        stored.on_layouts(training.train, stored.with_steps(cfg, steps), folder)
        return
    cfg, params, state = stored.load(V2XConfig, folder)
    if {cfg.method, method} == {"none", "late"}:
        cfg = dataclasses.replace(cfg, method=method)
    _, held = split(layouts(cfg.sim.room))
    if action == "eval":
        noise = NoiseConfig(noise_m, noise_deg, delay)
        scores = training.evaluate(Trained(params, state), cfg, held, noise, scenes)
        print(f"simulated cars, {cfg.method}, {held.source} layouts held out")
        print("  ".join(f"{k} {100 * v:.1f}" for k, v in scores.items()))
        sent = bytes_per_agent(cfg.method, cfg.model, points=cfg.sim.lidar.rays, boxes=20)
        print(f"an agent sends at most about {sent / 1e3:.1f} kB a frame")
        return
    batch = {name: x[:1] for name, x in scenes_of(held).items()}
    scene = jax.tree.map(lambda x: x[0], model.sense(jax.random.key(seed), cfg, batch))
    points = np.asarray(se3.transform(scene.pose, scene.points))[np.asarray(scene.seen)]
    truth, mask = np.asarray(scene.truth.box), np.asarray(scene.truth.mask)
    own = mask & (np.asarray(scene.hits[0]) >= cfg.sim.least_points)
    figure = pictures.from_above(
        "v2x", "What several vehicles see", points,
        {"seen by the ego": truth[own], "seen by others only": truth[mask & ~own]},
        reach_m=cfg.sim.reach_m,
    )  # fmt: skip
    files.write_text(out, figure.svg)
    print(f"{own.sum()} cars seen by the ego, {mask.sum() - own.sum()} more by others; {out}")

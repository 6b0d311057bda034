"""`jaxml driving detect3d train|eval|demo`."""

from pathlib import Path
from typing import Annotated, Literal

import jax
import numpy as np
import tyro

from jaxml.core import files
from jaxml.driving.detection3d import decode, pictures, stored
from jaxml.driving.detection3d import net as network
from jaxml.driving.detection3d import train as training
from jaxml.driving.detection3d.train import TrainConfig, Trained
from jaxml.driving.sim.layout import layouts, split
from jaxml.driving.sim.scene import observe


def detect3d(
    action: Annotated[Literal["train", "eval", "demo"], tyro.conf.Positional],
    folder: Annotated[Path, tyro.conf.Positional] = Path("runs/detect3d"),
    /,
    preset: Literal["tiny", "laptop", "h100"] = "laptop",
    steps: int = 300,
    batch_size: int = 4,
    scenes: int = 64,
    out: Path = Path("detect3d.svg"),
    seed: int = 0,
) -> None:
    """Cars from simulated LiDAR by pillars and a centre head.

    The layouts are KITTI tracking's where they are found, made-up streets otherwise.

    Args:
      action: train in the folder, eval what it holds, or demo: a scene from above.
      folder: of the run.
      preset: size of network and sensors (train).
      steps: updates (train).
      batch_size: scenes per update (train).
      scenes: to evaluate on, a multiple of the batch.
      out: picture to write (demo).
      seed: of everything (train).
    """
    if action == "train":
        cfg = training.plan(preset, steps, batch_size, seed)
        stored.on_layouts(training.train, cfg, folder)
        return
    cfg, params, state = stored.load(TrainConfig, folder)
    _, held = split(layouts(cfg.sim.room))
    if action == "eval":
        scores = training.evaluate(Trained(params, state), cfg, held, scenes)
        print(f"simulated cars on {held.source} layouts of sequences held out, {scenes} scenes")
        print("  ".join(f"{k} {100 * v:.1f}" for k, v in scores.items()))
        return
    scene = observe(jax.random.key(seed), cfg.sim, held.boxes[0], held.label[0], held.mask[0])
    maps, _ = network.apply(params, cfg.model, scene.points[:1], scene.seen[:1], state)
    found = jax.tree.map(lambda x: np.asarray(x[0]), decode(maps, cfg.model))
    truth, mask = np.asarray(scene.truth.box), np.asarray(scene.truth.mask)
    figure = pictures.from_above(
        "detect3d", "A simulated scene", np.asarray(scene.points[0])[np.asarray(scene.seen[0])],
        {"labels": truth[mask], "found": found.box[found.mask]}, reach_m=cfg.sim.reach_m,
    )  # fmt: skip
    files.write_text(out, figure.svg)
    print(f"{found.mask.sum()} boxes found of {mask.sum()}; picture in {out}")

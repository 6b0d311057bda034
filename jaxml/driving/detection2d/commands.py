"""`jaxml driving detect2d train|eval|demo`."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro

from jaxml.core import files
from jaxml.driving.data.bccd import CLASSES, CellImages
from jaxml.driving.detection2d import pictures
from jaxml.driving.detection2d import train as training
from jaxml.driving.detection2d.config import PRESETS
from jaxml.driving.detection2d.train import TrainConfig, Trained
from jaxml.driving.detection3d import stored
from jaxml.inputs.integrity import DataNotFoundError


def _images(split: str, path: Path | None) -> CellImages:
    try:
        return training.images(split, path)
    except DataNotFoundError as error:
        if path is not None:
            raise
        print(f"made-up images stand in: {error}")
        return training.made_up(32, seed=len(split))


def detect2d(
    action: Annotated[Literal["train", "eval", "demo"], tyro.conf.Positional],
    folder: Annotated[Path, tyro.conf.Positional] = Path("runs/detect2d"),
    /,
    preset: Literal["tiny", "laptop", "h100"] = "laptop",
    steps: int = 300,
    batch_size: int = 4,
    lr: float = 2e-3,
    split: Literal["val", "test"] = "val",
    path: Path | None = None,
    out: Path = Path("detect2d.svg"),
    seed: int = 0,
) -> None:
    """Blood cells in microscope images (BCCD) by CenterNet; made-up discs without the data.

    Args:
      action: train in the folder, eval what it holds, or demo: a picture with its boxes.
      folder: of the run.
      preset: size of the network (train).
      steps: updates (train).
      batch_size: images per update (train).
      lr: highest learning rate (train).
      split: to evaluate on.
      path: of the data (default: found).
      out: picture to write (demo).
      seed: of everything (train).
    """
    if action == "train":
        base = TrainConfig(PRESETS[preset], batch_size, seed=seed)
        cfg = dataclasses.replace(
            base,
            optim=dataclasses.replace(base.optim, lr=lr, warmup_steps=min(20, steps // 10)),
            run=dataclasses.replace(base.run, num_steps=steps, save_every=max(steps // 2, 1)),
        )
        stored.begin(cfg, folder)
        done = training.train(cfg, _images("train", path), folder)
        stored.save(done.params, done.state, folder)
        print(f"{steps} updates; lies in {folder}")
        return
    cfg, params, state = stored.load(TrainConfig, folder)
    trained, data = Trained(params, state), _images(split, path)
    if action == "eval":
        scores = training.evaluate(trained, cfg.model, data)
        print(f"{split}, {len(data.image)} images, classes {', '.join(CLASSES)}")
        print("  ".join(f"{k} {100 * v:.1f}" for k, v in scores.items()))
        return
    box, label, score = training.detect(trained, cfg.model, data.image[:1])
    keep = np.asarray(score[0]) >= 0.3
    figure = pictures.overlay(
        "detect2d", data.image[0], np.asarray(box[0])[keep], np.asarray(label[0])[keep]
    )
    files.write_text(out, figure.svg)
    print(f"{keep.sum()} boxes with a score of 0.3 or more; picture in {out}")

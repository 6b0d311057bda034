"""CenterNet on blood cells, from scratch."""

import dataclasses
from typing import Any

import numpy as np

from jaxml.driving.detection2d import pictures
from jaxml.driving.detection2d import train as training
from jaxml.driving.detection2d.config import PRESETS
from jaxml.driving.detection2d.train import TrainConfig
from jaxml.inputs.integrity import DataNotFoundError
from jaxml.report.claim import Promise, at_least
from jaxml.report.recipe import Context, Figure, Outcome, Table
from jaxml.train.optim import OptimConfig
from jaxml.train.run import RunConfig

WORDS = "CenterNet learns blood cells (BCCD, 205 images) from scratch"
LAPTOP = Promise(
    "driving", "bccd-ap50-laptop", WORDS, "no published number (goal of ours: 60)", "none", "%",
    at_least(60, "AP50 on the test images, minutes on two cores"),
)  # fmt: skip
GPU = Promise(
    "driving", "bccd-ap50-gpu", WORDS, "no published number (goal of ours: 80)", "none", "%",
    at_least(80, "AP50 on the test images, with a GPU"),
)  # fmt: skip


def plan(scale: str, seed: int) -> TrainConfig:
    """The run of a scale."""
    steps, batch, lr = {"tiny": (2, 2, 2e-3), "laptop": (260, 4, 2e-3), "h100": (4000, 16, 1e-3)}[
        scale
    ]
    return TrainConfig(
        PRESETS[scale],
        batch,
        OptimConfig(lr=lr, warmup_steps=min(20, steps // 2), weight_decay=1e-4),
        RunConfig(num_steps=steps, save_every=max(steps // 2, 1), log_every=10),
        seed,
    )


def measure(scale: str, context: Context) -> Outcome:
    """Trains, then scores the test images once."""
    cfg = plan(scale, context.seed)
    promise = GPU if scale == "h100" else LAPTOP
    other = LAPTOP if scale == "h100" else GPU
    elsewhere = other.missing("measured at another scale: see `--scale`", context.scale)
    context.say(f"CenterNet on BCCD, {cfg.run.num_steps} updates")
    folder = context.folder / "detect2d"
    try:
        train, test = training.images("train"), training.images("test")
    except DataNotFoundError as error:
        made = training.made_up(24)
        done = training.train(dataclasses.replace(cfg, batch_size=2), made, folder)
        figures = [_picture(done, cfg, made, "Made-up discs: BCCD was not found.")]
        return Outcome([promise.missing(str(error), context.scale), elsewhere], figures)
    done = training.train(cfg, train, folder)
    few = test if scale != "tiny" else type(test)(*(x[:4] for x in test))
    scores = training.evaluate(done, cfg.model, few)
    if scale == "tiny":
        claim = promise.missing("the tiny scale trains for two updates only", context.scale)
    else:
        why = f"AP {100 * scores['AP']:.1f}, AP75 {100 * scores['AP75']:.1f}; test read once"
        claim = promise.measured(100 * scores["AP50"], context.scale, why=why)
    table = Table(
        "BCCD, test images",
        ("figure", "value, %"),
        tuple((name, f"{100 * value:.1f}") for name, value in scores.items()),
    )
    figures = [_picture(done, cfg, test, "A test image of BCCD; boxes with a score >= 0.3.")]
    row = ("BCCD", "JAXML_DATA", "", "MIT")
    return Outcome([claim, elsewhere], figures, [table], data=[row])


def _picture(done: Any, cfg: TrainConfig, data: Any, caption: str) -> Figure:
    box, label, score = training.detect(done, cfg.model, data.image[:1])
    keep = np.asarray(score[0]) >= 0.3
    found = np.asarray(box[0])[keep], np.asarray(label[0])[keep]
    return pictures.overlay("driving-cells", data.image[0], *found, caption)

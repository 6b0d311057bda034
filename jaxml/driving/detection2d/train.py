"""Training and evaluating CenterNet: the shared parts put together."""

import dataclasses
import functools
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxml.core import rng
from jaxml.core.types import PyTree
from jaxml.driving.data.bccd import CLASSES, CellImages, bccd
from jaxml.driving.detection2d import net, objective
from jaxml.driving.detection2d.config import PRESETS, CenterNetConfig
from jaxml.driving.detection2d.decode import decode
from jaxml.driving.detection3d.rows import Rows
from jaxml.driving.metrics.coco import Boxes2D, coco_ap
from jaxml.train import optim, run
from jaxml.train.optim import OptimConfig
from jaxml.train.run import RunConfig


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """A training run on BCCD, or on made-up cells.

    Attributes:
      model: the network.
      batch_size: images per update.
      optim: the optimiser; its schedule is as long as the run.
      run: length, logs and checkpoints.
      seed: of everything.
    """

    model: CenterNetConfig = PRESETS["laptop"]
    batch_size: int = 8
    optim: OptimConfig = OptimConfig(lr=2e-3, warmup_steps=20, weight_decay=1e-4)
    run: RunConfig = RunConfig(num_steps=300, save_every=150)
    seed: int = 0


def images(split: str, path: Path | None = None) -> CellImages:
    """BCCD's images.

    Raises:
      DataNotFoundError: there is no copy; says how to get it.
    """
    return bccd(split, path)


def made_up(num: int, seed: int = 0, height: int = 64, width: int = 96) -> CellImages:
    """Discs of three colours on grey: stands in where BCCD is not at hand."""
    draw = np.random.default_rng(seed)
    image = np.full((num, height, width, 3), 200, np.uint8)
    box, label = np.zeros((num, 8, 4), np.float32), np.zeros((num, 8), np.int32)
    mask = np.zeros((num, 8), bool)
    colours = np.array([[190, 90, 100], [90, 60, 150], [120, 90, 170]])
    y, x = np.mgrid[:height, :width]
    for i in range(num):
        for j in range(draw.integers(2, 6)):
            label[i, j] = draw.integers(3)
            r = (9.0, 13.0, 5.0)[label[i, j]] * draw.uniform(0.85, 1.15)
            cx, cy = draw.uniform(r, width - r), draw.uniform(r, height - r)
            image[i][(x - cx) ** 2 + (y - cy) ** 2 < r**2] = colours[label[i, j]]
            box[i, j], mask[i, j] = [cx - r, cy - r, cx + r, cy + r], True
    return CellImages(image, box, label, mask)


class Trained(NamedTuple):
    """Parameters and statistics."""

    params: PyTree
    state: PyTree


def train(cfg: TrainConfig, data: CellImages, folder: Path) -> Trained:
    """Trains, or goes on training, in a folder."""
    arrays = {"image": data.image, "box": data.box, "label": data.label, "mask": data.mask}
    key = jax.random.key(cfg.seed)
    plan = dataclasses.replace(cfg.optim, total_steps=max(cfg.run.num_steps, 1))
    last = run.train(
        objective.loss_fn(cfg.model),
        net.init(rng.fold(key, "init"), cfg.model),
        optim.make(plan),
        Rows(arrays, cfg.batch_size, cfg.seed),
        cfg.run,
        key=key,
        folder=folder,
        extra=net.init_state(cfg.model),
    )
    return Trained(last.params, last.extra)


@functools.partial(jax.jit, static_argnames="cfg")
def detect(trained: Trained, cfg: CenterNetConfig, image: Any) -> Any:
    """Boxes, classes and scores of images uint8 [b, y, x, 3]."""
    scaled = image.astype(jnp.float32) / 255.0
    maps, _ = net.apply(trained.params, cfg, scaled, trained.state)
    return decode(maps, cfg.most)


def evaluate(
    trained: Trained, cfg: CenterNetConfig, data: CellImages, batch_size: int = 8
) -> dict[str, float]:
    """COCO's figures over a split; detections of all scores count."""
    num = len(data.image)
    padded = np.concatenate([data.image, np.repeat(data.image[:1], -num % batch_size, 0)])
    parts = [
        jax.device_get(detect(trained, cfg, padded[i : i + batch_size]))
        for i in range(0, len(padded), batch_size)
    ]
    box, label, score = (np.concatenate(x)[:num] for x in zip(*parts, strict=True))
    image = np.repeat(np.arange(num), box.shape[1])
    found = Boxes2D.of(image, label.ravel(), box.reshape(-1, 4), score.ravel())
    where, which = np.nonzero(data.mask)
    truth = Boxes2D.of(where, data.label[where, which], data.box[where, which])
    return coco_ap(truth, found)


__all__ = ["CLASSES", "TrainConfig", "Trained", "detect", "evaluate", "images", "made_up", "train"]

"""Training and evaluating camera, LiDAR and both on the simulator."""

import functools
from pathlib import Path
from typing import Any

import jax

from jaxml.core import rng
from jaxml.driving.detection3d.decode import decode
from jaxml.driving.detection3d.train import Trained, fit, judged, score_scenes
from jaxml.driving.fusion import model
from jaxml.driving.fusion.config import FusionConfig
from jaxml.driving.sim.layout import Layouts


def train(cfg: FusionConfig, layouts: Layouts, folder: Path) -> Trained:
    """Trains, or goes on training, in a folder."""
    key = rng.fold(jax.random.key(cfg.seed), "init")
    return fit(
        model.loss_fn(cfg), model.init(key, cfg), model.init_state(cfg), cfg, layouts, folder
    )


@functools.partial(jax.jit, static_argnames="cfg")
def _judge(trained: Trained, cfg: FusionConfig, key: Any, batch: Any) -> Any:
    scene, seen = model.sense(key, cfg, batch)
    maps, _, _ = model.apply(trained.params, cfg, scene, seen.colour, trained.state)
    return judged(decode(maps, cfg.model), scene.truth)


def evaluate(
    trained: Trained, cfg: FusionConfig, layouts: Layouts, num: int = 64
) -> dict[str, float]:
    """Simulated average precision of cars in the camera's view; the same scenes for all."""
    return score_scenes(
        lambda key, batch: _judge(trained, cfg, key, batch),
        layouts,
        batch_size=cfg.batch_size,
        num=num,
        seed=0,
    )

"""Training and evaluating cooperative detectors on the simulator."""

import functools
from pathlib import Path
from typing import Any

import jax

from jaxml.core import rng
from jaxml.driving.detection3d.train import Trained, fit, judged, score_scenes
from jaxml.driving.sim.layout import Layouts
from jaxml.driving.v2x import model
from jaxml.driving.v2x.config import NoiseConfig, V2XConfig


def train(cfg: V2XConfig, layouts: Layouts, folder: Path) -> Trained:
    """Trains, or goes on training, in a folder."""
    key = rng.fold(jax.random.key(cfg.seed), "init")
    return fit(
        model.loss_fn(cfg), model.init(key, cfg), model.init_state(cfg), cfg, layouts, folder
    )


@functools.partial(jax.jit, static_argnames=("cfg", "noise"))
def _judge(trained: Trained, cfg: V2XConfig, noise: NoiseConfig, key: Any, batch: Any) -> Any:
    scene = model.sense(key, cfg, batch, noise.delay_s)
    found = model.detect(trained.params, trained.state, cfg, scene, key, noise)
    return judged(found, scene.truth)


def evaluate(
    trained: Trained,
    cfg: V2XConfig,
    layouts: Layouts,
    noise: NoiseConfig | None = None,
    num: int = 64,
) -> dict[str, float]:
    """Simulated average precision of all cars that any agent sees.

    All methods meet the same scenes: the key of a scene does not depend on the method.
    """
    noise = NoiseConfig() if noise is None else noise
    return score_scenes(
        lambda key, batch: _judge(trained, cfg, noise, key, batch),
        layouts,
        batch_size=cfg.batch_size,
        num=num,
        seed=0,
    )

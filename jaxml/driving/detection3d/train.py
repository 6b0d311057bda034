"""Training and evaluating the detector on the simulator: the shared parts put together."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxml.core import rng
from jaxml.core.types import PyTree
from jaxml.driving.detection3d import net, objective
from jaxml.driving.detection3d.config import PRESETS, PillarConfig
from jaxml.driving.detection3d.decode import decode
from jaxml.driving.detection3d.rows import Rows
from jaxml.driving.geometry.rotated_iou import rotated_iou_bev
from jaxml.driving.metrics.scene import average_precision
from jaxml.driving.sim import config as sims
from jaxml.driving.sim.config import SimConfig
from jaxml.driving.sim.layout import Layouts
from jaxml.driving.sim.scene import observe, scenes_of
from jaxml.train import optim, run
from jaxml.train.optim import OptimConfig
from jaxml.train.run import RunConfig


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """A training run on the simulator.

    Attributes:
      model: the network.
      sim: the sensors.
      batch_size: scenes per update.
      optim: the optimiser; its schedule is as long as the run.
      run: length, logs and checkpoints.
      seed: of everything.
    """

    model: PillarConfig = PRESETS["laptop"]
    sim: SimConfig = sims.PRESETS["laptop"]
    batch_size: int = 4
    optim: OptimConfig = OptimConfig(lr=3e-3, warmup_steps=30, weight_decay=0.01, clip_norm=10.0)
    run: RunConfig = RunConfig(num_steps=300, save_every=150)
    seed: int = 0


def plan(preset: str, steps: int, batch_size: int, seed: int) -> TrainConfig:
    """The run of a preset with so many updates."""
    base = TrainConfig(PRESETS[preset], sims.PRESETS[preset], batch_size, seed=seed)
    return dataclasses.replace(
        base,
        optim=dataclasses.replace(base.optim, warmup_steps=min(30, steps // 10)),
        run=dataclasses.replace(base.run, num_steps=steps, save_every=max(steps // 2, 1)),
    )


class Trained(NamedTuple):
    """Parameters and statistics."""

    params: PyTree
    state: PyTree


def fit(
    loss: Callable[..., Any],
    params: PyTree,
    state: PyTree,
    cfg: Any,
    layouts: Layouts,
    folder: Path,
) -> Trained:
    """Trains any model on layouts by a loss that senses them; `cfg` has the fields of a run."""
    plan = dataclasses.replace(cfg.optim, total_steps=max(cfg.run.num_steps, 1))
    last = run.train(
        loss,
        params,
        optim.make(plan),
        Rows(scenes_of(layouts), cfg.batch_size, cfg.seed),
        cfg.run,
        key=jax.random.key(cfg.seed),
        folder=folder,
        extra=state,
    )
    return Trained(last.params, last.extra)


def train(cfg: TrainConfig, layouts: Layouts, folder: Path) -> Trained:
    """Trains, or goes on training, in a folder."""
    key = rng.fold(jax.random.key(cfg.seed), "init")
    loss = objective.loss_fn(cfg.model, cfg.sim)
    params, state = net.init(key, cfg.model), net.init_state(cfg.model)
    return fit(loss, params, state, cfg, layouts, folder)


@functools.partial(jax.jit, static_argnames=("cfg", "sim"))
def _detect(trained: Trained, cfg: PillarConfig, sim: SimConfig, key: Any, batch: Any) -> Any:
    keys = jax.random.split(key, batch["mask"].shape[0])
    scene = jax.vmap(lambda k, *x: observe(k, sim, *x))(
        keys, batch["boxes"], batch["label"], batch["mask"]
    )
    maps, _ = net.apply(trained.params, cfg, scene.points[:, 0], scene.seen[:, 0], trained.state)
    found = decode(maps, cfg)
    return judged(found, scene.truth)


def judged(found: Any, truth: Any) -> dict[str, Any]:
    """What average precision needs of a batch: overlaps, scores, and what is there, of cars."""
    overlap = rotated_iou_bev(found.box[:, :, None], truth.box[:, None])
    return {
        "overlap": overlap,
        "score": found.score,
        "found": found.mask & (found.label == 0),
        "truth": truth.mask & (truth.label == 0),
    }


def score_scenes(
    detect: Callable[[Any, Any], Any], layouts: Layouts, *, batch_size: int, num: int, seed: int
) -> dict[str, float]:
    """Average precision of cars from above at 0.5 and 0.7 over scenes, all scores in one order.

    Args:
      detect: `(key, batch) -> judged(...)`.
      layouts: to sense; every one of `num` spread over them.
      batch_size: scenes at a time.
      num: scenes in all, a multiple of `batch_size` (fewer layouts are sensed more than once).
      seed: of the sensors.
    """
    rows = np.linspace(0, len(layouts.mask) - 1, num).astype(int)
    arrays, parts = scenes_of(layouts), []
    for i in range(0, num, batch_size):
        batch = {name: x[rows[i : i + batch_size]] for name, x in arrays.items()}
        key = rng.fold(jax.random.key(seed), "evaluate", i)
        parts.append(jax.device_get(detect(key, batch)))
    every = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return {
        f"AP@{iou}": average_precision(
            every["overlap"], every["score"], every["found"], every["truth"], iou=iou
        )
        for iou in (0.5, 0.7)
    }


def evaluate(
    trained: Trained, cfg: TrainConfig, layouts: Layouts, num: int = 64
) -> dict[str, float]:
    """Simulated average precision of cars; never KITTI's or nuScenes'."""
    return score_scenes(
        lambda key, batch: _detect(trained, cfg.model, cfg.sim, key, batch),
        layouts,
        batch_size=cfg.batch_size,
        num=num,
        seed=cfg.seed,
    )

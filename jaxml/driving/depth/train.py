"""Training and evaluating depth: the shared parts put together."""

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxml.core import rng
from jaxml.core.types import Key, PyTree
from jaxml.driving.depth import frames, net, objective
from jaxml.driving.depth.config import PRESETS, DepthConfig
from jaxml.driving.detection3d.rows import Rows
from jaxml.driving.detection3d.train import Trained
from jaxml.driving.metrics.depth import NAMES, depth_metrics
from jaxml.driving.sim.config import SimConfig
from jaxml.driving.sim.layout import Layouts
from jaxml.driving.sim.scene import scenes_of
from jaxml.train import optim, run
from jaxml.train.optim import OptimConfig
from jaxml.train.run import RunConfig
from jaxml.train.step import Loss

type Supervision = Literal["self", "lidar", "drive"]


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """A training run.

    Attributes:
      supervision: "self", neighbouring frames of simulated drives; "lidar", their thinned exact
        depth; "drive", LiDAR points of the real drive's first 60 frames.
      model: the networks.
      sim: the simulated camera.
      batch_size: frames per update.
      optim: the optimiser; its schedule is as long as the run.
      run: length, logs and checkpoints.
      seed: of everything.
    """

    supervision: Supervision = "self"
    model: DepthConfig = PRESETS["laptop"]
    sim: SimConfig = SimConfig(camera=frames.CAMERA["laptop"])
    batch_size: int = 4
    optim: OptimConfig = OptimConfig(lr=3e-4, warmup_steps=20)
    run: RunConfig = RunConfig(num_steps=300, save_every=150)
    seed: int = 0


def plan(preset: str, supervision: Supervision, steps: int, batch: int, seed: int) -> TrainConfig:
    """The run of a preset with so many updates."""
    return TrainConfig(
        supervision,
        PRESETS[preset],
        SimConfig(camera=frames.CAMERA[preset], room=16 if preset == "tiny" else 32),
        batch,
        OptimConfig(lr=3e-4, warmup_steps=min(50, steps // 10)),
        RunConfig(num_steps=steps, save_every=max(steps // 2, 1), log_every=10),
        seed,
    )


def loss_fn(cfg: TrainConfig) -> objective.LossFn:
    """The loss of batches of layouts, or of the real drive's frames."""
    if cfg.supervision == "drive":
        return objective.lidar_loss_fn(cfg.model)
    own = cfg.supervision == "self"
    inner = (objective.self_supervised_loss_fn if own else objective.lidar_loss_fn)(cfg.model)

    def loss(params: PyTree, batch: PyTree, key: Key, extra: PyTree) -> Loss:
        made = frames.sense(key, cfg.sim, batch)
        made["depth"] = frames.thinned(made["depth"])
        return inner(params, made, key, extra)

    return loss


def train(cfg: TrainConfig, rows: Mapping[str, np.ndarray], folder: Path) -> Trained:
    """Trains, or goes on training, in a folder; rows are `scenes_of` or `real_frames`."""
    key = rng.fold(jax.random.key(cfg.seed), "init")
    last = run.train(
        loss_fn(cfg),
        net.init(key, cfg.model),
        optim.make(dataclasses.replace(cfg.optim, total_steps=max(cfg.run.num_steps, 1))),
        Rows(rows, cfg.batch_size, cfg.seed),
        cfg.run,
        key=jax.random.key(cfg.seed),
        folder=folder,
        extra=net.init_state(cfg.model),
    )
    return Trained(last.params, last.extra)


@functools.partial(jax.jit, static_argnames="cfg")
def predict(trained: Trained, cfg: DepthConfig, image: Any) -> Any:
    """Depth in metres [b, y, x] of images [b, y, x, 3]."""
    found, _ = net.apply(trained.params, cfg, image, trained.state)
    return net.disparity_to_depth(found[0], cfg)


def evaluate(
    trained: Trained, cfg: TrainConfig, layouts: Layouts, num: int = 32, *, median_scaling: bool
) -> dict[str, float]:
    """Errors on simulated frames of layouts held out, sky left out; the mean over frames."""
    rows = np.linspace(0, len(layouts.mask) - 1, num).astype(int)
    arrays, scores = scenes_of(layouts), []
    sense = jax.jit(lambda key, batch: frames.sense(key, cfg.sim, batch))
    for i in range(0, num, cfg.batch_size):
        batch = {name: x[rows[i : i + cfg.batch_size]] for name, x in arrays.items()}
        made = sense(rng.fold(jax.random.key(0), "evaluate", i), batch)
        found = np.asarray(predict(trained, cfg.model, made["image"]))
        scores += [
            depth_metrics(t, p, median_scaling=median_scaling, cap_m=79.9)
            for t, p in zip(np.asarray(made["depth"]), found, strict=True)
        ]
    return {name: float(np.mean([s[name] for s in scores])) for name in NAMES}


def evaluate_frames(
    trained: Trained, cfg: DepthConfig, rows: Mapping[str, np.ndarray]
) -> dict[str, float]:
    """Metric errors on real frames at their LiDAR points; the mean over frames."""
    scores = []
    for image, truth in zip(rows["image"], rows["depth"], strict=True):
        found = np.asarray(predict(trained, cfg, jnp.asarray(image)[None]))[0]
        scores.append(depth_metrics(truth, found, median_scaling=False))
    return {name: float(np.mean([s[name] for s in scores])) for name in NAMES}

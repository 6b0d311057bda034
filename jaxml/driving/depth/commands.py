"""`jaxml driving depth train|eval|demo`."""

from pathlib import Path
from typing import Annotated, Literal

import jax
import numpy as np
import tyro

from jaxml.core import files
from jaxml.driving.depth import frames
from jaxml.driving.depth import train as training
from jaxml.driving.depth.train import TrainConfig
from jaxml.driving.detection3d import stored
from jaxml.driving.detection3d.train import Trained
from jaxml.driving.fusion import pictures
from jaxml.driving.sim.layout import layouts, split
from jaxml.driving.sim.scene import scenes_of

TRAINED_FRAMES = 60
"""Of the real drive; the others are for evaluation."""


def depth(
    action: Annotated[Literal["train", "eval", "demo"], tyro.conf.Positional],
    folder: Annotated[Path, tyro.conf.Positional] = Path("runs/depth"),
    /,
    supervision: Literal["self", "lidar", "drive"] = "self",
    preset: Literal["tiny", "laptop", "h100"] = "laptop",
    steps: int = 300,
    batch_size: int = 4,
    num: int = 16,
    path: Path | None = None,
    out: Path = Path("depth.svg"),
    seed: int = 0,
) -> None:
    """Depth from one camera.

    Depth learnt from frames alone has no scale: it is scored with median scaling, which is said.

    Args:
      action: train in the folder, eval what it holds, or demo: an image above its depth.
      folder: of the run.
      supervision: self (neighbouring simulated frames), lidar (thinned simulated depth), or drive
        (LiDAR points of a real drive) (train).
      preset: size of the networks (train).
      steps: updates (train).
      batch_size: frames per update (train).
      num: simulated frames to evaluate on, a multiple of the batch.
      path: of the real drive (default: found).
      out: picture to write (demo).
      seed: of everything (train).
    """
    if action == "train":
        cfg = training.plan(preset, supervision, steps, batch_size, seed)
        stored.begin(cfg, folder)
        done = training.train(cfg, _rows(cfg, path), folder)
        stored.save(done.params, done.state, folder)
        print(f"{steps} updates, supervision {supervision}; lies in {folder}")
        return
    cfg, params, state = stored.load(TrainConfig, folder)
    trained = Trained(params, state)
    if action == "eval":
        scores = _scores(trained, cfg, num, path)
        print("  ".join(f"{name} {value:.3f}" for name, value in scores.items()))
        return
    image = _example(cfg, path)
    found = np.asarray(training.predict(trained, cfg.model, image[None]))[0]
    files.write_text(out, pictures.colour_and_depth(np.asarray(image), found).svg)
    print(f"depth from {found.min():.1f} to {found.max():.1f} m; picture in {out}")


def _rows(cfg: TrainConfig, path: Path | None) -> dict[str, np.ndarray]:
    if cfg.supervision == "drive":
        return {n: x[:TRAINED_FRAMES] for n, x in frames.real_frames(path).items()}
    return scenes_of(split(layouts(cfg.sim.room))[0])


def _scores(trained: Trained, cfg: TrainConfig, num: int, path: Path | None) -> dict[str, float]:
    if cfg.supervision == "drive":
        print("real frames 61 to 78 at their LiDAR points, metric; one drive, so no benchmark")
        rows = {n: x[TRAINED_FRAMES:] for n, x in frames.real_frames(path).items()}
        return training.evaluate_frames(trained, cfg.model, rows)
    own = cfg.supervision == "self"
    print(f"simulated frames held out, {'median scaling' if own else 'metric'}")
    held = split(layouts(cfg.sim.room))[1]
    return training.evaluate(trained, cfg, held, num, median_scaling=own)


def _example(cfg: TrainConfig, path: Path | None) -> jax.Array:
    if cfg.supervision == "drive":
        return jax.numpy.asarray(frames.real_frames(path)["image"][-1])
    batch = {n: x[:1] for n, x in scenes_of(split(layouts(cfg.sim.room))[1]).items()}
    return frames.sense(jax.random.key(cfg.seed), cfg.sim, batch)["image"][0]

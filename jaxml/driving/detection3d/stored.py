"""A trained detector in a folder: its settings and one safetensors file."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from jaxml.core import config, tree, weights
from jaxml.core.types import PyTree
from jaxml.driving.sim.layout import Layouts, layouts, split

WEIGHTS = "weights.safetensors"


def begin(cfg: Any, folder: Path) -> None:
    """Marks the folder as that of one run.

    Raises:
      ValueError: it holds another run.
    """
    path = folder / "config.json"
    if path.exists():
        config.check_same(cfg, config.load(type(cfg), path), folder)
    config.save(cfg, path)


def save(params: PyTree, state: PyTree, folder: Path) -> None:
    """Writes parameters and statistics, whole or not at all."""
    weights.write(folder / WEIGHTS, tree.flatten({"params": params, "state": state}))


def load[T](cls: type[T], folder: Path) -> tuple[T, PyTree, PyTree]:
    """Settings, parameters and statistics.

    Raises:
      FileNotFoundError: the folder holds no finished run.
    """
    if not (folder / WEIGHTS).exists():
        raise FileNotFoundError(f"{folder} holds no trained detector; run `train` first.")
    found = tree.unflatten(
        {name: jnp.asarray(x) for name, x in weights.read(folder / WEIGHTS).items()}
    )
    cfg = config.load(cls, folder / "config.json")
    return cfg, found["params"], jax.tree.map(jnp.asarray, found["state"])


def with_steps[T](cfg: T, steps: int | None) -> T:
    """The settings with so many updates, a tenth of them warming up; None leaves them."""
    if steps is None:
        return cfg
    given: Any = cfg
    run = dataclasses.replace(given.run, num_steps=steps)
    optim = dataclasses.replace(given.optim, warmup_steps=steps // 10)
    return dataclasses.replace(given, run=run, optim=optim)


def on_layouts(train: Callable[[Any, Layouts, Path], Any], cfg: Any, folder: Path) -> None:
    """Trains on the layouts for training, and keeps the result in the folder.

    Raises:
      ValueError: the folder holds another run.
    """
    begin(cfg, folder)
    every, _ = split(layouts(cfg.sim.room))
    done = train(cfg, every, folder)
    save(done.params, done.state, folder)
    print(f"{cfg.run.num_steps} updates on {every.source} layouts; lies in {folder}")

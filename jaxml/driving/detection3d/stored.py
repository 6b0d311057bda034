"""A trained detector in a folder: its settings and one safetensors file."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from jaxml.core import config, tree, weights
from jaxml.core.types import PyTree

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

"""A model in a folder: sizes, weights, vocabulary, and its extractor if it has one."""

from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxml.core import config, param, tree, weights
from jaxml.core.types import PyTree
from jaxml.univilm import frames, model, words
from jaxml.univilm.config import Setting


class Saved(NamedTuple):
    """What a folder holds; `extractor` is None where features come from elsewhere."""

    setting: Setting
    params: PyTree
    vocab: words.Words | words.WordPiece
    extractor: PyTree


def save(folder: Path | str, made: Saved) -> None:
    """Writes `model.json`, `weights.safetensors`, the vocabulary and `frames.safetensors`."""
    folder = Path(folder)
    weights.write(folder / "weights.safetensors", tree.flatten(made.params))
    name = "words.json" if isinstance(made.vocab, words.Words) else "vocab.txt"
    made.vocab.save(folder / name)
    if made.extractor is not None:
        frames.save(folder / "frames.safetensors", made.extractor)
    config.save(made.setting, folder / "model.json")


def load(folder: Path | str) -> Saved:
    """Reads what `save` wrote.

    Raises:
      FileNotFoundError: no model there.
      WeightsError: weights that do not fit it.
    """
    folder = Path(folder)
    if not (folder / "model.json").is_file():
        raise FileNotFoundError(f"{folder} holds no model (no model.json there).")
    setting = config.load(Setting, folder / "model.json")
    found = tree.unflatten(weights.read(folder / "weights.safetensors"))
    try:
        tree.check_match(found, param.abstract(model.params(setting.model)), str(folder))
    except ValueError as error:
        raise weights.WeightsError(str(error)) from None
    kept = folder / "frames.safetensors"
    extractor = frames.load(kept) if kept.exists() else None
    return Saved(setting, jax.tree.map(jnp.asarray, found), words.load(folder), extractor)

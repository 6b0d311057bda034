"""What is trained on, as arrays, and batches of it with a position that can be saved."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxml.core.types import PyTree
from jaxml.emu import objective
from jaxml.emu.config import EmuConfig
from jaxml.emu.encoder import Encoder
from jaxml.emu.objective import unit
from jaxml.inputs.order import Order, generator


class Pool(NamedTuple):
    """What is trained on; inputs are features (trainable="head") or token ids.

    Attributes:
      inputs: of labelled source sentences [n, ...].
      label: theirs.
      others: inputs of unlabelled sentences by language, the source first.
      original: their embeddings by the encoder as it was.
      num_classes: K.
      means: of the classes' embeddings by the encoder as it was [K, d].
      guess: intents guessed for sentences of `others`, -1 where none is; a language without: none.
    """

    inputs: np.ndarray
    label: np.ndarray
    others: dict[str, np.ndarray]
    original: dict[str, np.ndarray]
    num_classes: int
    means: np.ndarray
    guess: Mapping[str, np.ndarray] = {}


def prepare(
    encoder: Encoder,
    cfg: EmuConfig,
    ids: np.ndarray,
    label: np.ndarray,
    unlabelled: Mapping[str, np.ndarray],
    num_classes: int,
) -> Pool:
    """Features (or ids) and original embeddings of everything that is trained on.

    Args:
      encoder: as it is before.
      cfg: what will be trained.
      ids: token ids of labelled sentences [n, t].
      label: theirs [n].
      unlabelled: token ids by language, the source language first.
      num_classes: K.

    Raises:
      ValueError: a class without an example, or a label outside [0, K).
    """
    cached = cfg.trainable == "head"

    def inputs(part: np.ndarray) -> np.ndarray:
        return encoder.features(part) if cached else part

    def embed(x: np.ndarray) -> np.ndarray:
        return head_only(encoder, x) if cached else encoder.embed(x)

    own = inputs(ids)
    others = {lang: inputs(part) for lang, part in unlabelled.items()}
    means = objective.class_means(embed(own), label, num_classes)
    original = {lang: embed(x) for lang, x in others.items()}
    return Pool(own, np.asarray(label, np.int32), others, original, num_classes, means)


def head_only(encoder: Encoder, features: np.ndarray, params: PyTree = None) -> np.ndarray:
    """Normalised embeddings from cached features."""
    p = encoder.params if params is None else params
    return np.asarray(_head(encoder.head, p["head"], jnp.asarray(features)))


_head = jax.jit(lambda head, p, x: unit(head(p, x)), static_argnums=0)


class Batches:
    """An endless iterator over batches of a pool; its position is the number of the next one."""

    def __init__(self, pool: Pool, cfg: EmuConfig):
        self.pool, self.cfg, self.position = pool, cfg, 0
        self._order = Order(len(pool.label), cfg.seed)

    def __iter__(self) -> "Batches":
        return self

    def __next__(self) -> dict[str, np.ndarray]:
        """The next batch: `x`, `label`; `unlabelled`, `lang`, `original`, `guess` where used."""
        cfg, pool = self.cfg, self.pool
        places = np.arange(cfg.batch_size) + self.position * cfg.batch_size
        rows = self._order.at(places)[1]
        batch = {"x": pool.inputs[rows], "label": pool.label[rows]}
        if cfg.unlabelled:
            draw = generator(cfg.seed, "unlabelled", self.position)
            num = cfg.per_language
            parts = [
                (k, lang, draw.integers(0, len(pool.others[lang]), num))
                for _ in range(cfg.n_disc)
                for k, lang in enumerate(pool.others)
            ]
            batch["unlabelled"] = np.concatenate([pool.others[g][r] for _, g, r in parts])
            batch["original"] = np.concatenate([pool.original[g][r] for _, g, r in parts])
            batch["lang"] = np.repeat(np.array([k for k, _, _ in parts], np.int32), num)
            none = np.full(num, -1, np.int32)
            guess = [pool.guess[g][r] if g in pool.guess else none for _, g, r in parts]
            batch["guess"] = np.concatenate(guess)
        self.position += 1
        return batch

    def get_state(self) -> dict[str, Any]:
        """The position as plain data."""
        return {"position": self.position}

    def set_state(self, saved: Mapping[str, Any]) -> None:
        """Goes on from a saved position."""
        self.position = int(saved["position"])

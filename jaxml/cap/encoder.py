"""The encoder with a classifier on top, and where a pre-trained one is found."""

import dataclasses
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from jaxml.cap.importance import Masks
from jaxml.core import check, rng
from jaxml.core.types import Array, Key, PyTree
from jaxml.inputs import pretrained
from jaxml.models import bert, bert_weights
from jaxml.models.bert import BertConfig
from jaxml.nn import dropout, linear
from jaxml.nn.initializer import normal

Align = Literal["mean", "cls"]
PAD = 0


class Encoder(NamedTuple):
    """A pre-trained encoder: configuration, parameters, the folder it came from (None: random)."""

    cfg: BertConfig
    params: PyTree
    folder: Path | None = None


def load(path: Path | str | None = None) -> Encoder:
    """The pre-trained encoder.

    Raises:
      DataNotFoundError: see `pretrained.minilm`.
      ValueError, WeightsError: the folder holds another network.
    """
    folder = pretrained.minilm(path)
    cfg, params = bert_weights.load(folder)
    return Encoder(cfg, params, folder)


def random(key: Key, cfg: BertConfig) -> Encoder:
    """An encoder that has learnt nothing."""
    return Encoder(cfg, bert.init(key, cfg))


def classifier(key: Key, encoder: Encoder, num_classes: int) -> PyTree:
    """Parameters of a run: `encoder`, and a fresh `head` [d, c] drawn from N(0, 0.02^2)."""
    check.positive(num_classes=num_classes)
    kernel = normal(0.02)(rng.fold(key, "head"), (encoder.cfg.width, num_classes), jnp.float32)
    return {"encoder": encoder.params, "head": {"kernel": kernel, "bias": jnp.zeros(num_classes)}}


def represent(
    params: PyTree,
    cfg: BertConfig,
    ids_bt: Array,
    types_bt: Array | None = None,
    *,
    align: Align = "mean",
    masks: Masks | None = None,
    key: Key | None = None,
    rate: float = 0.0,
    dtype: Any = None,
) -> Array:
    """What stands for a sentence, float32 [b, d].

    Args:
      params: of the encoder.
      cfg: its configuration.
      ids_bt: tokens, 0 = padding.
      types_bt: segments.
      align: the "mean" of the tokens that are no padding, or the pooler's answer ("cls").
      masks: of heads and neurons.
      key: of dropout; None evaluates.
      rate: of dropout on the representation.
      dtype: of the computation.

    Raises:
      ValueError: align="cls" without a pooler.
    """
    if align == "cls" and not cfg.pooler:
        raise ValueError("align='cls' needs an encoder with a pooler; got cfg.pooler=False.")
    encode_key, own_key = dropout.split(key, 2)
    ids, present = ids_bt.astype(jnp.int32), ids_bt != PAD
    heads, ffn = (None, None) if masks is None else masks
    types = None if types_bt is None else types_bt.astype(jnp.int32)
    out = bert.apply(
        params, cfg, ids, mask=present, types=types, head_mask=heads, ffn_mask=ffn,
        key=encode_key, dtype=dtype,
    )  # fmt: skip
    reps = mean_of(out.hidden, present) if align == "mean" else _pooled(out)
    return dropout.apply(own_key, reps, rate)


def _pooled(out: bert.BertOutput) -> Array:
    return jnp.asarray(out.pooled, jnp.float32)


def mean_of(hidden_btd: Array, present_bt: Array) -> Array:
    """Mean over the tokens that are present, float32 [b, d]."""
    weight = present_bt.astype(jnp.float32)[..., None]
    total = jnp.sum(hidden_btd.astype(jnp.float32) * weight, 1)
    return total / jnp.maximum(jnp.sum(weight, 1), 1)


def classify(params: PyTree, reps_bd: Array) -> Array:
    """Logits [b, c] of representations, by the head of a run's parameters."""
    return linear.apply(params["head"], reps_bd)


def without_dropout(cfg: BertConfig, rate: float = 0.0) -> BertConfig:
    """The same encoder with another rate of dropout."""
    return dataclasses.replace(cfg, dropout=rate)


@jax.jit
def num_wrong(logits_bc: Array, label_b: Array) -> Array:
    """How many answers differ from the labels; labels below 0 do not count."""
    return jnp.sum((jnp.argmax(logits_bc, -1) != label_b) & (label_b >= 0))

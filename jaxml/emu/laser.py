"""Encoders without released weights inside pip: LASER's shape; and BERTs from a folder.

LASER (Artetxe and Schwenk 2019): one word table for all languages, a bidirectional LSTM, the
maximum over time. Its weights are not in any package, so these begin at random.
"""

import dataclasses
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxml.core import check, param
from jaxml.core.types import Array, Key, PyTree
from jaxml.emu.e5 import of_bert
from jaxml.emu.encoder import PAD, Encoder, Tokenize, identity_head, pad
from jaxml.inputs import pretrained
from jaxml.models import bert_weights
from jaxml.nn import embed, linear, recurrent


@dataclasses.dataclass(frozen=True)
class LaserConfig:
    """Sizes of a LASER-shaped encoder; the defaults are the paper's, except the hashed words.

    Attributes:
      vocab_size: v.
      embed_width: of a word.
      width: of one direction of the LSTM; an embedding has twice as many.
      num_layers: of the LSTM.
    """

    vocab_size: int = 50_000
    embed_width: int = 320
    width: int = 512
    num_layers: int = 5

    def __post_init__(self):
        check.types(self)
        check.positive(**dataclasses.asdict(self))


def params(cfg: LaserConfig) -> PyTree:
    """Declares `embed` and `layers`."""
    widths = [cfg.embed_width, *[2 * cfg.width] * (cfg.num_layers - 1)]
    layers = {str(i): recurrent.bidirectional_params(w, cfg.width) for i, w in enumerate(widths)}
    return {"embed": embed.params(cfg.vocab_size, cfg.embed_width), "layers": layers}


def body(p: PyTree, ids_bt: Array) -> Array:
    """Maximum over time of the LSTM's outputs, [b, 2w]."""
    present = ids_bt != PAD
    x, lengths = embed.apply(p["embed"], jnp.maximum(ids_bt, 0)), present.sum(1)
    for i in range(len(p["layers"])):
        x, _ = recurrent.bidirectional(p["layers"][str(i)], x, lengths)
    low = jnp.where(present[..., None], x, -jnp.inf)
    return jnp.max(low, 1, where=present[..., None], initial=-1.0)


def laser_lstm(key: Key, cfg: LaserConfig, max_len: int = 32) -> Encoder:
    """A LASER-shaped encoder that has learnt nothing."""
    whole = {"body": param.init(key, params(cfg)), "head": identity_head(2 * cfg.width)}
    table = "body/embed/embedding"
    return Encoder("laser", whole, body, linear.apply, words(cfg.vocab_size), table, max_len)


def words(vocab_size: int) -> Tokenize:
    """Words by their hash; 0 and 1 begin and end a sentence."""

    def tokenize(texts: Sequence[str], max_len: int) -> np.ndarray:
        rows = [[2 + zlib.crc32(w.encode()) % (vocab_size - 2) for w in t.lower().split()]
                for t in texts]  # fmt: skip
        return pad([[0, *row, 1] for row in rows], max_len)

    return tokenize


def minilm(path: Path | str | None = None, *, max_len: int = 32) -> Encoder:
    """all-MiniLM-L6-v2 (English only), or any BERT folder with a tokenizer.json.

    Raises:
      DataNotFoundError: not there; says how to get it.
    """
    place = pretrained.minilm(path, ("model.safetensors", "config.json", "tokenizer.json"))
    cfg, weights = bert_weights.load(place)
    if cfg.pooler:
        cfg, weights = dataclasses.replace(cfg, pooler=False), {**weights}
        del weights["pooler"]
    languages = ("en",) if path is None else ()
    return of_bert("minilm", cfg, weights, _wordpiece(place), max_len, languages)


def _wordpiece(folder: Path) -> Tokenize:
    from tokenizers import Tokenizer

    found: Any = Tokenizer.from_file(str(folder / "tokenizer.json"))
    found.no_padding()
    found.no_truncation()

    def tokenize(texts: Sequence[str], max_len: int) -> np.ndarray:
        return pad([d.ids for d in found.encode_batch(list(texts))], max_len)

    return tokenize

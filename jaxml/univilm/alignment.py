"""Cross-encoder scores of all pairs of texts and videos, without N^2 whole passes.

What does not depend on the pair is computed once for each text and each video: the embedding of
both halves and the first layer's queries, keys and values. Of the last layer only the first token
is computed, as nothing else is pooled. For two layers that is 11 of 24 d^2 products a token.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxml.core import check
from jaxml.core.types import Array, Key, PyTree
from jaxml.models import bert
from jaxml.nn import attention, dropout, linear, mlp, norm, transformer
from jaxml.univilm import model
from jaxml.univilm.config import UniVLConfig
from jaxml.univilm.model import EPS


class Half(NamedTuple):
    """Words or frames before they meet: embedded [n, s, d], first layer's q, k, v [n, s, h, c]."""

    x: Array
    q: Array
    k: Array
    v: Array
    mask: Array


def half(
    p: PyTree, cfg: UniVLConfig, hidden: Array, mask: Array, start: int, kind: int,
    key: Key | None = None,
) -> Half:  # fmt: skip
    """One side of every pair; see `model.embed_half`."""
    x = dropout.apply(key, model.embed_half(p, hidden, start, kind), cfg.dropout)
    first = _layer(p, 0)["attention"]
    return Half(x, *attention.project(first, cfg.cross.attention, x), mask)


def pair_scores(
    p: PyTree,
    cfg: UniVLConfig,
    text_nwd: Array,
    video_mfd: Array,
    text_mask: Array,
    video_mask: Array,
    *,
    chunk: int = 1,
    key: Key | None = None,
) -> Array:
    """Scores [n, m] of every text with every video.

    Args:
      p: the model's parameters.
      cfg: its sizes.
      text_nwd: encoded words.
      video_mfd: encoded frames.
      text_mask: [n, w].
      video_mask: [m, f].
      chunk: texts at a time; divides n. The backward pass recomputes each chunk.
      key: of dropout; None evaluates. Embeddings are dropped for each text and video, not pair.

    Raises:
      ValueError: more words and frames than `cross_positions`.
    """
    words, frames = text_nwd.shape[1], video_mfd.shape[1]
    check.between(1, cfg.cross_positions, words_and_frames=words + frames)
    check.divides(chunk=chunk, texts=text_nwd.shape[0])
    keys = dropout.split(key, 3)
    texts = half(p, cfg, text_nwd, text_mask, 0, 0, keys[0])
    videos = half(p, cfg, video_mfd, video_mask, words, 1, keys[1])

    @jax.checkpoint
    def rows(one: tuple[Half, Key | None]) -> Array:
        text, row_key = one
        return _scores(p, cfg, _pairs(text, videos), row_key).reshape(chunk, -1)

    parts = jax.tree.map(lambda a: a.reshape(-1, chunk, *a.shape[1:]), texts)
    num = text_nwd.shape[0] // chunk
    row_keys = None if keys[2] is None else jax.random.split(keys[2], num)
    found = jax.lax.map(rows, (parts, row_keys))
    return found.reshape(text_nwd.shape[0], -1)


def _pairs(texts: Half, videos: Half) -> Half:
    """Every text of a chunk c beside every video m: rows c * m, words before frames."""

    def beside(a: Array, b: Array) -> Array:
        num, many = a.shape[0], b.shape[0]
        left = jnp.broadcast_to(a[:, None], (num, many, *a.shape[1:]))
        right = jnp.broadcast_to(b[None], (num, many, *b.shape[1:]))
        both = jnp.concatenate([left, right], 2)
        return both.reshape(num * many, *both.shape[2:])

    return Half(*(beside(a, b) for a, b in zip(texts, videos, strict=True)))


def _scores(p: PyTree, cfg: UniVLConfig, pair: Half, key: Key | None) -> Array:
    """Scores [r] of joined pairs."""
    num, keys = cfg.cross_layers, dropout.split(key, cfg.cross_layers)
    x, q, k, v, mask = pair
    for i in range(num):
        layer = _layer(p, i)
        if i > 0 and i < num - 1:
            x = bert.block(layer, cfg.cross, x, mask=mask, key=keys[i])
            continue
        if i > 0:
            q = attention.project(layer["attention"], cfg.cross.attention, x[:, :1])[0]
            k, v = attention.keys_values(layer["attention"], cfg.cross.attention, x)
        if i == num - 1:
            x, q = x[:, :1], q[:, :1]
        x = _rest(layer, cfg, x, attention.attend(q, k, v, mask=mask), keys[i])
    return linear.apply(p["similarity"], bert.pool(p["cross"], x))[:, 0].astype(jnp.float32)


def _rest(layer: PyTree, cfg: UniVLConfig, x: Array, context: Array, key: Key | None) -> Array:
    """A block after its heads have read `context`."""
    mix_key, feed_key = dropout.split(key, 2)

    def mix(_: Array) -> Array:
        return dropout.apply(mix_key, attention.output(layer["attention"], context), cfg.dropout)

    def feed(x: Array) -> Array:
        return dropout.apply(feed_key, mlp.apply(layer["mlp"], x), cfg.dropout)

    def normed(name: str) -> transformer.Layer:
        return lambda x: norm.layer(layer[name], x, EPS)

    return transformer.post_norm(x, (normed("attention_norm"), mix), (normed("mlp_norm"), feed))


def _layer(p: PyTree, i: int) -> PyTree:
    return jax.tree.map(lambda a: a[i], p["cross"]["layers"])

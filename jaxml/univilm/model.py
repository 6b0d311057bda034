"""The four components: text, video and cross encoder here, the decoder in `decoder`.

Rows n are clips; w words, f frames, d width, D the width of a frame's feature.
"""

from typing import Any

import jax.numpy as jnp

from jaxml.core import check, param
from jaxml.core.types import Array, Key, PyTree
from jaxml.models import bert
from jaxml.nn import dropout, linear, mlp, norm, position, precision
from jaxml.nn.initializer import normal, zeros
from jaxml.univilm.config import UniVLConfig

EPS = 1e-12


def params(cfg: UniVLConfig) -> PyTree:
    """Declares every component and head; word and position tables belong to `text`."""
    d, gaussian = cfg.width, normal(0.02)
    blocks = bert.params(cfg.decoder)["layers"]
    second = {"cross": blocks["attention"], "cross_norm": blocks["attention_norm"]}
    cross = bert.params(cfg.cross)

    def head(out: int, axis: str) -> PyTree:
        return {
            "dense": linear.params(d, d, axes=("embed", None), init=gaussian),
            "norm": norm.layer_params(d),
            "bias": param.Param((out,), (axis,), zeros),
        }

    return {
        "text": bert.params(cfg.text),
        "video_norm": norm.layer_params(cfg.video_dim),
        "video": {
            "input": linear.params(cfg.video_dim, d, axes=(None, "embed"), init=gaussian),
            "position": position.learned_params(cfg.video_positions, d),
            "norm": norm.layer_params(d),
            "layers": bert.params(cfg.video)["layers"],
        },
        "cross": {
            "position": position.learned_params(cfg.cross_positions, d),
            "type": position.learned_params(2, d),
            "norm": norm.layer_params(d),
            "layers": cross["layers"],
            "pooler": cross["pooler"],
        },
        "similarity": linear.params(d, 1, axes=("embed", None), init=gaussian),
        "decoder": {
            "norm": norm.layer_params(d),
            "layers": {**blocks, **second},
            "head": head(cfg.vocab_size, "vocab"),
        },
        "cmlm": head(cfg.vocab_size, "vocab"),
        "cmfm": head(cfg.video_dim, "embed"),
    }


def init(key: Key, cfg: UniVLConfig) -> PyTree:
    """Makes the parameters: kernels and tables N(0, 0.02), biases 0, norms 1."""
    return param.init(key, params(cfg))


def normalise(p: PyTree, cfg: UniVLConfig, feats_nfd: Array) -> Array:
    """The learnt layer norm of raw features [n, f, D]: input and target of what follows.

    Raises:
      ValueError: features of another width.
    """
    check.shape("feats_nfd", feats_nfd, ["n", "f", cfg.video_dim])
    return norm.layer(p["video_norm"], feats_nfd.astype(jnp.float32), EPS)


def encode_text(
    p: PyTree, cfg: UniVLConfig, ids_nw: Array, *, key: Key | None = None, remat: Any = None
) -> Array:
    """Last layer of the text encoder [n, w, d]; id 0 is padding."""
    out = bert.apply(
        p["text"], cfg.text, ids_nw, mask=ids_nw != 0, key=key, remat=remat, dtype=cfg.dtype
    )
    return out.hidden


def encode_video(
    p: PyTree,
    cfg: UniVLConfig,
    normed_nfd: Array,
    mask_nf: Array,
    *,
    key: Key | None = None,
    remat: Any = None,
) -> Array:
    """Last layer of the video encoder [n, f, d] over features that `normalise` gave [n, f, D]."""
    sizes = check.shape("normed_nfd", normed_nfd, ["n", "f", cfg.video_dim])
    check.shape("mask_nf", mask_nf, normed_nfd.shape[:2])
    check.between(1, cfg.video_positions, frames=sizes["f"])
    embed_key, encode_key = dropout.split(key, 2)
    x = linear.apply(p["video"]["input"], normed_nfd)
    x = x + _places(p["video"]["position"], 0, x)
    x = norm.layer(p["video"]["norm"], x, EPS).astype(cfg.dtype)
    x = dropout.apply(embed_key, x, cfg.dropout)
    return bert.encode(p["video"], cfg.video, x, mask=mask_nf, key=encode_key, remat=remat)


def embed_half(p: PyTree, x_nsd: Array, start: int, kind: int) -> Array:
    """Words (kind 0) or frames (kind 1) as the cross encoder takes them, from position `start`."""
    own = precision.along_last(p["cross"]["type"]["embedding"][kind], x_nsd)
    x = x_nsd + _places(p["cross"]["position"], start, x_nsd) + own
    return norm.layer(p["cross"]["norm"], x, EPS).astype(x_nsd.dtype)


def _places(p: PyTree, start: int, like_nsd: Array) -> Array:
    rows = p["embedding"][start : start + like_nsd.shape[1]].astype(like_nsd.dtype)
    return jnp.broadcast_to(rows[None], like_nsd.shape)


def cross_encode(
    p: PyTree,
    cfg: UniVLConfig,
    text_nwd: Array,
    video_nfd: Array,
    text_mask: Array,
    video_mask: Array,
    *,
    key: Key | None = None,
    video_start: int | None = None,
    remat: Any = None,
) -> bert.BertOutput:
    """Joins both: hidden [n, w + f, d], words first, and the pooled first token [n, d].

    A frame's position counts padded words too, as the authors' does: where padding was cut from
    the words, `video_start` says how many there were (default: w).

    Raises:
      ValueError: more words and frames than `cross_positions`.
    """
    words, frames = text_nwd.shape[1], video_nfd.shape[1]
    start = words if video_start is None else video_start
    check.between(1, cfg.cross_positions, words_and_frames=start + frames)
    halves = embed_half(p, text_nwd, 0, 0), embed_half(p, video_nfd, start, 1)
    embed_key, encode_key = dropout.split(key, 2)
    x = dropout.apply(embed_key, jnp.concatenate(halves, 1), cfg.dropout)
    mask = jnp.concatenate([text_mask, video_mask], 1)
    hidden = bert.encode(p["cross"], cfg.cross, x, mask=mask, key=encode_key, remat=remat)
    return bert.BertOutput(hidden, bert.pool(p["cross"], hidden))


def pool_text(hidden_nwd: Array, ids_nw: Array) -> Array:
    """Mean over words but the first ([SEP] counts), float32 [n, d]; 0 where only [CLS] is left."""
    return _mean(hidden_nwd, jnp.asarray(ids_nw != 0).at[:, 0].set(False))


def pool_video(hidden_nfd: Array, mask_nf: Array) -> Array:
    """Mean over real frames, float32 [n, d]; 0 where there is none."""
    return _mean(hidden_nfd, mask_nf)


def _mean(hidden: Array, mask: Array) -> Array:
    weight = mask.astype(jnp.float32)[..., None]
    total = jnp.sum(hidden.astype(jnp.float32) * weight, 1)
    return total / jnp.maximum(jnp.sum(weight, 1), 1.0)


def token_logits(head: PyTree, word: PyTree, x: Array) -> Array:
    """Linear, GELU, norm and the tied word table: [..., d] -> float32 [..., v]."""
    tied = {"mlm": head, "embed": {"word": word}}
    return bert.mlm_logits(tied, _EPS_ONLY, x)


_EPS_ONLY = bert.BertConfig(2, 1, 1, 1, 1, 1, eps=EPS)


def cmlm_logits(p: PyTree, cross_nwd: Array) -> Array:
    """Words that the cross encoder's text part [n, w, d] predicts, [n, w, v]."""
    return token_logits(p["cmlm"], p["text"]["embed"]["word"], cross_nwd)


def cmfm_features(p: PyTree, cross_nfd: Array) -> Array:
    """Features that its video part [n, f, d] predicts, through the input map's transpose."""
    head = p["cmfm"]
    x = norm.layer(head["norm"], mlp.gelu(linear.apply(head["dense"], cross_nfd)), EPS)
    y = precision.dot(x, p["video"]["input"]["kernel"].T)
    return y + precision.along_last(head["bias"], y)

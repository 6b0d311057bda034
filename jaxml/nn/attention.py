"""Softmax attention: self, cross, and step by step with a cache of keys and values.

`apply` is `output(attend(query, keys, values))`; the parts are public, so that a block may
rearrange them. Heads are laid side by side in the kernels: `query` [d, h * c].
"""

import dataclasses
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from jaxml.core import check
from jaxml.core.types import Array, PyTree
from jaxml.nn import linear, position

type Implementation = Literal["xla", "cudnn"] | None


@dataclasses.dataclass(frozen=True)
class AttentionConfig:
    """One attention layer.

    Attributes:
      width: d, of the residual stream.
      num_heads: h, heads of the queries.
      num_kv_heads: k, heads of keys and values; divides h (default: h).
      head_dim: c (default: width / num_heads).
      causal: a token sees itself and what came before.
      bias: whether the four maps have one.
      rope: rotate queries and keys by their positions.
      rope_base: of the rotation.
    """

    width: int
    num_heads: int
    num_kv_heads: int | None = None
    head_dim: int | None = None
    causal: bool = True
    bias: bool = False
    rope: bool = True
    rope_base: float = 1e4

    def __post_init__(self):
        check.types(self)
        check.positive(width=self.width, num_heads=self.num_heads, rope_base=self.rope_base)
        if self.head_dim is None:
            check.divides(num_heads=self.num_heads, width=self.width)
        check.positive(num_kv_heads=self.kv_heads, head_dim=self.head_width)
        check.divides(num_kv_heads=self.kv_heads, num_heads=self.num_heads)
        if self.rope and self.head_width % 2:
            raise ValueError(f"head_dim must be even for rope; got head_dim={self.head_width}.")

    @property
    def kv_heads(self) -> int:
        """K, resolved."""
        return self.num_heads if self.num_kv_heads is None else self.num_kv_heads

    @property
    def head_width(self) -> int:
        """C, resolved."""
        return self.width // self.num_heads if self.head_dim is None else self.head_dim


def params(cfg: AttentionConfig) -> PyTree:
    """Declares `query` [d, h*c], `key` and `value` [d, k*c], `out` [h*c, d]."""
    wide, narrow = cfg.num_heads * cfg.head_width, cfg.kv_heads * cfg.head_width
    return {
        "query": linear.params(cfg.width, wide, axes=("embed", "heads"), bias=cfg.bias),
        "key": linear.params(cfg.width, narrow, axes=("embed", "kv_heads"), bias=cfg.bias),
        "value": linear.params(cfg.width, narrow, axes=("embed", "kv_heads"), bias=cfg.bias),
        "out": linear.params(wide, cfg.width, axes=("heads", "embed"), bias=cfg.bias),
    }


def apply(
    p: PyTree,
    cfg: AttentionConfig,
    x_btd: Array,
    *,
    positions: Array | None = None,
    mask: Array | None = None,
    segment_ids: Array | None = None,
    head_mask: Array | None = None,
    implementation: Implementation = None,
    dtype: Any = None,
) -> Array:
    """Self-attention [b, t, d] -> [b, t, d].

    Args:
      p: from `params`.
      cfg: its configuration.
      x_btd: [b, t, d].
      positions: [b, t] integers for the rotation (default: 0, 1, ...).
      mask: True = keep; of the keys [b, t], or of pairs, broadcastable to [b, h, t, t]. A query
        that may see no key gets the mean of all values.
      segment_ids: [b, t]; tokens of different segments do not see each other.
      head_mask: [h], multiplies what each head contributes.
      implementation: of `jax.nn.dot_product_attention`.
      dtype: compute dtype (default: of `x_btd`).

    Raises:
      ValueError: a shape that does not fit.
    """
    query, keys, values = project(p, cfg, x_btd, positions, dtype)
    if segment_ids is not None:
        check.shape("segment_ids", segment_ids, x_btd.shape[:2])
        same = segment_ids[:, None, :, None] == segment_ids[:, None, None, :]
        mask = same if mask is None else same & _pairs(mask)
    context = attend(
        query, keys, values, mask=mask, causal=cfg.causal, implementation=implementation
    )
    return output(p, context, head_mask)


def apply_cross(
    p: PyTree,
    cfg: AttentionConfig,
    x_btd: Array,
    memory_bsd: Array,
    *,
    mask: Array | None = None,
    implementation: Implementation = None,
    dtype: Any = None,
) -> Array:
    """Attention of `x_btd` [b, t, d] to `memory_bsd` [b, s, d]; neither causal nor rotated.

    `mask` (True = keep) is of the memory [b, s] or broadcastable to [b, h, t, s].
    """
    query = _heads(linear.apply(p["query"], x_btd, dtype), cfg)
    keys, values = keys_values(p, cfg, memory_bsd, dtype)
    return output(p, attend(query, keys, values, mask=mask, implementation=implementation))


def project(
    p: PyTree, cfg: AttentionConfig, x_btd: Array, positions: Array | None = None, dtype: Any = None
) -> tuple[Array, Array, Array]:
    """Queries [b, t, h, c], keys and values [b, t, k, c] of one sequence, rotated if so set."""
    sizes = check.shape("x_btd", x_btd, ["b", "t", cfg.width])
    query = _heads(linear.apply(p["query"], x_btd, dtype), cfg)
    keys, values = keys_values(p, cfg, x_btd, dtype)
    if cfg.rope:
        if positions is None:
            positions = jnp.arange(sizes["t"], dtype=jnp.int32)[None]
        query = position.rope(query, positions, cfg.rope_base)
        keys = position.rope(keys, positions, cfg.rope_base)
    return query, keys, values


def keys_values(
    p: PyTree, cfg: AttentionConfig, memory_bsd: Array, dtype: Any = None
) -> tuple[Array, Array]:
    """Keys and values [b, s, k, c] of a memory, not rotated; made once for many queries."""
    check.shape("memory_bsd", memory_bsd, ["b", "s", cfg.width])
    return (
        _heads(linear.apply(p["key"], memory_bsd, dtype), cfg),
        _heads(linear.apply(p["value"], memory_bsd, dtype), cfg),
    )


def attend(
    q_bthc: Array,
    k_bskc: Array,
    v_bskc: Array,
    *,
    mask: Array | None = None,
    causal: bool = False,
    implementation: Implementation = None,
) -> Array:
    """What each head reads: softmax(q k / sqrt(c)) v, [b, t, h, c].

    `mask` (True = keep) is of the keys [b, s] or broadcastable to [b, h, t, s].
    """
    return jax.nn.dot_product_attention(
        q_bthc,
        k_bskc,
        v_bskc,
        mask=None if mask is None else _pairs(mask),
        is_causal=causal,
        implementation=implementation,
    )


def output(p: PyTree, context_bthc: Array, head_mask: Array | None = None) -> Array:
    """Heads [b, t, h, c] back to the residual stream [b, t, d], each times its `head_mask` [h]."""
    batch, length, num_heads, head_dim = context_bthc.shape
    if head_mask is not None:
        check.shape("head_mask", head_mask, [num_heads])
        context_bthc *= head_mask[None, None, :, None].astype(context_bthc.dtype)
    return linear.apply(p["out"], context_bthc.reshape(batch, length, num_heads * head_dim))


class Cache(NamedTuple):
    """Keys and values [b, max_len, k, c] of the first `length` [] tokens; the rest is unused."""

    k: Array
    v: Array
    length: Array


def empty_cache(cfg: AttentionConfig, batch: int, max_len: int, dtype: Any = jnp.float32) -> Cache:
    """A cache of no tokens, with room for `max_len`."""
    check.positive(batch=batch, max_len=max_len)
    zeros = jnp.zeros((batch, max_len, cfg.kv_heads, cfg.head_width), dtype)
    return Cache(zeros, zeros, jnp.zeros((), jnp.int32))


def step(
    p: PyTree,
    cfg: AttentionConfig,
    x: Array,
    cache: Cache,
    *,
    mask: Array | None = None,
    implementation: Implementation = None,
    dtype: Any = None,
) -> tuple[Array, Cache]:
    """Attention of the next token, or the next t tokens, of a causal layer.

    Args:
      p: from `params`.
      cfg: must be causal.
      x: one token [b, d], or t of them [b, t, d] (prefill).
      cache: what came before; every row of the batch has the same length.
      mask: True = keep, of the cached tokens [b, max_len], e.g. to leave out padding.
      implementation: of `jax.nn.dot_product_attention`.
      dtype: compute dtype (default: of `x`).

    Returns:
      The result in the shape of `x`, and the longer cache. Past the room of the cache the result
      is NaN: the length is traced, so no error can be raised.

    Raises:
      ValueError: the layer is not causal, or t alone exceeds the room.
    """
    if not cfg.causal:
        raise ValueError("cfg.causal must be True to decode step by step; got causal=False.")
    x_btd = x if x.ndim == 3 else x[:, None]
    num_new, room = x_btd.shape[1], cache.k.shape[1]
    if num_new > room:
        raise ValueError(f"x must fit the cache; got {num_new} tokens, max_len={room}.")
    place = cache.length + jnp.arange(num_new, dtype=jnp.int32)
    query, keys, values = project(p, cfg, x_btd, place[None], dtype)
    start = (0, cache.length, 0, 0)
    k = jax.lax.dynamic_update_slice(cache.k, keys.astype(cache.k.dtype), start)
    v = jax.lax.dynamic_update_slice(cache.v, values.astype(cache.v.dtype), start)
    visible = (jnp.arange(room, dtype=jnp.int32)[None, :] <= place[:, None])[None, None]
    if mask is not None:
        visible = visible & _pairs(mask)
    context = attend(
        query,
        k.astype(query.dtype),
        v.astype(query.dtype),
        mask=visible,
        implementation=implementation,
    )
    length = cache.length + num_new
    y = jnp.where(length <= room, output(p, context), jnp.nan)
    return (y if x.ndim == 3 else y[:, 0]), Cache(k, v, length)


def _heads(x: Array, cfg: AttentionConfig) -> Array:
    return x.reshape(*x.shape[:2], -1, cfg.head_width)


def _pairs(mask: Array) -> Array:
    """A mask of keys [b, s] as one of pairs [b, 1, 1, s]."""
    if mask.ndim not in (2, 4):
        raise ValueError(
            f"mask must have shape [b, s] or [b, h, t, s]; got mask.shape={mask.shape}."
        )
    return (mask[:, None, None, :] if mask.ndim == 2 else mask).astype(bool)

"""The decoder: causal blocks that also read the cross encoder's output; whole, or step by step."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxml.core import check, rng
from jaxml.core.types import Array, Key, PyTree
from jaxml.nn import attention, dropout, embed, mlp, norm, position, transformer
from jaxml.univilm import model
from jaxml.univilm.config import UniVLConfig
from jaxml.univilm.model import EPS


def decode_logits(
    p: PyTree,
    cfg: UniVLConfig,
    ids_nt: Array,
    memory_nsd: Array,
    memory_mask: Array,
    *,
    key: Key | None = None,
) -> Array:
    """Logits float32 [n, t, v] of the word after each of `ids_nt`, given the cross output.

    Args:
      p: the model's parameters.
      cfg: its sizes.
      ids_nt: [CLS] and words; 0 is padding.
      memory_nsd: cross output [n, s, d].
      memory_mask: [n, s], True = a word or frame.
      key: of dropout; None evaluates.

    Raises:
      ValueError: more tokens than positions.
    """
    sizes = check.shape("ids_nt", ids_nt, ["n", "t"])
    check.between(1, cfg.text_positions, tokens=sizes["t"])
    embed_key, layers_key = dropout.split(key, 2)
    x = _embedded(p, cfg, ids_nt, jnp.arange(sizes["t"], dtype=jnp.int32)[None])
    x = dropout.apply(embed_key, x, cfg.dropout)
    causal = jnp.tril(jnp.ones((sizes["t"], sizes["t"]), bool))[None, None]
    mask = causal & (ids_nt != 0)[:, None, None, :]
    heads = cfg.decoder.attention

    def layer(q: PyTree, x: Array, index: Array) -> tuple[Array, None]:
        layer_key = None if layers_key is None else rng.fold(layers_key, index)

        def look(x: Array) -> Array:
            return attention.apply(q["attention"], heads, x, mask=mask)

        def read(x: Array) -> Array:
            return attention.apply_cross(q["cross"], heads, x, memory_nsd, mask=memory_mask)

        return _block(q, cfg, x, look, read, layer_key), None

    x, _ = transformer.scan_layers(layer, p["decoder"]["layers"], x, jnp.arange(cfg.decoder_layers))
    return _logits(p, x)


def _embedded(p: PyTree, cfg: UniVLConfig, ids: Array, places: Array) -> Array:
    tables = p["text"]["embed"]
    where = position.learned(tables["position"], jnp.broadcast_to(places, ids.shape))
    x = embed.apply(tables["word"], ids) + where
    return norm.layer(p["decoder"]["norm"], x, EPS).astype(cfg.dtype)


def _logits(p: PyTree, x: Array) -> Array:
    return model.token_logits(p["decoder"]["head"], p["text"]["embed"]["word"], x)


def _block(
    q: PyTree,
    cfg: UniVLConfig,
    x: Array,
    look: transformer.Layer,
    read: transformer.Layer,
    key: Key | None,
) -> Array:
    """Self-attention, attention to the memory, feed-forward, each added and normed."""

    def part(k: Key | None, f: transformer.Layer) -> transformer.Layer:
        return lambda x: dropout.apply(k, f(x), cfg.dropout)

    def normed(name: str) -> transformer.Layer:
        return lambda x: norm.layer(q[name], x, EPS)

    keys = dropout.split(key, 3)
    return transformer.post_norm(
        x,
        (normed("attention_norm"), part(keys[0], look)),
        (normed("cross_norm"), part(keys[1], read)),
        (normed("mlp_norm"), part(keys[2], lambda x: mlp.apply(q["mlp"], x))),
    )


class Memory(NamedTuple):
    """What the steps of a clip read: keys and values [l, n, s, h, c] and a mask [n, s]."""

    k: Array
    v: Array
    mask: Array


class Cache(NamedTuple):
    """Keys and values [l, n, k, t, h, c] of the tokens of k beams of a clip."""

    k: Array
    v: Array


def remember(p: PyTree, cfg: UniVLConfig, memory_nsd: Array, mask_ns: Array) -> Memory:
    """Keys and values of the cross output for every layer: made once, read by every beam."""

    def one(q: PyTree) -> tuple[Array, Array]:
        return attention.keys_values(q, cfg.decoder.attention, memory_nsd)

    k, v = jax.lax.map(one, p["decoder"]["layers"]["cross"])
    return Memory(k, v, mask_ns)


def empty_cache(cfg: UniVLConfig, num: int, beams: int, max_len: int) -> Cache:
    """Room for `max_len` tokens of `beams` beams of `num` clips."""
    check.between(1, cfg.text_positions, max_len=max_len)
    head_dim = cfg.width // cfg.num_heads
    shape = (cfg.decoder_layers, num, beams, max_len, cfg.num_heads, head_dim)
    return Cache(jnp.zeros(shape, cfg.dtype), jnp.zeros(shape, cfg.dtype))


def step(
    p: PyTree, cfg: UniVLConfig, ids_nk: Array, place: Array, memory: Memory, cache: Cache
) -> tuple[Array, Cache]:
    """One more token of every beam: logits float32 [n, k, v] and the longer cache.

    Args:
      p: the model's parameters.
      cfg: its sizes.
      ids_nk: the newest token of each beam.
      place: its position, int32 [].
      memory: from `remember`; the beams of a clip are queries of one attention to it.
      cache: of the tokens before.
    """
    num, beams = ids_nk.shape
    x = _embedded(p, cfg, ids_nk, place)
    heads, room = cfg.decoder.attention, cache.k.shape[3]
    seen = (jnp.arange(room) <= place)[None, None, None, :]

    def layer(q: PyTree, x: Array, inputs: tuple[Array, ...]) -> tuple[Array, Cache]:
        old_k, old_v, mem_k, mem_v = inputs
        flat = x.reshape(num * beams, 1, cfg.width)
        query, k, v = attention.project(q["attention"], heads, flat)
        at = (0, 0, place, 0, 0)
        new = Cache(
            jax.lax.dynamic_update_slice(old_k, k.reshape(num, beams, *k.shape[1:]), at),
            jax.lax.dynamic_update_slice(old_v, v.reshape(num, beams, *v.shape[1:]), at),
        )

        def look(x: Array) -> Array:
            k, v = (a.reshape(num * beams, *a.shape[2:]) for a in new)
            y = attention.output(q["attention"], attention.attend(query, k, v, mask=seen))
            return y.reshape(x.shape)

        def read(x: Array) -> Array:
            query = attention.project(q["cross"], heads, x)[0]
            found = attention.attend(query, mem_k, mem_v, mask=memory.mask)
            return attention.output(q["cross"], found)

        return _block(q, cfg, x, look, read, None), new

    inputs = (cache.k, cache.v, memory.k, memory.v)
    x, new = transformer.scan_layers(layer, p["decoder"]["layers"], x, inputs)
    return _logits(p, x), Cache(*new)

"""The baseline: a causal Transformer of the same size (RoPE, SwiGLU, RMSNorm, tied embedding)."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxml.core import param
from jaxml.core.param import Param
from jaxml.core.types import Array, PyTree
from jaxml.nn import attention, embed, initializer, mlp, norm, transformer
from jaxml.tnl import flops
from jaxml.tnl.config import TransformerConfig
from jaxml.tnl.language_model import NOWHERE, LanguageModel, Placement, check_ids


class State(NamedTuple):
    """Keys and values, and which of them are real tokens [b, max_len].

    Each layer has arrays of its own, so that a step writes its token in place.
    """

    cache: tuple[attention.Cache, ...]
    real: Array


def _attention(cfg: TransformerConfig) -> attention.AttentionConfig:
    return attention.AttentionConfig(width=cfg.width, num_heads=cfg.num_heads)


def params(cfg: TransformerConfig) -> PyTree:
    """Declares the embedding, the stacked layers and the last norm."""
    normal = initializer.normal(cfg.init_std)
    return {
        "embed": embed.params(cfg.vocab_size, cfg.width, normal),
        "layers": param.stack(_layer_params(cfg), cfg.num_layers),
        "norm": norm.rms_params(cfg.width),
    }


def _layer_params(cfg: TransformerConfig) -> PyTree:
    layer = {
        "norm_attention": norm.rms_params(cfg.width),
        "attention": attention.params(_attention(cfg)),
        "norm_mlp": norm.rms_params(cfg.width),
        "mlp": mlp.gated_params(cfg.width, cfg.mlp_width),
    }
    normal = initializer.normal(cfg.init_std)
    return jax.tree.map(
        lambda p: Param(p.shape, p.axes, normal) if len(p.shape) > 1 else p,
        layer,
        is_leaf=param.is_param,
    )


def _block(cfg: TransformerConfig, mixer: Any, place: Placement = NOWHERE) -> Any:
    declared = _layer_params(cfg)

    def block(p: PyTree, x: Array, inputs: Any) -> tuple[Array, Any]:
        p, x = place.weights(p, declared, jnp.dtype(cfg.dtype)), place.rows(x)
        mixed, output = mixer(p["attention"], norm.rms(p["norm_attention"], x, cfg.eps), inputs)
        x = x + mixed
        return x + mlp.gated(p["mlp"], norm.rms(p["norm_mlp"], x, cfg.eps)), output

    return block


def _embed(cfg: TransformerConfig, tree: PyTree, ids: Array) -> Array:
    return embed.apply(tree["embed"], ids, jnp.dtype(cfg.dtype))


def hidden(
    tree: PyTree,
    cfg: TransformerConfig,
    ids_bt: Array,
    *,
    segment_ids: Array | None = None,
    positions: Array | None = None,
    implementation: attention.Implementation = None,
    place: Placement = NOWHERE,
) -> Array:
    """Final hidden states [b, t, d]; arguments as in `model.hidden`.

    `implementation` is that of `jax.nn.dot_product_attention`.
    """
    check_ids(ids_bt, cfg.vocab_size)

    def mixer(p: PyTree, x: Array, _: Any) -> tuple[Array, None]:
        mixed = attention.apply(
            p,
            _attention(cfg),
            x,
            positions=positions,
            segment_ids=segment_ids,
            implementation=implementation,
        )
        return mixed, None

    remat = None if cfg.remat == "none" else cfg.remat
    table = {"embed": place.weights(tree["embed"], embed.params(cfg.vocab_size, cfg.width), None)}
    x = place.rows(_embed(cfg, table, ids_bt))
    block = _block(cfg, mixer, place)
    x, _ = transformer.scan_layers(block, tree["layers"], x, remat=remat)
    return place.rows(norm.rms(tree["norm"], x, cfg.eps))


def start(cfg: TransformerConfig, batch: int, max_len: int) -> State:
    """An empty cache with room for `max_len` tokens."""

    def empty(_: int) -> attention.Cache:
        return attention.empty_cache(_attention(cfg), batch, max_len, jnp.dtype(cfg.dtype))

    return State(tuple(map(empty, range(cfg.num_layers))), jnp.zeros((batch, max_len), bool))


def prefill(
    tree: PyTree,
    cfg: TransformerConfig,
    state: State,
    ids_bt: Array,
    mask_bt: Array | None = None,
) -> tuple[Array, State]:
    """Reads t tokens at once; tokens where `mask_bt` is False are never attended to."""
    check_ids(ids_bt, cfg.vocab_size)
    mask = jnp.ones(ids_bt.shape, bool) if mask_bt is None else mask_bt
    place = (jnp.zeros((), jnp.int32), state.cache[0].length)
    real = jax.lax.dynamic_update_slice(state.real, mask, place)

    def mixer(p: PyTree, x: Array, cache: attention.Cache) -> tuple[Array, attention.Cache]:
        return attention.step(p, _attention(cfg), x, cache, mask=real)

    x, longer, block = _embed(cfg, tree, ids_bt), [], _block(cfg, mixer)
    for index, cache in enumerate(state.cache):
        layer = jax.tree.map(lambda p: p[index], tree["layers"])  # noqa: B023
        x, cache = block(layer, x, cache)
        longer.append(cache)
    return norm.rms(tree["norm"], x, cfg.eps), State(tuple(longer), real)


def step(tree: PyTree, cfg: TransformerConfig, state: State, ids_b: Array) -> tuple[Array, State]:
    """One token: hidden states [b, d] and the longer cache."""
    x, state = prefill(tree, cfg, state, ids_b[:, None])
    return x[:, 0], state


@functools.cache
def language_model(
    cfg: TransformerConfig, implementation: attention.Implementation = None
) -> LanguageModel:
    """The baseline as the trainer and the generator take it."""
    return LanguageModel(
        name="Transformer",
        vocab_size=cfg.vocab_size,
        declared=params(cfg),
        hidden=lambda p, ids, **more: hidden(p, cfg, ids, implementation=implementation, **more),
        table=lambda p: p["embed"]["embedding"],
        start=lambda batch, max_len: start(cfg, batch, max_len),
        prefill=lambda p, s, ids, mask=None: prefill(p, cfg, s, ids, mask),
        step=lambda p, s, ids: step(p, cfg, s, ids),
        flops_per_token=functools.partial(flops.transformer, cfg),
        room=lambda state: state.real.shape[1] - int(state.cache[0].length),
    )

"""TransNormerLLM: lightning attention with a gate, and a gated linear unit, pre-normed.

One layer (arXiv 2405.17381): `x += Wo (u * SRMS(o))`, where `o` is the lightning attention of
`silu(q), silu(k), v`; then `x += W3 ((W1 y) * (W2 y))` with `y = SRMS(x)`. SRMS has no weight and
runs over the whole width. Layers of one kind are stacked and scanned.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxml.core import param
from jaxml.core.param import Param
from jaxml.core.types import Array, PyTree
from jaxml.nn import embed, initializer, mlp, norm, transformer
from jaxml.tnl import decay, lrpe
from jaxml.tnl.config import TNLConfig
from jaxml.tnl.language_model import LanguageModel, check_ids
from jaxml_kernels.lightning_attention import lightning_attention, lightning_attention_step

type Attention = Callable[..., tuple[Array, Array | None]]
"""A function with the signature of `lightning_attention`."""


class State(NamedTuple):
    """What decoding carries, constant in size at any context.

    Attributes:
      position: index of the next token, int32 [].
      memory: of each stretch of layers, float32 [layers, b, h, key width, c].
    """

    position: Array
    memory: tuple[Array, ...]


def params(cfg: TNLConfig) -> PyTree:
    """Declares the embedding and, for every stretch of equal layers, stacked parameters."""
    tree: dict[str, Any] = {
        "embed": embed.params(cfg.vocab_size, cfg.width, initializer.normal(cfg.init_std))
    }
    for index, (_, num, coded) in enumerate(cfg.stretches):
        tree[f"stretch_{index}"] = param.stack(_layer_params(cfg, coded), num)
    return tree


def _layer_params(cfg: TNLConfig, coded: bool) -> PyTree:
    normal = initializer.normal(cfg.init_std)
    heads, width = cfg.num_heads, cfg.head_dim
    parts = 4 if cfg.gate else 3
    glu = mlp.gated_params(cfg.width, cfg.glu_width)
    layer = {
        "qkvu": Param((cfg.width, parts, heads, width), ("embed", None, "heads", None), normal),
        "out": Param((heads, width, cfg.width), ("heads", None, "embed"), normal),
        "glu": jax.tree.map(lambda p: Param(p.shape, p.axes, normal), glu, is_leaf=param.is_param),
    }
    return {**layer, "lrpe": lrpe.params(heads, width)} if coded else layer


def _project(p: PyTree, x: Array, positions: Array) -> tuple[Array, Array, Array, Array | None]:
    """q, k, v and the gate u of [b, t, d], each [b, t, h, ...]; u is None without a gate."""
    kernel = p["qkvu"].astype(x.dtype)
    parts = jnp.einsum("btd,dnhc->nbthc", x, kernel, preferred_element_type=jnp.float32)
    q, k, v, *gate = parts.astype(x.dtype)
    q, k = jax.nn.silu(q), jax.nn.silu(k)
    if "lrpe" in p:
        q, k = (lrpe.apply(p["lrpe"], y, positions) for y in (q, k))
    return q, k, v, gate[0] if gate else None


def _mix(p: PyTree, cfg: TNLConfig, o: Array, gate: Array | None) -> Array:
    """The norm over all heads, the gate and the output projection: [b, t, h, c] -> [b, t, d]."""
    flat = norm.srms(o.reshape(*o.shape[:2], -1), cfg.eps).reshape(o.shape)
    if gate is not None:
        flat = flat * gate
    kernel = p["out"].astype(flat.dtype)
    return jnp.einsum("bthc,hcd->btd", flat, kernel, preferred_element_type=jnp.float32).astype(
        flat.dtype
    )


def _block(cfg: TNLConfig, mixer: Callable[[PyTree, Array, Any], tuple[Array, Any]]) -> Any:
    def srms(x: Array) -> Array:
        return norm.srms(x, cfg.eps)

    def block(p: PyTree, x: Array, inputs: Any) -> tuple[Array, Any]:
        mixed, output = mixer(p, srms(x), inputs)
        x = x + mixed
        return x + mlp.gated(p["glu"], srms(x), mlp.identity), output

    return block


def _run(cfg: TNLConfig, tree: PyTree, x: Array, mixer: Any, memory: Any) -> tuple[Array, Any]:
    """All layers; `mixer` gets the log decay and the memory of its layer."""
    rates, outputs = decay.log_decay(cfg.num_heads, cfg.num_layers, cfg.decay_rule), []
    remat = None if cfg.remat == "none" else cfg.remat
    for index, (first, num, _) in enumerate(cfg.stretches):
        inputs = (jnp.asarray(rates[first : first + num]), memory and memory[index])
        x, output = transformer.scan_layers(
            _block(cfg, mixer), tree[f"stretch_{index}"], x, inputs, remat=remat
        )
        outputs.append(output)
    return norm.srms(x, cfg.eps), tuple(outputs)


def _embed(cfg: TNLConfig, tree: PyTree, ids: Array) -> Array:
    x = embed.apply(tree["embed"], ids, jnp.dtype(cfg.dtype))
    return x * jnp.asarray(cfg.width**0.5, x.dtype) if cfg.scale_embedding else x


def hidden(
    tree: PyTree,
    cfg: TNLConfig,
    ids_bt: Array,
    *,
    segment_ids: Array | None = None,
    positions: Array | None = None,
    attention: Attention = lightning_attention,
) -> Array:
    """Final hidden states [b, t, d]; logits are their products with the embedding.

    Args:
      tree: parameters.
      cfg: their configuration.
      ids_bt: tokens [b, t].
      segment_ids: [b, t]; documents packed into a row do not see each other.
      positions: [b, t] (default 0, 1, ...); only differences within a segment matter.
      attention: the lightning attention to use, e.g. one for a mesh.

    Raises:
      ValueError: ids that are not integers [b, t] inside the vocabulary.
    """
    check_ids(ids_bt, cfg.vocab_size)
    if positions is None:
        positions = jnp.broadcast_to(jnp.arange(ids_bt.shape[1], dtype=jnp.int32), ids_bt.shape)

    def mixer(p: PyTree, x: Array, inputs: Any) -> tuple[Array, None]:
        q, k, v, gate = _project(p, x, positions)
        o, _ = attention(q, k, v, inputs[0], segment_ids=segment_ids)
        return _mix(p, cfg, o, gate), None

    return _run(cfg, tree, _embed(cfg, tree, ids_bt), mixer, None)[0]


def start(cfg: TNLConfig, batch: int) -> State:
    """The state before any token."""
    memory = tuple(
        jnp.zeros(
            (num, batch, cfg.num_heads, lrpe.width(cfg.head_dim, coded), cfg.head_dim), jnp.float32
        )
        for _, num, coded in cfg.stretches
    )
    return State(jnp.zeros((), jnp.int32), memory)


def prefill(
    tree: PyTree,
    cfg: TNLConfig,
    state: State,
    ids_bt: Array,
    mask_bt: Array | None = None,
    *,
    attention: Attention = lightning_attention,
) -> tuple[Array, State]:
    """Reads t tokens at once: hidden states [b, t, d] and the state after them.

    Tokens where `mask_bt` is False add nothing to the state; put them on the left, where the decay
    and the positions they still advance change nothing.
    """
    check_ids(ids_bt, cfg.vocab_size)
    seq_len = ids_bt.shape[1]
    place = state.position + jnp.arange(seq_len, dtype=jnp.int32)
    positions = jnp.broadcast_to(place, ids_bt.shape)

    def mixer(p: PyTree, x: Array, inputs: Any) -> tuple[Array, Array | None]:
        q, k, v, gate = _project(p, x, positions)
        if mask_bt is not None:
            v = jnp.where(mask_bt[:, :, None, None], v, 0)
        o, memory = attention(q, k, v, inputs[0], initial_state=inputs[1], return_final_state=True)
        return _mix(p, cfg, o, gate), memory

    x, memory = _run(cfg, tree, _embed(cfg, tree, ids_bt), mixer, state.memory)
    return x, State(state.position + seq_len, memory)


def step(tree: PyTree, cfg: TNLConfig, state: State, ids_b: Array) -> tuple[Array, State]:
    """One token: hidden states [b, d] and the next state."""
    positions = jnp.broadcast_to(state.position, (ids_b.shape[0], 1))

    def mixer(p: PyTree, x: Array, inputs: Any) -> tuple[Array, Array]:
        q, k, v, gate = _project(p, x, positions)
        o, memory = lightning_attention_step(q[:, 0], k[:, 0], v[:, 0], inputs[0], inputs[1])
        return _mix(p, cfg, o[:, None], gate), memory

    x, memory = _run(cfg, tree, _embed(cfg, tree, ids_b[:, None]), mixer, state.memory)
    return x[:, 0], State(state.position + 1, memory)


@functools.cache
def language_model(cfg: TNLConfig, attention: Attention = lightning_attention) -> LanguageModel:
    """The model as the trainer and the generator take it.

    >>> from jaxml.tnl.config import PRESETS
    >>> language_model(PRESETS["tiny"]).num_params()
    31264
    """
    return LanguageModel(
        name="TNL",
        vocab_size=cfg.vocab_size,
        declared=params(cfg),
        hidden=lambda p, ids, **more: hidden(p, cfg, ids, attention=attention, **more),
        table=lambda p: p["embed"]["embedding"],
        start=lambda batch, max_len: start(cfg, batch),
        prefill=lambda p, s, ids, mask=None: prefill(p, cfg, s, ids, mask, attention=attention),
        step=lambda p, s, ids: step(p, cfg, s, ids),
    )

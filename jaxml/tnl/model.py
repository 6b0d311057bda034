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
from jaxml.nn import attention as attentions
from jaxml.nn import embed, initializer, mlp, norm, precision, transformer
from jaxml.tnl import decay, flops, lrpe
from jaxml.tnl.config import Stretch, TNLConfig
from jaxml.tnl.language_model import NOWHERE, LanguageModel, Placement, check_ids
from jaxml_kernels.lightning_attention import lightning_attention, lightning_attention_step

type Attention = Callable[..., tuple[Array, Array | None]]
"""A function with the signature of `lightning_attention`."""


class State(NamedTuple):
    """What decoding carries, constant in size at any context.

    Attributes:
      position: index of the next token, int32 [].
      memory: of each stretch of layers, float32 [layers, b, h, key width, c]; of softmax layers a
        cache of keys and values with room for so many tokens.
      real: which of the tokens in a cache are no padding [b, max_len]; None without a cache.
    """

    position: Array
    memory: tuple[Any, ...]
    real: Array | None = None


class _Mixers(NamedTuple):
    """How the two kinds of layers mix tokens: `(params, x, (log decay, memory)) -> (y, memory)`."""

    lightning: Callable[[PyTree, Array, Any], tuple[Array, Any]]
    softmax: Callable[[PyTree, Array, Any], tuple[Array, Any]]


def params(cfg: TNLConfig) -> PyTree:
    """Declares the embedding and, for every stretch of equal layers, stacked parameters."""
    tree: dict[str, Any] = {
        "embed": embed.params(cfg.vocab_size, cfg.width, initializer.normal(cfg.init_std))
    }
    for index, stretch in enumerate(cfg.stretches):
        tree[f"stretch_{index}"] = param.stack(_layer_params(cfg, stretch), stretch.num)
    return tree


def _layer_params(cfg: TNLConfig, stretch: Stretch) -> PyTree:
    normal = initializer.normal(cfg.init_std)
    heads, width, rank = cfg.num_heads, cfg.head_dim, cfg.gate_rank
    parts = 4 if cfg.gate and rank is None else 3

    def drawn(tree: PyTree) -> PyTree:
        return jax.tree.map(lambda p: Param(p.shape, p.axes, normal), tree, is_leaf=param.is_param)

    glu = drawn(mlp.gated_params(cfg.width, cfg.glu_width))
    if stretch.softmax:
        return {"attention": drawn(attentions.params(cfg.attention)), "glu": glu}
    layer = {
        "qkvu": Param((cfg.width, parts, heads, width), ("embed", None, "heads", None), normal),
        "out": Param((heads, width, cfg.width), ("heads", None, "embed"), normal),
        "glu": glu,
    }
    if rank is not None:
        layer["gate_down"] = Param((cfg.width, rank), ("embed", None), normal)
        layer["gate_up"] = Param((rank, heads, width), (None, "heads", None), normal)
    return {**layer, "lrpe": lrpe.params(heads, width)} if stretch.lrpe else layer


def _project(p: PyTree, x: Array, positions: Array) -> tuple[Array, Array, Array, Array | None]:
    """q, k, v and the gate u of [b, t, d], each [b, t, h, ...]; u is None without a gate."""
    parts = precision.einsum("btd,dnhc->nbthc", x, p["qkvu"])
    q, k, v, *gate = parts.astype(x.dtype)
    q, k = jax.nn.silu(q), jax.nn.silu(k)
    if "lrpe" in p:
        q, k = (lrpe.apply(p["lrpe"], y, positions) for y in (q, k))
    if "gate_down" in p:
        low = jnp.einsum("btd,dr->btr", x, p["gate_down"].astype(x.dtype))
        return q, k, v, jnp.einsum("btr,rhc->bthc", low, p["gate_up"].astype(x.dtype))
    return q, k, v, gate[0] if gate else None


def _mix(p: PyTree, cfg: TNLConfig, o: Array, gate: Array | None) -> Array:
    """The norm over all heads, the gate and the output projection: [b, t, h, c] -> [b, t, d]."""
    flat = norm.srms(o.reshape(*o.shape[:2], -1), cfg.eps).reshape(o.shape)
    if gate is not None:
        flat = flat * gate
    return precision.einsum("bthc,hcd->btd", flat, p["out"], flat.dtype)


def _block(cfg: TNLConfig, mixers: _Mixers, declared: PyTree, place: Placement) -> Any:
    def srms(x: Array) -> Array:
        return norm.srms(x, cfg.eps)

    def block(p: PyTree, x: Array, inputs: Any) -> tuple[Array, Any]:
        p, x = place.weights(p, declared, jnp.dtype(cfg.dtype)), place.rows(x)
        mixer = mixers.softmax if "attention" in p else mixers.lightning
        mixed, output = mixer(p, srms(x), inputs)
        x = x + mixed
        return x + mlp.gated(p["glu"], srms(x), mlp.identity), output

    return block


def _run(
    cfg: TNLConfig, tree: PyTree, x: Array, mixers: _Mixers, memory: Any, place: Placement = NOWHERE
) -> tuple[Array, Any]:
    """All layers; a mixer gets the log decay and the memory of its layer."""
    rates, outputs = decay.log_decay(cfg.num_heads, cfg.num_layers, cfg.decay_rule), []
    remat = None if cfg.remat == "none" else cfg.remat
    for index, (first, num, *_) in enumerate(cfg.stretches):
        block = _block(cfg, mixers, _layer_params(cfg, cfg.stretches[index]), place)
        inputs = (jnp.asarray(rates[first : first + num]), memory and memory[index])
        x, output = transformer.scan_layers(block, tree[f"stretch_{index}"], x, inputs, remat=remat)
        outputs.append(output)
    return place.rows(norm.srms(x, cfg.eps)), tuple(outputs)


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
    implementation: attentions.Implementation = None,
    place: Placement = NOWHERE,
) -> Array:
    """Final hidden states [b, t, d]; logits are their products with the embedding.

    Args:
      tree: parameters.
      cfg: their configuration.
      ids_bt: tokens [b, t].
      segment_ids: [b, t]; documents packed into a row do not see each other.
      positions: [b, t] (default 0, 1, ...); only differences within a segment matter.
      attention: the lightning attention to use, e.g. one for a mesh.
      implementation: of the softmax layers, see `jax.nn.dot_product_attention`.
      place: keeps activations and weights in their places on a mesh.

    Raises:
      ValueError: ids that are not integers [b, t] inside the vocabulary.
    """
    check_ids(ids_bt, cfg.vocab_size)
    if positions is None:
        positions = jnp.broadcast_to(jnp.arange(ids_bt.shape[1], dtype=jnp.int32), ids_bt.shape)

    def lightning(p: PyTree, x: Array, inputs: Any) -> tuple[Array, None]:
        q, k, v, gate = _project(p, x, positions)
        o, _ = attention(q, k, v, inputs[0], segment_ids=segment_ids)
        return _mix(p, cfg, o, gate), None

    def softmax(p: PyTree, x: Array, _: Any) -> tuple[Array, None]:
        more: Any = {"segment_ids": segment_ids, "implementation": implementation}
        return attentions.apply(p["attention"], cfg.attention, x, positions=positions, **more), None

    table = {"embed": place.weights(tree["embed"], embed.params(cfg.vocab_size, cfg.width), None)}
    x = place.rows(_embed(cfg, table, ids_bt))
    return _run(cfg, tree, x, _Mixers(lightning, softmax), None, place)[0]


def start(cfg: TNLConfig, batch: int, max_len: int = 0) -> State:
    """The state before any token; `max_len` is the room of the softmax layers, if there are any."""

    def of(stretch: Stretch) -> Any:
        if stretch.softmax:
            one = attentions.empty_cache(cfg.attention, batch, max_len, jnp.dtype(cfg.dtype))
            return jax.tree.map(lambda x: jnp.broadcast_to(x, (stretch.num, *x.shape)), one)
        keys = lrpe.width(cfg.head_dim, stretch.lrpe)
        return jnp.zeros((stretch.num, batch, cfg.num_heads, keys, cfg.head_dim), jnp.float32)

    real = jnp.zeros((batch, max_len), bool) if cfg.softmax_layers else None
    return State(jnp.zeros((), jnp.int32), tuple(map(of, cfg.stretches)), real)


def _longer(state: State, mask_bt: Array | None, shape: tuple[int, ...]) -> Array | None:
    """`state.real` after tokens of a shape [b, t]."""
    if state.real is None:
        return None
    mask = jnp.ones(shape, bool) if mask_bt is None else mask_bt
    return jax.lax.dynamic_update_slice(
        state.real, mask, (jnp.zeros((), jnp.int32), state.position)
    )


def _room(state: State) -> int:
    assert state.real is not None  # there are softmax layers
    return state.real.shape[1] - int(state.position)


def _cached(cfg: TNLConfig, real: Array | None) -> Callable[[PyTree, Array, Any], Any]:
    """Softmax attention of new tokens to a cache."""

    def softmax(p: PyTree, x: Array, inputs: Any) -> tuple[Array, attentions.Cache]:
        return attentions.step(p["attention"], cfg.attention, x, inputs[1], mask=real)

    return softmax


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
    real = _longer(state, mask_bt, ids_bt.shape)

    def lightning(p: PyTree, x: Array, inputs: Any) -> tuple[Array, Array | None]:
        q, k, v, gate = _project(p, x, positions)
        if mask_bt is not None:
            v = jnp.where(mask_bt[:, :, None, None], v, 0)
        o, memory = attention(q, k, v, inputs[0], initial_state=inputs[1], return_final_state=True)
        return _mix(p, cfg, o, gate), memory

    mixers = _Mixers(lightning, _cached(cfg, real))
    x, memory = _run(cfg, tree, _embed(cfg, tree, ids_bt), mixers, state.memory)
    return x, State(state.position + seq_len, memory, real)


def step(tree: PyTree, cfg: TNLConfig, state: State, ids_b: Array) -> tuple[Array, State]:
    """One token: hidden states [b, d] and the next state."""
    positions = jnp.broadcast_to(state.position, (ids_b.shape[0], 1))
    real = _longer(state, None, positions.shape)

    def lightning(p: PyTree, x: Array, inputs: Any) -> tuple[Array, Array]:
        q, k, v, gate = _project(p, x, positions)
        o, memory = lightning_attention_step(q[:, 0], k[:, 0], v[:, 0], inputs[0], inputs[1])
        return _mix(p, cfg, o[:, None], gate), memory

    mixers = _Mixers(lightning, _cached(cfg, real))
    x, memory = _run(cfg, tree, _embed(cfg, tree, ids_b[:, None]), mixers, state.memory)
    return x[:, 0], State(state.position + 1, memory, real)


@functools.cache
def language_model(
    cfg: TNLConfig,
    attention: Attention = lightning_attention,
    implementation: attentions.Implementation = None,
) -> LanguageModel:
    """The model as the trainer and the generator take it; arguments as in `hidden`.

    >>> from jaxml.tnl.config import PRESETS
    >>> language_model(PRESETS["tiny"]).num_params()
    31264
    """
    return LanguageModel(
        name="TNL",
        vocab_size=cfg.vocab_size,
        declared=params(cfg),
        hidden=lambda p, ids, **more: hidden(
            p, cfg, ids, attention=attention, implementation=implementation, **more
        ),
        table=lambda p: p["embed"]["embedding"],
        start=lambda batch, max_len: start(cfg, batch, max_len),
        prefill=lambda p, s, ids, mask=None: prefill(p, cfg, s, ids, mask, attention=attention),
        step=lambda p, s, ids: step(p, cfg, s, ids),
        flops_per_token=functools.partial(flops.tnl, cfg),
        room=_room if cfg.softmax_layers else None,
    )

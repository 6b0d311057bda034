"""A TransNormerLLM on a mesh: rows over data and fsdp, heads over model, time over seq.

Parameters lie in parts and a layer's are gathered where it runs; tokens are never gathered. What
travels is parameters, their gradients and, between stretches of time, states.
"""

import dataclasses
import functools
import math
from typing import Any

import jax
from jax.sharding import Mesh, PartitionSpec

from jaxml.core.types import Array
from jaxml.dist import collective, rules, shard
from jaxml.nn import loss
from jaxml.tnl import model, softmax
from jaxml.tnl.config import TNLConfig, TransformerConfig
from jaxml.tnl.language_model import LanguageModel, Placement
from jaxml_kernels.lightning_attention import lightning_attention_sharded

ROWS = rules.TENSOR.of("batch")
AXES = (*ROWS, *rules.TENSOR.of("seq"))
"""Mesh axes that split tokens."""


@functools.cache
def language_model(cfg: TNLConfig, mesh: Mesh) -> LanguageModel:
    """The model whose training loss is computed over all devices of a mesh; of one, the plain one.

    A batch that the mesh does not divide, and all of generation, is placed by the compiler.

    Raises:
      ValueError: softmax layers on a mesh that splits time.
    """
    if cfg.softmax_layers and mesh.shape["seq"] > 1:
        raise ValueError(
            "softmax_layers cannot be combined with a mesh axis seq > 1; "
            f"got softmax_layers={cfg.softmax_layers}."
        )
    if mesh.size == 1:
        return model.language_model(cfg)
    attention = _attention(mesh)

    def hidden(params: Any, ids_bt: Array, **more: Any) -> Array:
        if not divides(mesh, ids_bt):
            return whole.hidden(params, ids_bt, **more)
        place = placement(mesh)
        return model.hidden(params, cfg, ids_bt, attention=attention, place=place, **more)

    whole = model.language_model(cfg)
    return dataclasses.replace(
        whole, hidden=hidden, cross_entropy=functools.partial(cross_entropy, mesh)
    )


@functools.cache
def transformer(cfg: TransformerConfig, mesh: Mesh) -> LanguageModel:
    """The baseline likewise; where time is split, its keys and values are gathered."""
    whole = softmax.language_model(cfg)
    if mesh.size == 1:
        return whole

    def hidden(params: Any, ids_bt: Array, **more: Any) -> Array:
        if not divides(mesh, ids_bt):
            return whole.hidden(params, ids_bt, **more)
        return softmax.hidden(params, cfg, ids_bt, place=placement(mesh), **more)

    loss_of = functools.partial(cross_entropy, mesh)
    return dataclasses.replace(whole, hidden=hidden, cross_entropy=loss_of)


def divides(mesh: Mesh, ids_bt: Array) -> bool:
    """Whether every device gets as many rows and as much time."""
    rows = math.prod(mesh.shape[axis] for axis in ROWS)
    return ids_bt.shape[0] % rows == 0 and ids_bt.shape[1] % mesh.shape["seq"] == 0


def placement(mesh: Mesh) -> Placement:
    """Activations split by rows and time; weights gathered over fsdp where they are used."""
    return Placement(
        rows=lambda x: shard.constrain(x, ("batch", "seq", None), mesh, rules.TENSOR),
        weights=lambda p, declared, dtype: shard.gather(p, declared, mesh, rules.TENSOR, dtype),
    )


def cross_entropy(
    mesh: Mesh,
    x_btd: Array,
    table_vd: Array,
    labels_bt: Array,
    mask: Array | None,
    chunk: int | None,
) -> tuple[Array, Array]:
    """`loss.chunked_cross_entropy`, every device over its own tokens; the table may be split."""
    axes = tuple(axis for axis in AXES if mesh.shape[axis] > 1)
    if not axes or not divides(mesh, labels_bt):
        return loss.chunked_cross_entropy(x_btd, table_vd, labels_bt, mask, chunk)
    tokens = PartitionSpec(*(tuple(a for a in part if a in axes) for part in (ROWS, ("seq",))))
    given = (x_btd, labels_bt) if mask is None else (x_btd, labels_bt, mask)

    def local(table: Array, x: Array, labels: Array, *mask: Array) -> tuple[Array, Array]:
        mean, count = loss.chunked_cross_entropy(x, table, labels, *mask, chunk=chunk)
        return collective.weighted_mean(mean, count, axes), collective.psum(count, axes)

    return jax.shard_map(
        local,
        mesh=mesh,
        in_specs=(PartitionSpec(), *(tokens for _ in given)),
        out_specs=PartitionSpec(),
        axis_names=set(axes),
    )(table_vd, *given)


@functools.cache
def _attention(mesh: Mesh) -> model.Attention:
    def attention(
        q: Array, k: Array, v: Array, log_decay: Array, **more: Any
    ) -> tuple[Array, Array | None]:
        how: dict[str, Any] = {"return_final_state": False} | more
        return lightning_attention_sharded(
            q, k, v, log_decay, mesh=mesh, batch_axes=ROWS, head_axis="model", **how
        )

    return attention

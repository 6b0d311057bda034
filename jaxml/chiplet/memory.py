"""What lies in the buffers of a die, and what goes to DRAM."""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp

from jaxml.chiplet.compute import Chunking
from jaxml.chiplet.config import ModelShape, Number, System
from jaxml.chiplet.method import Method
from jaxml.chiplet.rounding import Rounding
from jaxml.chiplet.workload import Layer, Linear

MIN_CHUNK = 16
"""Fewer tokens than this in a chunk count as infeasible."""


def chunking(
    linears: Sequence[tuple[Linear, Method]],
    system: System,
    batch_tokens: Number,
    rounding: Rounding,
) -> Chunking:
    """The largest chunks that the activation buffer holds, all of one size."""
    per_token = [method.token_bytes(linear, system) for linear, method in linears]
    widest = per_token[0]
    for other in per_token[1:]:
        widest = jnp.maximum(widest, other)
    limit = jnp.maximum(rounding.floor(system.die.activation_sram_bytes, widest), 1)
    fitting = jnp.minimum(limit, batch_tokens)
    return Chunking(batch_tokens, limit, rounding.ceil(batch_tokens, fitting))


def weight_bytes(layer: Layer, system: System) -> Number:
    """Weights of both blocks (one computes, the other is fetched) and gradients of the larger."""
    formats, n = system.formats, system.mesh.num_dies
    attention, ffn = layer.params
    trained = adapter_params(layer, system) if system.training.lora_rank else (attention, ffn)
    gradients = jnp.maximum(*trained) * formats.gradient_bytes
    return ((attention + ffn) * formats.weight_bytes + gradients) / n


def adapter_params(layer: Layer, system: System) -> tuple[Number, Number]:
    """Weights of the adapters of the two blocks."""
    rank = system.training.lora_rank
    attention, ffn = (sum(m.inputs + m.outputs for m in block) for block in layer.linears)
    return rank * attention, rank * ffn


class BlockBytes(NamedTuple):
    """DRAM traffic of a block for a batch."""

    forward: Number
    backward: Number


def dram_bytes(
    model: ModelShape, layer: Layer, system: System, batch_tokens: Number
) -> tuple[BlockBytes, BlockBytes]:
    """Traffic of the attention and the feed-forward block of one layer.

    Weights pass once per batch and direction, since the loop over chunks is inside the loop over
    blocks. Between blocks activations go out and come in (2 h; 3 h in backward), and what backward
    needs is stashed, unless it is recomputed. Unfused, every layer's output goes out and comes in.
    """
    h, f, kv, g = model.width, model.ffn_width, layer.kv_width, 1 + model.gated
    training, formats = system.training, system.formats
    stash = (0.0, 0.0) if training.recompute else (2 * h + 2 * kv, g * f)
    ahead = [2 * h + kept for kept in stash]
    back = [3 * h + kept for kept in stash]
    if not training.fused:
        ahead = [11 * h + 4 * kv, 7 * h + 2 * g * f + 2 * f]
        back = [2 * features for features in ahead]
    rank = training.lora_rank
    trained = adapter_params(layer, system) if rank else layer.params
    found = []
    for i, params in enumerate(layer.params):
        weights = params * formats.weight_bytes
        tokens_bytes = batch_tokens * formats.activation_bytes
        update = trained[i] * formats.optimizer_bytes
        found.append(
            BlockBytes(tokens_bytes * ahead[i] + weights, tokens_bytes * back[i] + weights + update)
        )
    return found[0], found[1]


def dram_bytes_s(system: System) -> Number:
    """Bandwidth of all channels: the rim grows like the sum of the sides."""
    dram, mesh = system.dram, system.mesh
    edges = 2 * (mesh.rows + mesh.cols)
    return dram.channels_per_edge * edges * dram.channel_bytes_s * dram.efficiency

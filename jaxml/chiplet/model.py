"""The cost of a batch: time, energy, where they go, and whether the design is possible."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxml.chiplet import collective, memory
from jaxml.chiplet.collective import NOTHING, Traffic, total
from jaxml.chiplet.compute import Chunking, activation_s, attention_s, linear_work
from jaxml.chiplet.config import ModelShape, Number, System
from jaxml.chiplet.method import METHODS, Job, Method, key_value_stream
from jaxml.chiplet.rounding import Rounding
from jaxml.chiplet.workload import Layer, layer, layer_flop


class Phase(NamedTuple):
    """A block in one direction, seconds per batch and layer."""

    compute_s: Number
    nop_s: Number
    dram_s: Number
    total_s: Number


class Energy(NamedTuple):
    """Joules of a batch."""

    mac_j: Number
    sram_j: Number
    nop_j: Number
    dram_j: Number
    static_j: Number


class Report(NamedTuple):
    """The cost of one batch; every entry is an array of the shape of the inputs.

    Attributes:
      time_s: of a batch.
      energy_j: of a batch.
      phases: seconds by (attention, ffn) x (forward, backward), summed over layers.
      energy: joules by cause.
      flop: done per batch, recomputation included.
      mfu: useful FLOP over time and peak.
      hfu: done FLOP over time and peak.
      chunk_tokens: t.
      num_chunks: n.
      chunk_limit: most tokens that fit the activation buffers, t_max.
      sent_bytes: sent by a die over the package links.
      byte_hops: bytes times physical hops.
      dram_bytes: to and from memory.
      feasible: whether both margins are at least 0.
      weight_margin: free share of the weight buffers; negative if they overflow.
      chunk_margin: `t_max / 16 - 1`; negative if a chunk is too small to be worth it.
    """

    time_s: Number
    energy_j: Number
    phases: dict[str, Phase]
    energy: Energy
    flop: Number
    mfu: Number
    hfu: Number
    chunk_tokens: Number
    num_chunks: Number
    chunk_limit: Number
    sent_bytes: Number
    byte_hops: Number
    dram_bytes: Number
    feasible: Number
    weight_margin: Number
    chunk_margin: Number

    @property
    def compute_s(self) -> Number:
        """Seconds of compute."""
        return sum(phase.compute_s for phase in self.phases.values())

    @property
    def nop_s(self) -> Number:
        """Seconds of the package links."""
        return sum(phase.nop_s for phase in self.phases.values())

    @property
    def dram_s(self) -> Number:
        """Seconds of DRAM, hidden behind the rest where shorter."""
        return sum(phase.dram_s for phase in self.phases.values())

    @property
    def edp_js(self) -> Number:
        """Energy times delay."""
        return self.time_s * self.energy_j


type Assignment = tuple[Method, Method, Method, Method]


class _Block(NamedTuple):
    """Compute seconds and traffic of a block per chunk, (forward, backward)."""

    compute: tuple[Number, Number]
    traffic: tuple[Traffic, Traffic]


def _block(
    index: int,
    shape: Layer,
    model: ModelShape,
    methods: Assignment,
    job: Job,
    chunks: Chunking,
    max_arrays: int,
) -> _Block:
    system, rank = job.system, job.system.training.lora_rank
    pairs = list(zip(shape.linears[index], methods[2 * index : 2 * index + 2], strict=True))
    work = [linear_work(m, method, system, chunks, job.rounding, max_arrays) for m, method in pairs]
    ahead = [method.forward(m, job) for m, method in pairs]
    back = [method.backward(m, job) for m, method in pairs]
    if rank:
        added = [method.adapt(m, job, rank) for m, method in pairs]
        ahead += [forward for forward, _ in added]
        back += [backward for _, backward in added]
    if pairs[0][1].cut is not pairs[1][1].cut:
        turned = _turn(job, shape, index)
        ahead.append(turned)
        back.append(turned)
    if index == 0:
        mixed = pairs[0][1].cut is not pairs[1][1].cut
        stream = key_value_stream(shape, job) if mixed else pairs[0][1].stream(shape, job)
        ahead.append(stream)
        back += [stream, stream]
        other = attention_s(model, system, job.tokens)
    else:
        other = activation_s(model, system, job.tokens)
    forward_s = sum(w.forward_s for w in work) + other
    backward_s = sum(w.backward_s for w in work) + 2 * other
    forward, backward = total(NOTHING, *ahead), total(NOTHING, *back)
    if system.training.recompute:
        backward_s, backward = backward_s + forward_s, total(backward, forward)
    return _Block((forward_s, backward_s), (forward, backward))


def _turn(job: Job, shape: Layer, index: int) -> Traffic:
    """Between a tiled and a broadcast matrix the block's output changes its layout."""
    mesh, formats = job.system.mesh, job.system.formats
    width = shape.linears[index][1].outputs
    num_bytes = job.tokens * width * formats.activation_bytes / mesh.num_dies
    return collective.transpose(mesh, num_bytes, job.system.link)


def _phase(compute_s: Number, nop_s: Number, dram_s: Number, overlap: Number) -> Phase:
    after = compute_s + nop_s
    on_package = (1 - overlap) * after + overlap * jnp.maximum(compute_s, nop_s)
    return Phase(compute_s, nop_s, dram_s, jnp.maximum(on_package, dram_s))


def evaluate(
    model: ModelShape,
    system: System,
    batch_tokens: Number,
    methods: Assignment,
    rounding: Rounding,
    max_arrays: int,
) -> Report:
    """The pure model: no checks, for use inside `jit`, `vmap` and `grad`; see `simulate`."""
    shape = layer(model, rounding)
    flat = [m for block in shape.linears for m in block]
    pairs = list(zip(flat, methods, strict=True))
    chunks = memory.chunking(pairs, system, batch_tokens, rounding)
    job = Job(chunks.tokens, system, rounding)
    blocks = [_block(i, shape, model, methods, job, chunks, max_arrays) for i in range(2)]
    moved = memory.dram_bytes(model, shape, system, batch_tokens)
    depth, n, speed = model.num_layers, chunks.count, memory.dram_bytes_s(system)
    phases, traffic = {}, NOTHING
    for i, name in enumerate(("attention", "ffn")):
        for way, direction in enumerate(("forward", "backward")):
            spent = blocks[i].traffic[way]
            nop_s = methods[2 * i].busy(spent)
            phases[f"{name}_{direction}"] = Phase(
                *(
                    depth * value
                    for value in _phase(
                        n * blocks[i].compute[way],
                        n * nop_s,
                        moved[i][way] / speed,
                        system.training.nop_overlap,
                    )
                )
            )
            traffic = total(traffic, spent)
    return _report(model, shape, system, chunks, phases, collective.times(traffic, n), moved)


def _report(
    model: ModelShape,
    shape: Layer,
    system: System,
    chunks: Chunking,
    phases: dict[str, Phase],
    traffic: Traffic,
    moved: Any,
) -> Report:
    depth, dies, energy = model.num_layers, system.mesh.num_dies, system.energy
    time_s = sum(phase.total_s for phase in phases.values())
    useful, done = (depth * flop for flop in _flop(model, shape, system, chunks.batch_tokens))
    dram = depth * sum(part for block in moved for part in block)
    sent, far = depth * traffic.sent_bytes, depth * traffic.byte_hops
    macs, formats = done / 2, system.formats
    read = 2 * (formats.activation_bytes + formats.partial_bytes) / system.die.array_rows
    pico = 1e-12
    parts = Energy(
        macs * (energy.mac_pj * pico),
        (macs * read + 2 * dies * sent) * (energy.sram_pj_byte * pico),
        far * (8 * energy.nop_pj_bit * pico),
        dram * (8 * energy.dram_pj_bit * pico),
        energy.static_w * dies * time_s,
    )
    peak_flop = time_s * (dies * system.die.peak_flop_s)
    buffer = system.die.weight_sram_bytes
    weight_margin = 1 - memory.weight_bytes(shape, system) / buffer
    chunk_margin = chunks.limit / memory.MIN_CHUNK - 1
    return Report(
        time_s=time_s,
        energy_j=sum(parts),
        phases=phases,
        energy=parts,
        flop=done,
        mfu=useful / peak_flop,
        hfu=done / peak_flop,
        chunk_tokens=chunks.tokens,
        num_chunks=chunks.count,
        chunk_limit=chunks.limit,
        sent_bytes=sent,
        byte_hops=far,
        dram_bytes=dram,
        feasible=(weight_margin >= 0) & (chunk_margin >= 0),
        weight_margin=weight_margin,
        chunk_margin=chunk_margin,
    )


def _flop(
    model: ModelShape, shape: Layer, system: System, batch_tokens: Number
) -> tuple[Number, Number]:
    """Useful and done FLOP of a layer."""
    params, training = sum(shape.params), system.training
    useful = layer_flop(model, params, batch_tokens)
    if training.lora_rank:
        adapters = sum(memory.adapter_params(shape, system))
        useful = useful - 2 * params * batch_tokens + 6 * adapters * batch_tokens
    return useful, useful * 4 / 3 if training.recompute else useful


@functools.partial(jax.jit, static_argnames=("methods", "rounding", "max_arrays"))
def evaluate_jit(
    model: ModelShape,
    system: System,
    batch_tokens: Number,
    methods: Assignment,
    rounding: Rounding,
    max_arrays: int,
) -> Report:
    """`evaluate`, compiled."""
    return evaluate(model, system, batch_tokens, methods, rounding, max_arrays)


def assignment(method: str) -> Assignment:
    """The method of every matrix (qkv, out, up, down)."""
    one = METHODS[method]
    return one, one, one, one

"""Several packages: pipeline stages and copies of the model on a network outside the packages."""

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp

from jaxml.chiplet import field
from jaxml.chiplet.config import ModelShape, Number, System
from jaxml.chiplet.field import field as number
from jaxml.chiplet.field import record
from jaxml.chiplet.model import Report, assignment, evaluate_jit
from jaxml.chiplet.presets import SEQUENCES_PER_BATCH
from jaxml.chiplet.rounding import EXACT, SMOOTH
from jaxml.chiplet.simulate import as_arrays, check_inputs
from jaxml.chiplet.workload import layer


@record
class Cluster:
    """Packages and the network between them.

    Attributes:
      pipeline: p, stages; a package holds `num_layers / pipeline` layers.
      data: copies of the pipeline, each with its part of the batch.
      micro_batches: m, parts of a copy's batch that pass one after the other.
      interleave: v, model chunks of a stage: less idle time, more messages.
      bandwidth_bytes_s: of a package to the network, one direction.
      latency_s: of a message.
      network_pj_bit: energy of the network.
      gradient_overlap: share of the gradients' all-reduce hidden behind the backward pass.
    """

    pipeline: Number = number("packages", "a whole number >= 1", default=1)
    data: Number = number("copies", "a whole number >= 1", default=1)
    micro_batches: Number = number("parts", "a whole number >= 1", default=1)
    interleave: Number = number("chunks", "a whole number >= 1", default=1)
    bandwidth_bytes_s: Number = number("bytes/s", "> 0", default=400e9)
    latency_s: Number = number("s", ">= 0", default=1e-6)
    network_pj_bit: Number = number("pJ/bit", ">= 0", default=5.0)
    gradient_overlap: Number = number("", "in [0, 1]", default=0.0)


class ClusterReport(NamedTuple):
    """The cost of one batch on all packages.

    Attributes:
      time_s: of a batch.
      energy_j: of all packages and the network.
      work_s: in which a stage computes.
      bubble_s: in which it waits for the pipeline to fill and drain.
      messages_s: activations and their gradients between stages.
      gradients_s: all-reduce of the gradients that is not hidden.
      network_bytes: over the network.
      mfu: useful FLOP over time and peak of all packages.
      package: report of one stage and one micro-batch.
      feasible: of the packages.
    """

    time_s: Number
    energy_j: Number
    work_s: Number
    bubble_s: Number
    messages_s: Number
    gradients_s: Number
    network_bytes: Number
    mfu: Number
    package: Report
    feasible: Number


def simulate_cluster(
    model: ModelShape,
    system: System,
    cluster: Cluster,
    *,
    method: str = "hecaton",
    batch_tokens: Number | None = None,
    smooth: bool = False,
) -> ClusterReport:
    """Time and energy of a batch on `pipeline * data` packages.

    The package is the model of `simulate`, with the layers of a stage and the tokens of a
    micro-batch; weights pass from DRAM once per micro-batch, the optimizer runs once per batch.
    A stage works for m micro-batches and idles for (p - 1) / v of them (1F1B, interleaved).

    Raises:
      ValueError: see `simulate`; or layers, batch, micro-batches that do not divide.
    """
    batch = SEQUENCES_PER_BATCH * model.seq_len if batch_tokens is None else batch_tokens
    field.validate(cluster)
    max_arrays = check_inputs(model, system, method, batch, smooth)
    p, copies, m, v = cluster.pipeline, cluster.data, cluster.micro_batches, cluster.interleave
    if not smooth:
        _must_divide("pipeline * interleave", p * v, "num_layers", model.num_layers)
        _must_divide("data * micro_batches", copies * m, "batch_tokens", batch)
    formats = system.formats
    once = dataclasses.replace(formats, optimizer_bytes=formats.optimizer_bytes / m)
    stage = dataclasses.replace(model, num_layers=model.num_layers / p)
    inside = dataclasses.replace(system, formats=once)
    tokens = batch / (copies * m)
    rounding = SMOOTH if smooth else EXACT
    inputs = as_arrays(stage, inside, tokens)
    package = evaluate_jit(*inputs, assignment(method), rounding, max_arrays)
    work_s, bubble_s = m * package.time_s, (p - 1) / v * package.time_s
    edge = tokens * model.width * formats.activation_bytes
    many = jnp.where(jnp.asarray(p) > 1, 2.0 * v, 0.0)
    messages_s = many * (m + (p - 1) / v) * (edge / cluster.bandwidth_bytes_s + cluster.latency_s)
    held = stage.num_layers * _trained(model, system) * formats.gradient_bytes
    ring_s = 2 * (copies - 1) * (held / copies / cluster.bandwidth_bytes_s + cluster.latency_s)
    gradients_s = (1 - cluster.gradient_overlap) * ring_s
    time_s = work_s + bubble_s + messages_s + gradients_s
    network = 2 * v * edge * m * copies * (p - 1 / v) * (jnp.asarray(p) > 1)
    network = network + 2 * (copies - 1) * held * p
    packages = p * copies
    idle_w = system.energy.static_w * system.mesh.num_dies
    busy_j = packages * m * package.energy_j
    waiting_j = packages * idle_w * (time_s - work_s)
    energy_j = busy_j + waiting_j + network * 8 * cluster.network_pj_bit * 1e-12
    return ClusterReport(
        time_s=time_s,
        energy_j=energy_j,
        work_s=work_s,
        bubble_s=bubble_s,
        messages_s=messages_s,
        gradients_s=gradients_s,
        network_bytes=network,
        mfu=package.mfu * work_s / time_s,
        package=package,
        feasible=package.feasible,
    )


def _trained(model: ModelShape, system: System) -> Number:
    """Trained weights of a layer."""
    from jaxml.chiplet.memory import adapter_params

    shape = layer(model, SMOOTH)
    return sum(adapter_params(shape, system) if system.training.lora_rank else shape.params)


def _must_divide(part: str, small: Number, whole: str, large: Number) -> None:
    if large % small:
        raise ValueError(f"{part} must divide {whole}; got {part}={small}, {whole}={large}.")

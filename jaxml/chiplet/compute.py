"""Cycles of one die: weight-stationary arrays, attention, vector unit."""

from typing import NamedTuple

import jax.numpy as jnp

from jaxml.chiplet.config import DieConfig, ModelShape, Number, System
from jaxml.chiplet.method import Method
from jaxml.chiplet.rounding import EXACT, Rounding
from jaxml.chiplet.workload import Linear


class Chunking(NamedTuple):
    """How the tokens of a batch pass through the package.

    Attributes:
      batch_tokens: B.
      limit: most tokens that fit, t_max.
      count: n, number of chunks.
    """

    batch_tokens: Number
    limit: Number
    count: Number

    @property
    def tokens(self) -> Number:
        """Tokens of a chunk, t."""
        return self.batch_tokens / self.count


def gemm_cycles(
    tokens: tuple[Number, Number],
    inputs: tuple[Number, Number],
    outputs: tuple[Number, Number],
    die: DieConfig,
    rounding: Rounding = EXACT,
    max_arrays: int = 16,
) -> Number:
    """Cycles of a product [t, K] x [K, M] on the arrays of one die.

    A tile of weights of the size of an array stays while the tokens stream through it: `t + 2 rows
    + cols - 2` cycles. Tiles, or tiles and parts of the tokens, are dealt to the arrays; the best
    of the splits into 1, 2, 4, ... parts is taken.

    Args:
      tokens: t as a quotient (whole, parts), so that rounding up is exact in float32.
      inputs: K, likewise.
      outputs: M, likewise.
      die: whose arrays.
      rounding: exact or smooth.
      max_arrays: largest number of arrays that may be met (static).

    >>> float(gemm_cycles((256, 1), (256, 1), (256, 1), DieConfig(1, 32, 32), max_arrays=1))
    22400.0
    """
    fill = 2 * die.array_rows + die.array_cols - 2
    (t, t_parts), (k, k_parts), (m, m_parts) = tokens, inputs, outputs
    folds = rounding.ceil(k, k_parts * die.array_rows) * rounding.ceil(m, m_parts * die.array_cols)
    best = None
    for split in rounding.splits(max_arrays):
        cycles = rounding.ceil(folds * split, die.num_arrays) * (
            rounding.ceil(t, t_parts * split) + fill
        )
        if split > 1:
            cycles = jnp.where(split <= die.num_arrays, cycles, jnp.inf)
        best = cycles if best is None else jnp.minimum(best, cycles)
    return best


class Work(NamedTuple):
    """Seconds of a die on one matrix and one chunk."""

    forward_s: Number
    backward_s: Number


def linear_work(
    linear: Linear,
    method: Method,
    system: System,
    chunking: Chunking,
    rounding: Rounding,
    max_arrays: int,
) -> Work:
    """Time of a matrix; backward is two products, or one and the adapters' where it is frozen."""
    die, rank = system.die, system.training.lora_rank
    k_parts, m_parts = method.cut(linear, system.mesh)
    whole, n = chunking.batch_tokens, chunking.count
    inputs, outputs = (linear.inputs, k_parts), (linear.outputs, m_parts)
    base = gemm_cycles((whole, n), inputs, outputs, die, rounding, max_arrays)
    if not rank:
        return Work(base / die.clock_hz, 2 * base / die.clock_hz)
    thin = gemm_cycles((whole, n * m_parts), inputs, (rank, 1), die, rounding, max_arrays)
    thin += gemm_cycles((whole, n * k_parts), (rank, 1), outputs, die, rounding, max_arrays)
    return Work((base + thin) / die.clock_hz, (base + 2 * thin) / die.clock_hz)


def attention_s(model: ModelShape, system: System, tokens: Number) -> Number:
    """Scores and mixing, causal, and the softmax and norms of the vector unit; forward."""
    die, n = system.die, system.mesh.num_dies
    seen = (model.seq_len + 1) / 2
    flop_s = die.attention_efficiency * die.peak_flop_s
    products = 4 * tokens * seen * model.width / n / flop_s
    vector = (5 * tokens * seen * model.num_heads + 8 * tokens * model.width) / n
    return products + vector / die.vector_lanes / die.clock_hz


def activation_s(model: ModelShape, system: System, tokens: Number) -> Number:
    """Activation function, gate and norm of the feed-forward block; forward."""
    width = 6 * (1 + model.gated) * model.ffn_width + 8 * model.width
    return width * tokens / (system.mesh.num_dies * system.die.vector_lanes * system.die.clock_hz)

"""How a layer is spread over the dies: what every method gathers, reduces and keeps.

A method says how a matrix is cut, what its forward and backward move, and which bytes of a token
lie on a die. Everything is per matrix, so that methods can be mixed.
"""

import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax.numpy as jnp

from jaxml.chiplet import collective
from jaxml.chiplet.collective import NOTHING, Traffic, total
from jaxml.chiplet.config import Mesh2D, Number, System
from jaxml.chiplet.rounding import Rounding
from jaxml.chiplet.workload import Layer, Linear


class Job(NamedTuple):
    """A chunk of `tokens` on a system."""

    tokens: Number
    system: System
    rounding: Rounding

    def col(self, width: Number) -> Traffic:
        """Gather or scatter of `width` features per token along the columns."""
        mesh = self.system.mesh
        gathered = self.tokens * width * self.system.formats.activation_bytes / mesh.cols
        return collective.along_cols(mesh, gathered, self.system.link)

    def row(self, width: Number) -> Traffic:
        """Gather or scatter of `width` features per token along the rows."""
        mesh = self.system.mesh
        gathered = self.tokens * width * self.system.formats.activation_bytes / mesh.rows
        return collective.along_rows(mesh, gathered, self.system.link)


type Move = Callable[[Linear, Job], Traffic]


class Method(NamedTuple):
    """A way to spread matrices.

    Attributes:
      cut: into how many parts K and M of a matrix are cut, as (of K, of M).
      forward: traffic of Y = X W for a chunk.
      backward: traffic of dX and dW.
      stream: traffic of keys and values of attention, forward; backward is twice that.
      token_bytes: bytes of one token on a die while the matrix is applied.
      adapt: traffic that adapters of a rank add to a matrix, as (forward, backward).
      busy: seconds of link time of a block.
      square: whether the mesh must be square.
    """

    cut: Callable[[Linear, Mesh2D], tuple[Number, Number]]
    forward: Move
    backward: Move
    stream: Callable[[Layer, Job], Traffic]
    token_bytes: Callable[[Linear, System], Number]
    adapt: Callable[[Linear, Job, int], tuple[Traffic, Traffic]]
    busy: Callable[[Traffic], Number]
    square: bool = False


def _in_turn(traffic: Traffic) -> Number:
    return traffic.time_s


def _at_once(traffic: Traffic) -> Number:
    return jnp.maximum(traffic.cols_s, traffic.rows_s)


def _no_stream(layer: Layer, job: Job) -> Traffic:
    return NOTHING


def _whole(linear: Linear, mesh: Mesh2D) -> tuple[Number, Number]:
    """Megatron: the first matrix of a block by outputs, the second by inputs."""
    n = mesh.num_dies
    return (1, n) if linear.orientation == "col" else (n, 1)


def _resident(linear: Linear, system: System, cut: Callable) -> Number:
    k_parts, m_parts = cut(linear, system.mesh)
    formats = system.formats
    return (
        linear.inputs / k_parts * formats.activation_bytes
        + linear.outputs / m_parts * formats.partial_bytes
    )


def _one_d(all_reduce: Callable[..., Traffic]) -> Method:
    """One-dimensional tensor parallelism: an all-reduce per block and direction."""

    def reduce(width: Number, job: Job) -> Traffic:
        num_bytes = job.tokens * width * job.system.formats.activation_bytes
        return all_reduce(job.system.mesh, num_bytes, job.system.link, job.rounding)

    def forward(linear: Linear, job: Job) -> Traffic:
        return reduce(linear.outputs, job) if linear.orientation == "row" else NOTHING

    def backward(linear: Linear, job: Job) -> Traffic:
        return reduce(linear.inputs, job) if linear.orientation == "col" else NOTHING

    def adapt(linear: Linear, job: Job, rank: int) -> tuple[Traffic, Traffic]:
        return reduce(rank, job), reduce(rank, job)

    bytes_of = functools.partial(_resident, cut=_whole)
    return Method(_whole, forward, backward, _no_stream, bytes_of, adapt, _in_turn)


def _tiles(linear: Linear, mesh: Mesh2D) -> tuple[Number, Number]:
    """Hecaton: K along one axis of the mesh, M along the other."""
    sides = (mesh.cols, mesh.rows)
    return sides if linear.orientation == "col" else sides[::-1]


def _moves(linear: Linear, job: Job) -> tuple[Traffic, Traffic]:
    """Gathering X, scattering Y."""
    if linear.orientation == "col":
        return job.col(linear.inputs), job.row(linear.outputs)
    return job.row(linear.inputs), job.col(linear.outputs)


def _tiled_forward(linear: Linear, job: Job) -> Traffic:
    return total(*_moves(linear, job))


def _tiled_backward(linear: Linear, job: Job) -> Traffic:
    gather, scatter = _moves(linear, job)
    training = job.system.training
    again = training.regather and not training.lora_rank
    return total(scatter, gather, gather if again else NOTHING)


def key_value_stream(layer: Layer, job: Job) -> Traffic:
    """Keys and values of a die's heads from all tokens, along the row.

    A key-value head is held by several dies where there are fewer heads than rows.
    """
    mesh = job.system.mesh
    least = jnp.minimum(layer.head_dim, layer.kv_width)
    features = jnp.maximum(layer.kv_width / mesh.rows, least)
    return job.row(2 * features * mesh.rows)


def _tiled_adapters(linear: Linear, job: Job, rank: int) -> tuple[Traffic, Traffic]:
    """What adapters of rank r add, forward and backward, where K and M are both cut.

    Die (r, c) multiplies its own tokens and features with A, before they are gathered; the sums Z
    are reduce-scattered along one axis and gathered along the other, which brings each die the
    tokens whose Y it will hold, so that Z B is added there. Backward goes the other way. The
    gradients of A and B are summed once per batch, which is neglected.
    """
    both = total(job.col(rank), job.row(rank))
    return both, both


def _tiled(busy: Callable[[Traffic], Number]) -> Method:
    bytes_of = functools.partial(_resident, cut=_tiles)
    moves = (_tiled_forward, _tiled_backward, key_value_stream)
    return Method(_tiles, *moves, bytes_of, _tiled_adapters, busy)


def _even(linear: Linear, mesh: Mesh2D) -> tuple[Number, Number]:
    q = jnp.sqrt(mesh.num_dies * jnp.ones(()))
    return q, q


def _summa(broadcasts: Callable[..., Traffic], stream: Callable) -> Method:
    """SUMMA: blocks of X and of W are broadcast along rows and columns, for every chunk again."""

    def move(width: Number, linear: Linear, job: Job) -> Traffic:
        mesh, formats = job.system.mesh, job.system.formats
        q, _ = _even(linear, mesh)
        x_bytes = job.tokens * width * formats.activation_bytes / q
        y_bytes = linear.inputs * linear.outputs * formats.weight_bytes / q
        return broadcasts(mesh, x_bytes, y_bytes, job.system.link, job.rounding)

    def forward(linear: Linear, job: Job) -> Traffic:
        return move(linear.inputs, linear, job)

    def backward(linear: Linear, job: Job) -> Traffic:
        inputs = move(linear.outputs, linear, job)
        frozen = job.system.training.lora_rank
        return inputs if frozen else total(inputs, move(linear.inputs, linear, job))

    def token_bytes(linear: Linear, system: System) -> Number:
        q, _ = _even(linear, system.mesh)
        return (2 * linear.inputs + linear.outputs) / q * system.formats.activation_bytes / q

    moves = (forward, backward, stream)
    return Method(_even, *moves, token_bytes, _tiled_adapters, _in_turn, square=True)


METHODS: Mapping[str, Method] = {
    "flat_ring": _one_d(collective.flat_all_reduce),
    "bidir_ring": _one_d(collective.bidir_all_reduce),
    "torus_ring": _one_d(collective.torus_all_reduce),
    "torus_dual": _one_d(collective.torus_dual_all_reduce),
    "optimus": _summa(collective.tree_broadcasts, _no_stream),
    "summa": _summa(collective.chain_broadcasts, _no_stream),
    "summa_kv": _summa(collective.chain_broadcasts, key_value_stream),
    "hecaton": _tiled(_in_turn),
    "dual": _tiled(_at_once),
}
"""By name. `dual` (gathers of one chunk during scatters of another) is ours; `summa_kv` charges
SUMMA for the keys and values, which the usual accounting leaves out."""

TITLES: Mapping[str, str] = {
    "flat_ring": "1D, flat ring",
    "bidir_ring": "1D, ring both ways",
    "torus_ring": "1D, torus",
    "torus_dual": "1D, torus, two halves",
    "optimus": "SUMMA, trees",
    "summa": "SUMMA, ideal chains",
    "summa_kv": "SUMMA, chains, KV charged",
    "hecaton": "Hecaton",
    "dual": "Hecaton, dual (ours)",
    "mixed": "best by matrix (ours)",
}

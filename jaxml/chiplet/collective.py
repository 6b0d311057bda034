"""Collectives on a mesh without wrap links: time, bytes sent by a die, bytes times physical hops.

A line of dies forms a ring by bypassing: 0, 2, 4, ..., 5, 3, 1. Every step of that ring takes at
most two physical hops and no directed link is used twice, so nothing waits. `wires.py` moves real
arrays over single links and finds the same numbers.
"""

from typing import Literal, NamedTuple

import jax.numpy as jnp

from jaxml.chiplet.config import LinkConfig, Mesh2D, Number
from jaxml.chiplet.rounding import EXACT, Rounding
from jaxml.core import check

Kind = Literal["all_gather", "reduce_scatter", "flat_all_reduce", "torus_all_reduce", "transpose"]
KINDS = ("all_gather", "reduce_scatter", "flat_all_reduce", "torus_all_reduce", "transpose")


class Traffic(NamedTuple):
    """What moving data costs.

    Attributes:
      cols_s: seconds in which links along columns are busy.
      rows_s: seconds in which links along rows are busy, after `cols_s` unless overlapped.
      sent_bytes: sent by one die (mean over dies).
      byte_hops: bytes times physical hops, over the whole package.
    """

    cols_s: Number
    rows_s: Number
    sent_bytes: Number
    byte_hops: Number

    @property
    def time_s(self) -> Number:
        """Columns after rows."""
        return self.cols_s + self.rows_s


NOTHING = Traffic(0.0, 0.0, 0.0, 0.0)


def total(*parts: Traffic) -> Traffic:
    """One after the other."""
    return Traffic(*(sum(values) for values in zip(*parts, strict=True)))


def times(traffic: Traffic, factor: Number) -> Traffic:
    """Repeated `factor` times."""
    return Traffic(*(value * factor for value in traffic))


def hops(n: Number) -> Number:
    """Physical hops of a step of the bypass ring: 0, 1, 2 for n = 1, 2, >= 3."""
    return jnp.clip(n - 1, 0, 2)


def _ring_s(n: Number, gathered_bytes: Number, link: LinkConfig) -> Number:
    step_s = hops(n) * link.latency_s + gathered_bytes / (n * link.bandwidth_bytes_s)
    return (n - 1) * step_s


def _ring_byte_hops(n: Number, gathered_bytes: Number) -> Number:
    return 2 * (n - 1) * (n - 1) / n * gathered_bytes


def along_cols(mesh: Mesh2D, gathered_bytes: Number, link: LinkConfig) -> Traffic:
    """Gather or reduce-scatter within every column; `gathered_bytes` is the whole of one column."""
    n, copies = mesh.rows, mesh.cols
    return Traffic(
        _ring_s(n, gathered_bytes, link),
        0.0,
        (n - 1) / n * gathered_bytes,
        copies * _ring_byte_hops(n, gathered_bytes),
    )


def along_rows(mesh: Mesh2D, gathered_bytes: Number, link: LinkConfig) -> Traffic:
    """Gather or reduce-scatter within every row; `gathered_bytes` is the whole of one row."""
    turned = along_cols(Mesh2D(mesh.cols, mesh.rows), gathered_bytes, link)
    return turned._replace(cols_s=0.0, rows_s=turned.cols_s)


def flat_all_reduce(
    mesh: Mesh2D, num_bytes: Number, link: LinkConfig, rounding: Rounding = EXACT
) -> Traffic:
    """All-reduce on one ring through all dies.

    The ring is a closed walk where a side is even, has one detour of two hops where both are odd,
    and is the bypass ring on a line.
    """
    n = mesh.num_dies
    line = jnp.minimum(mesh.rows, mesh.cols) <= 1
    odd = rounding.odd(n * jnp.ones(()))
    longest = jnp.where(line, hops(n), 1 + odd)
    ring_hops = jnp.where(line, 2 * (n - 1), n + odd)
    time_s = 2 * (n - 1) * (longest * link.latency_s + num_bytes / (n * link.bandwidth_bytes_s))
    share = 2 * (n - 1) * num_bytes / n
    return Traffic(time_s, 0.0, share, share * ring_hops)


def bidir_all_reduce(
    mesh: Mesh2D, num_bytes: Number, link: LinkConfig, rounding: Rounding = EXACT
) -> Traffic:
    """The flat ring with halves going round both ways at once."""
    fast = LinkConfig(2 * link.bandwidth_bytes_s, link.latency_s)
    return flat_all_reduce(mesh, num_bytes, fast, rounding)


def torus_all_reduce(
    mesh: Mesh2D, num_bytes: Number, link: LinkConfig, rounding: Rounding = EXACT
) -> Traffic:
    """Reduce-scatter in rows, all-reduce in columns, gather in rows, on bypass rings."""
    rows = along_rows(mesh, num_bytes, link)
    cols = along_cols(mesh, num_bytes / mesh.cols, link)
    return times(total(rows, cols), 2)


def torus_dual_all_reduce(
    mesh: Mesh2D, num_bytes: Number, link: LinkConfig, rounding: Rounding = EXACT
) -> Traffic:
    """Two halves at once, one rows first and one columns first."""
    half = num_bytes / 2
    first = torus_all_reduce(mesh, half, link)
    turned = torus_all_reduce(Mesh2D(mesh.cols, mesh.rows), half, link)
    busy_s = jnp.maximum(first.time_s, turned.time_s)
    sent, far = first.sent_bytes + turned.sent_bytes, first.byte_hops + turned.byte_hops
    return Traffic(busy_s, 0.0, sent, far)


def transpose(mesh: Mesh2D, num_bytes: Number, link: LinkConfig) -> Traffic:
    """Die (r, c) sends its `num_bytes` to (c, r), along its row first; square mesh.

    All that leaves row r turns at (r, r); its busiest link carries q - 1 messages.
    """
    q, n = mesh.rows, mesh.num_dies
    time_s = 2 * (q - 1) * link.latency_s + (q - 1) * num_bytes / link.bandwidth_bytes_s
    far = 2 * (q - 1) * q * (q + 1) / 3 * num_bytes
    return Traffic(time_s, 0.0, (n - q) / n * num_bytes, far)


def tree_broadcasts(
    mesh: Mesh2D, x_bytes: Number, y_bytes: Number, link: LinkConfig, rounding: Rounding = EXACT
) -> Traffic:
    """SUMMA with logarithmic broadcasts, X then W (the cost usually given for Optimus)."""
    q = _side(mesh)
    steps = jnp.log2(q)
    latency_s = 2 * q * (q - 1) * link.latency_s
    x_s, y_s = (steps * b / link.bandwidth_bytes_s for b in (x_bytes, y_bytes))
    far = mesh.num_dies * (x_bytes + y_bytes) * steps / 2
    return Traffic(y_s + latency_s / 2, x_s + latency_s / 2, _sent(q, x_bytes + y_bytes), far)


def chain_broadcasts(
    mesh: Mesh2D, x_bytes: Number, y_bytes: Number, link: LinkConfig, rounding: Rounding = EXACT
) -> Traffic:
    """SUMMA with ideally pipelined chains, X along rows while W goes along columns."""
    q = _side(mesh)
    busy_s = jnp.maximum(x_bytes, y_bytes) / link.bandwidth_bytes_s
    time_s = jnp.where(q > 1, busy_s + q * (q - 1) * link.latency_s, 0.0)
    sent = _sent(q, x_bytes + y_bytes)
    return Traffic(time_s, 0.0, sent, mesh.num_dies * sent)


def _side(mesh: Mesh2D) -> Number:
    return jnp.sqrt(mesh.num_dies * jnp.ones(()))


def _sent(q: Number, num_bytes: Number) -> Number:
    return num_bytes * (q - 1) / q


def cost(kind: Kind, shape: tuple[int, int], num_bytes: float, link: LinkConfig) -> Traffic:
    """Time and volume of one collective, on its own.

    Args:
      kind: which.
      shape: dies as (rows, cols); gathers run along the rows of the mesh.
      num_bytes: gathered bytes of a ring, reduced bytes of an all-reduce, or bytes of one die of a
        transpose.
      link: of the mesh.

    Raises:
      ValueError: an unknown kind, a shape below 1, negative bytes, a transpose that is not square.

    >>> time_s = cost("all_gather", (1, 4), 4096.0, LinkConfig(1e9, 0.0)).time_s
    >>> round(1e6 * float(time_s), 3)
    3.072
    """
    check.one_of(KINDS, kind=kind)
    rows, cols = shape
    check.at_least(1, rows=rows, cols=cols)
    check.at_least(0, num_bytes=num_bytes)
    mesh = Mesh2D(rows, cols)
    if kind == "transpose":
        if rows != cols:
            raise ValueError(f"rows must equal cols for a transpose; got rows={rows}, cols={cols}.")
        return transpose(mesh, num_bytes, link)
    moves = {"flat_all_reduce": flat_all_reduce, "torus_all_reduce": torus_all_reduce}
    return moves.get(kind, along_rows)(mesh, num_bytes, link)

"""How far the closed forms are from moving real arrays, as one number."""

import numpy as np

from jaxml.chiplet import collective, wires
from jaxml.chiplet.collective import Traffic
from jaxml.chiplet.config import LinkConfig, Mesh2D
from jaxml.chiplet.wired_linear import WiredLinear
from jaxml.chiplet.wires import Wires

SHAPES = ((1, 4), (2, 1), (2, 3), (3, 3), (3, 5), (4, 4), (5, 6), (8, 8))
_BYTES_S, _HOP_S = 3e9, 7e-9


def _difference(moved: Wires, traffic: Traffic) -> float:
    sent = sum(moved.sent.values()) / (moved.rows * moved.cols)
    pairs = (
        (moved.seconds, float(traffic.time_s)),
        (moved.byte_hops, float(traffic.byte_hops)),
        (sent, float(traffic.sent_bytes)),
    )
    return max(abs(a - b) / max(abs(a), 1e-300) for a, b in pairs)


def _all_reduces(shape: tuple[int, int], link: LinkConfig) -> float:
    dies = [(r, c) for r in range(shape[0]) for c in range(shape[1])]
    whole = {die: np.arange(2.0 * len(dies)) for die in dies}
    size, mesh = 16.0 * len(dies), Mesh2D(*shape)
    flat = Wires(*shape, bytes_s=_BYTES_S, hop_s=_HOP_S)
    wires.all_reduce(flat, [wires.closed_walk(*shape)], whole)
    torus = Wires(*shape, bytes_s=_BYTES_S, hop_s=_HOP_S)
    wires.torus_all_reduce(torus, whole)
    return max(
        _difference(flat, collective.flat_all_reduce(mesh, size, link)),
        _difference(torus, collective.torus_all_reduce(mesh, size, link)),
    )


def _linear(shape: tuple[int, int], link: LinkConfig) -> float:
    rows, cols = shape
    t, k, m = 2 * rows * cols, 3 * rows * cols, rows * cols
    draw = np.random.default_rng(0)
    x, w, dy = draw.normal(size=(t, k)), draw.normal(size=(k, m)), draw.normal(size=(t, m))
    moved = Wires(rows, cols, bytes_s=_BYTES_S, hop_s=_HOP_S)
    linear = WiredLinear(moved, "col")
    xs, ws = linear.split_x(x), linear.split_w(w)
    ys = linear.forward(xs, ws)
    linear.backward(xs, ws, linear.split_y(dy))
    wrong = max(np.abs(ys[d] - y).max() for d, y in linear.split_y(x @ w).items())
    mesh = Mesh2D(rows, cols)
    gather = collective.along_cols(mesh, 8.0 * t * k / cols, link)
    scatter = collective.along_rows(mesh, 8.0 * t * m / rows, link)
    return max(_difference(moved, collective.total(*[gather] * 3, *[scatter] * 2)), float(wrong))


def largest_difference() -> float:
    """Largest relative difference of time, bytes sent and byte-hops over meshes and collectives."""
    import jax

    with jax.enable_x64(True):
        link = LinkConfig(_BYTES_S, _HOP_S)
        return max(max(_all_reduces(s, link), _linear(s, link)) for s in SHAPES)

"""Closed forms against real arrays moved over single links."""

import numpy as np
import pytest

from jaxml.chiplet import collective, wires
from jaxml.chiplet.config import LinkConfig, Mesh2D
from jaxml.chiplet.wired_linear import WiredLinear
from jaxml.chiplet.wires import LinkConflictError, Wires

SHAPES = [(1, 4), (1, 7), (2, 1), (2, 2), (2, 3), (3, 3), (3, 5), (4, 4), (5, 3), (5, 6), (8, 8)]
LINK = LinkConfig(3e9, 7e-9)
pytestmark = pytest.mark.usefixtures("x64")


def _wires(shape):
    return Wires(*shape, bytes_s=3e9, hop_s=7e-9)


def _dies(shape):
    return [(r, c) for r in range(shape[0]) for c in range(shape[1])]


def _same(simulated, traffic):
    num_dies = simulated.rows * simulated.cols
    sent = sum(simulated.sent.values()) / num_dies
    np.testing.assert_allclose(simulated.seconds, traffic.time_s, rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(simulated.byte_hops, traffic.byte_hops, rtol=1e-9)
    np.testing.assert_allclose(sent, traffic.sent_bytes, rtol=1e-9)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("along", ["rows", "columns"])
def test_ring_gather_and_scatter(shape, along):
    blocks = {die: np.full(6, float(i)) for i, die in enumerate(_dies(shape))}
    mesh, n = Mesh2D(*shape), shape[1] if along == "rows" else shape[0]
    closed = collective.along_rows if along == "rows" else collective.along_cols
    w = _wires(shape)
    rings = getattr(wires, along)(w)
    found = wires.all_gather(w, rings, blocks)
    for ring in rings:
        for die in ring:
            np.testing.assert_array_equal(found[die], [blocks[other] for other in ring])
    _same(w, closed(mesh, n * 48.0, LINK))
    w = _wires(shape)
    parts = {die: list(np.outer(np.arange(n) + 1.0, blocks[die])) for die in blocks}
    summed = wires.reduce_scatter(w, rings, parts)
    for ring in rings:
        for i, die in enumerate(ring):
            np.testing.assert_allclose(summed[die], sum(parts[d][i] for d in ring))
    _same(w, closed(mesh, n * 48.0, LINK))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_flat_and_torus_all_reduce(shape):
    dies = _dies(shape)
    rng = np.random.default_rng(0)
    whole = {die: rng.normal(size=2 * len(dies)) for die in dies}
    want = sum(whole.values())
    closed = {
        "flat": collective.flat_all_reduce(Mesh2D(*shape), 16.0 * len(dies), LINK),
        "torus": collective.torus_all_reduce(Mesh2D(*shape), 16.0 * len(dies), LINK),
    }
    walk = wires.closed_walk(*shape)
    assert sorted(walk) == dies
    w = _wires(shape)
    for found in wires.all_reduce(w, [walk], whole).values():
        np.testing.assert_allclose(found, want, rtol=1e-12)
    _same(w, closed["flat"])
    w = _wires(shape)
    for found in wires.torus_all_reduce(w, whole).values():
        np.testing.assert_allclose(found, want, rtol=1e-12)
    _same(w, closed["torus"])


@pytest.mark.parametrize("shape", [(1, 4), (2, 2), (3, 2), (3, 5), (4, 4), (8, 8)], ids=str)
@pytest.mark.parametrize("orientation", ["col", "row"])
def test_two_dimensional_linear(shape, orientation):
    rows, cols = shape
    t, k, m = 2 * rows * cols, 3 * rows * cols, rows * cols
    rng = np.random.default_rng(1)
    x, w, dy = rng.normal(size=(t, k)), rng.normal(size=(k, m)), rng.normal(size=(t, m))
    mesh = Mesh2D(rows, cols)

    def cost(*widths):
        """Of gathers and scatters along the axis that X, and the axis that Y, moves on."""
        moves = []
        for axis, width in widths:
            x_axis = (axis == "x") == (orientation == "col")
            parts = cols if x_axis else rows
            closed = collective.along_cols if x_axis else collective.along_rows
            moves.append(closed(mesh, t * width * 8.0 / parts, LINK))
        return collective.total(*moves)

    wired = _wires(shape)
    linear = WiredLinear(wired, orientation)
    xs, ws = linear.split_x(x), linear.split_w(w)
    ys = linear.forward(xs, ws)
    for die, block in linear.split_y(x @ w).items():
        np.testing.assert_allclose(ys[die], block, rtol=1e-10, atol=1e-10)
    _same(wired, cost(("x", k), ("y", m)))
    wired = _wires(shape)
    linear.wires = wired
    dx, dw = linear.backward(xs, ws, linear.split_y(dy))
    for die, block in linear.split_x(dy @ w.T).items():
        np.testing.assert_allclose(dx[die], block, rtol=1e-10, atol=1e-10)
    for die, block in linear.split_w(x.T @ dy).items():
        np.testing.assert_allclose(dw[die], block, rtol=1e-10, atol=1e-10)
    _same(wired, cost(("y", m), ("x", k), ("x", k)))


@pytest.mark.parametrize("q", [1, 2, 3, 4, 7])
def test_transpose(q):
    w = Wires(q, q)
    for die in _dies((q, q)):
        if die[0] != die[1]:
            for a, b in w.path(die, die[::-1]):
                w.loads[a, b] += 80
    traffic = collective.transpose(Mesh2D(q, q), 80.0, LinkConfig(1.0, 0.0))
    assert w.byte_hops == pytest.approx(float(traffic.byte_hops))
    assert max(w.loads.values(), default=0) == pytest.approx(float(traffic.time_s))


def test_a_link_is_never_used_twice_in_a_step():
    w = Wires(1, 4)
    message = np.zeros(1)
    with pytest.raises(LinkConflictError, match="need the link"):
        w.step([((0, 0), (0, 2), message), ((0, 1), (0, 2), message)])
    with pytest.raises(LinkConflictError):  # a ring in natural order wraps over its own links
        line = [(0, c) for c in range(4)]
        wires.all_gather(
            Wires(1, 4), [[*line[::2], line[1], line[3]]], dict.fromkeys(line, message)
        )


def test_the_bypass_ring_uses_every_link_once_a_step():
    w = Wires(1, 9)
    wires.all_gather(w, wires.rows(w), {(0, c): np.zeros(1) for c in range(9)})
    assert len(w.loads) == 16 and set(w.loads.values()) == {8 * 8}


@pytest.mark.parametrize(
    ("kind", "shape", "size", "message"),
    [
        ("gather", (1, 2), 1.0, "kind must be one of"),
        ("all_gather", (0, 2), 1.0, "rows must be >= 1"),
        ("all_gather", (1, 2), -1.0, "num_bytes must be >= 0"),
        ("transpose", (1, 2), 1.0, "rows must equal cols"),
    ],
)
def test_bad_input(kind, shape, size, message):
    with pytest.raises(ValueError, match=message):
        collective.cost(kind, shape, size, LINK)

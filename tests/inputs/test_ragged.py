"""Rows in blocks of few shapes: every row once, in its order, at the shapes that were promised."""

import numpy as np
import pytest

from jaxml.inputs import ragged

LENGTH = np.random.default_rng(0).integers(1, 13, 57)
INSIDE = np.arange(12) < LENGTH[:, None]
IDS = np.where(INSIDE, np.random.default_rng(1).integers(1, 99, INSIDE.shape), -1)
WANT = np.where(INSIDE, IDS, 0).sum(1)


def test_rounded():
    made = [ragged.rounded(n, 8) for n in range(1, 4000)]
    assert all(a >= n for n, a in enumerate(made, 1)) and made == sorted(made)
    assert max(a / n for n, a in enumerate(made, 1)) < 1.125
    assert len({a for n, a in enumerate(made, 1) if n > 1024}) == 16
    with pytest.raises(ValueError, match="num"):
        ragged.rounded(0)


def test_in_widths():
    shapes = []

    def run(ids, again):
        shapes.append(ids.shape)
        np.testing.assert_array_equal(ids, again)
        return {"sum": np.where(ids >= 0, ids, 0).sum(1), "last": ids[:, :1]}

    found = ragged.in_widths(run, (IDS, IDS), LENGTH, (4, 8, 12), 8)
    np.testing.assert_array_equal(found["sum"], WANT)
    np.testing.assert_array_equal(found["last"], IDS[:, :1])
    assert set(shapes) == {(8, 4), (8, 8), (8, 12)}
    shapes.clear()
    ragged.in_widths(run, (IDS[:3], IDS[:3]), LENGTH[:3], (12,), 8, (1, 2, 4))
    assert shapes == [(4, 12)]
    with pytest.raises(ValueError, match="at most the last width 8; got 12"):
        ragged.in_widths(run, (IDS, IDS), LENGTH, (4, 8), 8)
    with pytest.raises(ValueError, match="rows"):
        ragged.in_widths(run, (IDS[:0], IDS[:0]), LENGTH[:0], (12,), 8)


@pytest.mark.parametrize(("block", "tokens"), [(64, 10_000), (8, 10_000), (64, 40), (1, 1)])
def test_end_to_end(block, tokens):
    shapes = []

    def run(ids, row, num):
        shapes.append((len(ids), num))
        assert len(ids) == len(row) and np.all((row == num) == (ids == -1))
        assert num <= block and (num == 1 or (ids >= 0).sum() <= tokens)
        out = np.zeros(num + 1, int)
        np.add.at(out, row, ids)
        return out[:num, None]

    found = ragged.end_to_end(run, IDS, INSIDE, block, tokens)
    np.testing.assert_array_equal(found[:, 0], WANT)
    assert len(set(shapes)) <= (1 if block == 64 and tokens > 1000 else 14)
    with pytest.raises(ValueError, match="shortest_row"):
        ragged.end_to_end(run, IDS, np.zeros_like(INSIDE), block, tokens)

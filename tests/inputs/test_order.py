import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxml.inputs.order import Order, generator


@given(size=st.integers(1, 50), seed=st.integers(0, 2**40), epoch=st.integers(0, 1000))
def test_each_row_once_in_each_epoch(size, seed, epoch):
    positions = np.arange(epoch * size, (epoch + 1) * size)
    epochs, rows = Order(size, seed).at(positions)
    assert (epochs == epoch).all()
    assert sorted(rows.tolist()) == list(range(size))


def test_positions_may_be_asked_for_in_any_order():
    order = Order(7, seed=3)
    _, rows = order.at(np.arange(30))
    places = np.array([29, 3, 3, 14, 0])
    np.testing.assert_array_equal(order.at(places)[1], rows[places])


def test_epochs_and_seeds_differ():
    every = Order(100, seed=0).at(np.arange(300))[1].reshape(3, 100)
    other = Order(100, seed=1).at(np.arange(300))[1].reshape(3, 100)
    rows = [tuple(row) for row in (*every, *other)]
    assert len(set(rows)) == 6


def test_first_rows_are_uniform():
    firsts = [int(Order(5, seed).at(np.array([0]))[1][0]) for seed in range(1000)]
    assert np.abs(np.bincount(firsts, minlength=5) - 200).max() < 5 * np.sqrt(160)


def test_rows_as_they_lie():
    epochs, rows = Order(3, 0, shuffle=False).at(np.arange(7))
    assert rows.tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert epochs.tolist() == [0, 0, 0, 1, 1, 1, 2]


@pytest.mark.parametrize(("size", "seed"), [(0, 0), (3, -1)])
def test_bad_fields(size, seed):
    with pytest.raises(ValueError, match="must be >"):
        Order(size, seed)


def test_generators_have_names():
    one = generator(0, "a", 1).integers(2**32)
    assert one == generator(0, "a", 1).integers(2**32)
    drawn = {one, *(int(g.integers(2**32)) for g in (generator(0, "a", 2), generator(1, "a", 1)))}
    assert len(drawn) == 3

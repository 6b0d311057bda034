"""Batches of rows of arrays in memory, with a position that is a number."""

from collections.abc import Iterator, Mapping

import numpy as np

from jaxml.core import check
from jaxml.inputs.order import Order


class Rows(Iterator[dict[str, np.ndarray]]):
    """Endless batches, each row once per epoch; batch k is a function of the seed and k.

    The order is that of `inputs.loader.examples`, without its threads: sensing happens in the step.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray], batch_size: int, seed: int):
        """Checks that the arrays are of one length and hold a row."""
        check.positive(batch_size=batch_size)
        sizes = {name: len(array) for name, array in arrays.items()}
        if len(set(sizes.values())) != 1 or not all(sizes.values()):
            raise ValueError(f"arrays must have one leading size above 0; got sizes {sizes}.")
        self._arrays, self._batch_size, self._number = arrays, batch_size, 0
        self._order = Order(next(iter(sizes.values())), seed)

    def __next__(self) -> dict[str, np.ndarray]:
        """The next batch."""
        first = self._number * self._batch_size
        _, rows = self._order.at(np.arange(first, first + self._batch_size))
        self._number += 1
        return {name: array[rows] for name, array in self._arrays.items()}

    def get_state(self) -> dict[str, int]:
        """The position."""
        return {"number": self._number}

    def set_state(self, state: Mapping[str, int]) -> None:
        """Continues at a saved position."""
        self._number = state["number"]

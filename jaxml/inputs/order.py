"""The order in which rows are visited: one permutation for each epoch, a function of a seed."""

import dataclasses
import functools
import hashlib

import numpy as np

from jaxml.core import check


@dataclasses.dataclass(frozen=True)
class Order:
    """An endless sequence of rows, each row once per epoch.

    Attributes:
      size: number of rows, above 0.
      seed: of the permutations, at least 0.
      shuffle: False visits the rows as they lie.

    Raises:
      ValueError: size or seed outside these.
    """

    size: int
    seed: int
    shuffle: bool = True

    def __post_init__(self) -> None:
        """Checks the fields."""
        check.positive(size=self.size)
        check.at_least(0, seed=self.seed)

    def at(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Epochs and rows, both int64 [n], at positions [n] of the sequence.

        >>> epochs, rows = Order(3, seed=0).at(np.arange(6))
        >>> epochs.tolist(), sorted(rows[:3].tolist()), sorted(rows[3:].tolist())
        ([0, 0, 0, 1, 1, 1], [0, 1, 2], [0, 1, 2])
        """
        epochs, places = np.divmod(np.asarray(positions, np.int64), self.size)
        if not self.shuffle:
            return epochs, places
        rows = np.empty_like(places)
        for epoch in np.unique(epochs):
            inside = epochs == epoch
            rows[inside] = _permutation(self.size, self.seed, int(epoch))[places[inside]]
        return epochs, rows


@functools.lru_cache(maxsize=4)
def _permutation(size: int, seed: int, epoch: int) -> np.ndarray:
    return generator(seed, "order", epoch).permutation(size)


def generator(seed: int, *names: str | int) -> np.random.Generator:
    """The random generator of one use, e.g. `generator(seed, "cuts", epoch)`."""
    words = [int.from_bytes(hashlib.sha256(str(name).encode()).digest()[:4]) for name in names]
    return np.random.default_rng([seed, *words])

"""Iterators over batches with a position that can be saved, and the parts they are made of."""

import sys
import weakref
from collections.abc import Iterator, Mapping
from typing import Any

import grain
import numpy as np

from jaxml.core import check

type Batch = dict[str, np.ndarray]


class Batches(Iterator[Batch]):
    """An iterator over batches whose position is plain data.

    `get_state` gives a JSON value; `set_state` on a new iterator of the same arguments continues
    with the batch that would have come next.
    """

    def __init__(self, dataset: Any, pipeline: Mapping[str, Any]):
        """Wraps a grain dataset; `pipeline` names what a saved position depends on."""
        self._held = [iter(dataset)]
        self._pipeline = dict(pipeline)
        # grain's iterator ends its threads when it dies, which fails if that is at the very end
        # of the program; the finaliser lets it die before modules are torn down.
        weakref.finalize(self, self._held.clear)

    def __next__(self) -> Batch:
        """The next batch."""
        return next(self._held[0])

    def get_state(self) -> dict[str, Any]:
        """The position, and the arguments it belongs to."""
        return {"pipeline": dict(self._pipeline), "position": self._held[0].get_state()}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Continues at a saved position.

        Raises:
          ValueError: the position is of an iterator with other arguments; names the first.
        """
        saved = state["pipeline"]
        for name in self._pipeline | saved:
            ours, theirs = self._pipeline.get(name), saved.get(name)
            if ours != theirs:
                raise ValueError(
                    f"state must be of the same pipeline; got {name}={theirs!r}, here {ours!r}."
                )
        self._held[0].set_state(state["position"])

    def close(self) -> None:
        """Ends the threads that prefetch."""
        self._held[0].close()


def local_size(batch_size: int, process_index: int, process_count: int) -> int:
    """Rows of a batch that one process gets.

    Raises:
      ValueError: sizes that do not divide, or an index outside [0, process_count).
    """
    check.positive(batch_size=batch_size, process_count=process_count)
    check.between(0, process_count - 1, process_index=process_index)
    check.divides(process_count=process_count, batch_size=batch_size)
    return batch_size // process_count


def positions(
    local: int, index: int, count: int, limit: int = sys.maxsize, drop_remainder: bool = True
) -> Any:
    """Positions [local] of each batch of one process, up to `limit` over all processes."""
    num_blocks = limit // (local * count) * count if drop_remainder else -(-limit // local)
    blocks = grain.MapDataset.range(num_blocks)[index::count]
    return blocks.map(lambda block: np.arange(block * local, min((block + 1) * local, limit)))


def ahead(batches: Any, prefetch: int) -> Any:
    """A grain iterable of a map dataset; a thread makes `prefetch` elements ahead (0: none)."""
    check.at_least(0, prefetch=prefetch)
    options = grain.ReadOptions(num_threads=int(prefetch > 0), prefetch_buffer_size=prefetch)
    return batches.to_iter_dataset(options)

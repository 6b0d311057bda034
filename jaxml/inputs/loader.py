"""Batches in a seeded order, sharded by process, with a position that can be saved.

grain gives order, repetition, packing and prefetching; the functions here say what a batch is.
An iterator is infinite unless `num_epochs` says otherwise. With several processes each gets
`batch_size / process_count` rows; row blocks of the processes, in their order, are the batch.
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import grain
import numpy as np

from jaxml.core import check
from jaxml.inputs.order import Order, generator

type Batch = dict[str, np.ndarray]
type Transform = Callable[[Batch, np.random.Generator], Batch]
"""`(batch, random generator) -> batch`; the generator depends on seed and position only."""


class Batches(Iterator[Batch]):
    """An iterator over batches whose position is plain data.

    `get_state` gives a JSON value; `set_state` on a new iterator of the same arguments continues
    with the batch that would have come next.
    """

    def __init__(self, dataset: Any, pipeline: Mapping[str, Any]):
        """Wraps a grain dataset; `pipeline` names what a saved position depends on."""
        self._iterator = iter(dataset)
        self._pipeline = dict(pipeline)

    def __next__(self) -> Batch:
        """The next batch."""
        return next(self._iterator)

    def get_state(self) -> dict[str, Any]:
        """The position, and the arguments it belongs to."""
        return {"pipeline": self._pipeline, "position": self._iterator.get_state()}

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
        self._iterator.set_state(state["position"])

    def close(self) -> None:
        """Ends the threads that prefetch."""
        self._iterator.close()


def token_windows(
    ids: np.ndarray,
    seq_len: int,
    batch_size: int,
    seed: int,
    *,
    process_index: int = 0,
    process_count: int = 1,
    prefetch: int = 2,
) -> Batches:
    """Windows of a long token stream in random order, each once per epoch, for ever.

    An epoch cuts the stream into windows that do not overlap; where the cuts lie is drawn anew
    for each epoch. Batches do not depend on the number of processes.

    Args:
      ids: tokens, integer [n]; may be a memory map.
      seq_len: t, the length of inputs and of targets.
      batch_size: b of all processes together.
      seed: of order and cuts.
      process_index: of this process.
      process_count: must divide `batch_size`.
      prefetch: batches made ahead by a thread; 0 for none.

    Returns:
      Batches of `inputs` and `targets`, int32 [b, t], targets one token later.

    Raises:
      ValueError: fewer than t + 1 tokens, or sizes that do not divide.

    >>> batch = next(token_windows(np.arange(100), seq_len=8, batch_size=4, seed=0, prefetch=0))
    >>> batch["inputs"].shape, bool((batch["targets"] == batch["inputs"] + 1).all())
    ((4, 8), True)
    """
    check.positive(seq_len=seq_len)
    local = _local(batch_size, process_index, process_count)
    check.shape("ids", ids, ["n"])
    if len(ids) <= seq_len:
        raise ValueError(
            f"ids must hold more than seq_len tokens; got len(ids)={len(ids)}, seq_len={seq_len}."
        )
    num_windows = max(1, len(ids) // seq_len - 1)
    slack = len(ids) - 1 - num_windows * seq_len
    order, steps = Order(num_windows, seed), np.arange(seq_len + 1)

    def cut(positions: np.ndarray) -> Batch:
        epochs, windows = order.at(positions)
        starts = windows * seq_len + _cuts(epochs, slack, seed)
        tokens = np.asarray(ids[starts[:, None] + steps], np.int32)
        return {"inputs": tokens[:, :-1], "targets": tokens[:, 1:]}

    batches = _positions(local, process_index, process_count).map(cut)
    pipeline = {"kind": "token_windows", "num_tokens": len(ids), "seq_len": seq_len}
    pipeline |= {"batch_size": batch_size, "seed": seed}
    return Batches(_ahead(batches, prefetch), pipeline)


def _cuts(epochs: np.ndarray, slack: int, seed: int) -> np.ndarray:
    drawn = {e: generator(seed, "cuts", e).integers(slack + 1) for e in set(epochs.tolist())}
    return np.array([drawn[epoch] for epoch in epochs.tolist()])


def examples(
    arrays: Mapping[str, np.ndarray],
    batch_size: int,
    seed: int,
    *,
    shuffle: bool = True,
    transform: Transform | None = None,
    num_epochs: int | None = None,
    drop_remainder: bool = True,
    process_index: int = 0,
    process_count: int = 1,
    prefetch: int = 2,
) -> Batches:
    """Rows of arrays, each once per epoch.

    Args:
      arrays: of one leading size n, e.g. `{"image": [n, y, x, c], "label": [n]}`.
      batch_size: b of all processes together.
      seed: of the order and of `transform`.
      shuffle: a new order in each epoch; False keeps that of the arrays.
      transform: applied to each batch of this process.
      num_epochs: passes over the rows; None for ever. A batch may hold rows of two epochs.
      drop_remainder: False gives the last rows as a smaller batch (with `num_epochs`, and one
        process only).
      process_index: of this process.
      process_count: must divide `batch_size`.
      prefetch: batches made ahead by a thread; 0 for none.

    Returns:
      Batches with the keys of `arrays`, or those that `transform` makes.

    Raises:
      ValueError: leading sizes that differ, no rows, not one whole batch, or sizes that do not
        divide.
    """
    local = _local(batch_size, process_index, process_count)
    sizes = {name: len(array) for name, array in arrays.items()}
    if len(set(sizes.values())) != 1 or not all(sizes.values()):
        raise ValueError(f"arrays must have one leading size above 0; got sizes {sizes}.")
    num_rows = next(iter(sizes.values()))
    limit = _limit(num_rows, num_epochs, batch_size, drop_remainder, process_count)
    order = Order(num_rows, seed, shuffle)

    def take(positions: np.ndarray) -> Batch:
        rows = order.at(positions)[1]
        return {name: array[rows] for name, array in arrays.items()}

    batches = _positions(local, process_index, process_count, limit, drop_remainder).map(take)
    if transform:
        first = int(generator(seed, "transform", process_index).integers(2**32))
        batches = batches.random_map(transform, seed=first)
    pipeline = {"kind": "examples", "num_rows": num_rows, "shuffle": shuffle}
    pipeline |= {"batch_size": batch_size, "seed": seed}
    return Batches(_ahead(batches, prefetch), pipeline)


def _limit(num_rows: int, num_epochs: int | None, batch_size: int, drop: bool, count: int) -> int:
    """Rows to give in all, after checking how the last batch is to end."""
    if not drop and (num_epochs is None or count > 1):
        raise ValueError(
            "drop_remainder=False needs num_epochs and a single process; "
            f"got num_epochs={num_epochs}, process_count={count}."
        )
    if num_epochs is None:
        return sys.maxsize
    check.positive(num_epochs=num_epochs)
    if drop and batch_size > num_epochs * num_rows:
        raise ValueError(
            f"batch_size must be at most num_epochs * rows, or drop_remainder False; got "
            f"batch_size={batch_size}, num_epochs={num_epochs}, rows={num_rows}."
        )
    return num_epochs * num_rows


def packed_documents(
    documents: Sequence[np.ndarray],
    seq_len: int,
    batch_size: int,
    seed: int,
    *,
    process_index: int = 0,
    process_count: int = 1,
    num_bins: int = 64,
    prefetch: int = 2,
) -> Batches:
    """Whole documents side by side in rows, told apart by segment ids, for ever.

    A document longer than `seq_len + 1` tokens is cut into pieces that share one token, so that
    every token but a document's first is once a target. Pieces are shuffled anew each epoch and
    put into the first row that has room (first fit over `num_bins` rows at a time).

    Args:
      documents: token arrays, integer [n_i]; those with fewer than two tokens are left out.
      seq_len: t.
      batch_size: b of all processes together.
      seed: of the order.
      process_index: of this process.
      process_count: must divide `batch_size`; each process packs its own share of the pieces.
      num_bins: rows packed together; more waste less.
      prefetch: batches made ahead by a thread; 0 for none.

    Returns:
      Batches of int32 [b, t]: `inputs`, `targets` (one token later in the document),
      `segment_ids` (1, 2, ... in a row; 0 is padding), `positions` (from 0 in each piece).

    Raises:
      ValueError: no document of two tokens, fewer pieces than processes, or sizes that do not
        divide.
    """
    check.positive(seq_len=seq_len, num_bins=num_bins)
    check.at_least(0, prefetch=prefetch)
    local = _local(batch_size, process_index, process_count)
    spans = [
        (index, start, min(start + seq_len + 1, len(tokens)))
        for index, tokens in enumerate(documents)
        for start in range(0, len(tokens) - 1, seq_len)
    ]
    if len(spans) < process_count:
        raise ValueError(
            f"documents must give each process a piece of two tokens or more; got {len(spans)} "
            f"pieces for {process_count} processes."
        )

    order = Order(len(spans), seed)

    def piece(positions: np.ndarray) -> Batch:
        document, start, stop = spans[order.at(positions)[1][0]]
        tokens = np.asarray(documents[document][start:stop], np.int32)
        return {"inputs": tokens[:-1], "targets": tokens[1:]}

    pieces = _positions(1, process_index, process_count).map(piece)
    packed = grain.experimental.FirstFitPackIterDataset(
        _ahead(pieces, 0),
        length_struct={"inputs": seq_len, "targets": seq_len},
        num_packing_bins=num_bins,
        seed=int(generator(seed, "rows").integers(2**32)),
        shuffle_bins=True,
    )
    pipeline = {"kind": "packed_documents", "num_pieces": len(spans), "seq_len": seq_len}
    pipeline |= {"batch_size": batch_size, "seed": seed, "num_bins": num_bins}
    pipeline |= {"process_count": process_count}
    batches = packed.map(_renamed).batch(local, drop_remainder=True)
    if prefetch:
        batches = grain.experimental.ThreadPrefetchIterDataset(
            batches, prefetch_buffer_size=prefetch
        )
    return Batches(batches, pipeline)


def _renamed(row: Batch) -> Batch:
    return {
        "inputs": row["inputs"],
        "targets": row["targets"],
        "segment_ids": row["inputs_segment_ids"].astype(np.int32),
        "positions": row["inputs_positions"].astype(np.int32),
    }


def _local(batch_size: int, process_index: int, process_count: int) -> int:
    check.positive(batch_size=batch_size, process_count=process_count)
    check.between(0, process_count - 1, process_index=process_index)
    check.divides(process_count=process_count, batch_size=batch_size)
    return batch_size // process_count


def _positions(
    local: int, index: int, count: int, limit: int = sys.maxsize, drop_remainder: bool = True
) -> Any:
    """Positions [local] of each batch of one process, up to `limit` over all processes."""
    num_blocks = limit // (local * count) * count if drop_remainder else -(-limit // local)
    blocks = grain.MapDataset.range(num_blocks)[index::count]
    return blocks.map(lambda block: np.arange(block * local, min((block + 1) * local, limit)))


def _ahead(batches: Any, prefetch: int) -> Any:
    check.at_least(0, prefetch=prefetch)
    options = grain.ReadOptions(num_threads=int(prefetch > 0), prefetch_buffer_size=prefetch)
    return batches.to_iter_dataset(options)

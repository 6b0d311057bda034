"""Documents packed side by side into rows."""

from collections.abc import Sequence

import grain
import numpy as np

from jaxml.core import check
from jaxml.inputs.batches import Batch, Batches, ahead, local_size, positions
from jaxml.inputs.order import Order, generator


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
    local = local_size(batch_size, process_index, process_count)
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

    pieces = positions(1, process_index, process_count).map(piece)
    packed = grain.experimental.FirstFitPackIterDataset(
        ahead(pieces, 0),
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

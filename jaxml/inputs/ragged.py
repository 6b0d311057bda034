"""Rows of many lengths run in blocks of few shapes: padded to widths, or laid end to end.

A compiled function takes one shape; every new one costs a compilation. Both ways here run a
function over many rows with few shapes, and give its results in the rows' order.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from jaxml.core import check
from jaxml.core.types import Array, PyTree


def rounded(num: int, parts: int = 2) -> int:
    """The next number of few: `parts` sizes between a power of two and the next one.

    >>> [rounded(n) for n in (1, 5, 9, 17)], rounded(65, 8)
    ([1, 6, 12, 24], 72)
    """
    check.positive(num=num, parts=parts)
    step = 1 << max((num - 1).bit_length() - (2 * parts - 1).bit_length(), 0)
    return -(-num // step) * step


def in_widths(
    run: Callable[..., PyTree],
    columns: Sequence[np.ndarray],
    length: np.ndarray,
    widths: Sequence[int],
    block: int,
    sizes: Sequence[int] = (),
) -> PyTree:
    """`run(*columns)` over rows in blocks, each cut to the first width that its rows fit.

    Args:
      run: of columns [b, w, ...] to arrays [b, ...]; rows must not see one another.
      columns: arrays [n, t, ...].
      length: of what is not padding, [n].
      widths: to cut to, the last one at least the longest row.
      block: rows at a time; the last block of a width repeats its last row.
      sizes: rows of the one block of a width that has fewer than `block`: the first that fits.

    Returns:
      Arrays [n, ...] on the host.

    Raises:
      ValueError: no row, or one longer than the last width.
    """
    check.at_least(1, rows=len(length), block=block)
    widths = sorted(set(widths))
    if (longest := int(length.max())) > widths[-1]:
        raise ValueError(f"length must be at most the last width {widths[-1]}; got {longest}.")
    fits, found = np.searchsorted(widths, length), []
    for place in np.unique(fits):
        rows = np.flatnonzero(fits == place)
        few = [size for size in sizes if len(rows) <= size < block]
        size = min(few) if few else block
        for start in range(0, len(rows), size):
            chosen = rows[start : start + size]
            padded = np.pad(chosen, (0, size - len(chosen)), mode="edge")
            cut = (x[padded, : widths[place]] for x in columns)
            found.append((chosen, run(*cut)))
    return _in_order(found, len(length))


def end_to_end(
    run: Callable[[np.ndarray, np.ndarray, int], Array | np.ndarray],
    ids_nt: np.ndarray,
    inside_nt: np.ndarray,
    block: int,
    tokens: int,
    padding: int = -1,
) -> np.ndarray:
    """`run` over rows without their padding, a block's tokens one after another.

    Args:
      run: `(ids [m], row [m], num) -> [num, ...]`: `row` is each token's in the block, `num` for
        tokens that are padding.
      ids_nt: tokens.
      inside_nt: which of them are no padding; at least one of every row.
      block: most rows at a time.
      tokens: most tokens at a time, unless one row has more.
      padding: id of the tokens that fill a block up.

    Returns:
      Arrays [n, ...] on the host.

    Raises:
      ValueError: no row, or one without a token.
    """
    length = inside_nt.sum(1)
    check.at_least(1, rows=len(length), block=block)
    check.at_least(1, shortest_row=int(length.min()))
    ends, start, found = np.cumsum(length), 0, []
    while start < len(length):
        begun = ends[start] - length[start]
        fits = int(np.searchsorted(ends, begun + tokens, "right"))
        stop = max(min(fits, start + block), start + 1)
        part = slice(start, stop)
        ids = ids_nt[part][inside_nt[part]]
        row = np.repeat(np.arange(stop - start, dtype=np.int32), length[part])
        num, more = min(rounded(stop - start), block), rounded(len(ids), 8) - len(ids)
        ids = np.pad(ids, (0, more), constant_values=padding)
        row = np.pad(row, (0, more), constant_values=num)
        found.append((np.arange(start, stop), run(ids, row, num)))
        start = stop
    return _in_order(found, len(length))


def _in_order(found: list[tuple[np.ndarray, PyTree]], num: int) -> PyTree:
    """Results of blocks put where their rows are; what a block repeats is cut off."""

    def join(*parts: Any) -> np.ndarray:
        made = np.empty((num, *parts[0].shape[1:]), parts[0].dtype)
        for (rows, _), part in zip(found, parts, strict=True):
            made[rows] = np.asarray(part)[: len(rows)]
        return made

    return jax.tree.map(join, *(result for _, result in found))

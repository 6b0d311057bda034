"""Clips from what is said in a video: lines of speech recognition merged into longer ones."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxml.core import check


class Line(NamedTuple):
    """Merged speech: its span in seconds, its text, and the first and last line of it."""

    start: float
    end: float
    text: str
    first: int
    last: int


def merge_narration(
    starts: Sequence[float], ends: Sequence[float], texts: Sequence[str], min_seconds: float = 5.0
) -> list[Line]:
    """Every line, each grown to `min_seconds` or to the whole video.

    A line takes the neighbour that keeps its span shorter, the one before it on ties.

    Raises:
      ValueError: lists of different lengths, a line that ends before it starts.

    >>> [(m.start, m.end, m.text) for m in merge_narration([0, 2, 9], [2, 6, 15], "abc", 5)]
    [(0, 6, 'a b'), (0, 6, 'a b'), (9, 15, 'c')]
    """
    if not len(starts) == len(ends) == len(texts):
        raise ValueError(
            f"starts, ends and texts must be as many; got {len(starts)}, {len(ends)}, {len(texts)}."
        )
    check.positive(min_seconds=min_seconds)
    for i, (start, end) in enumerate(zip(starts, ends, strict=True)):
        if end < start:
            raise ValueError(f"a line must not end before it starts; got line {i}: {start}, {end}.")
    return [_grown(i, starts, ends, texts, min_seconds) for i in range(len(texts))]


def _grown(
    i: int, starts: Sequence[float], ends: Sequence[float], texts: Sequence[str], least: float
) -> Line:
    first = last = i
    while ends[last] - starts[first] < least and (first > 0 or last < len(texts) - 1):
        before = ends[last] - starts[first - 1] if first > 0 else float("inf")
        after = ends[last + 1] - starts[first] if last < len(texts) - 1 else float("inf")
        if before <= after:
            first -= 1
        else:
            last += 1
    said = " ".join(texts[first : last + 1])
    return Line(starts[first], ends[last], said, first, last)


def frame_span(start: float, end: float, fps: float, num_frames: int) -> tuple[int, int]:
    """Rows [start, stop) of a video's features that a clip has; at least one.

    An empty slice (a line beyond the features) is widened to the left and right in turn.

    Raises:
      ValueError: a video without features, or a rate that is not positive.

    >>> frame_span(1.0, 3.0, 1.0, 10), frame_span(20.0, 22.0, 1.0, 10)
    ((1, 4), (9, 10))
    """
    check.positive(fps=fps, num_frames=num_frames)
    first, stop = int(start * fps), int(end * fps) + 1
    left = True
    while min(stop, num_frames) <= max(first, 0):
        first, stop = (first - 1, stop) if left else (first, stop + 1)
        left = not left
    return max(first, 0), min(stop, num_frames)


def draw_group(random: np.random.Generator, num_lines: int, n_pair: int) -> np.ndarray:
    """P consecutive lines at random; a shorter video repeats its last one."""
    check.positive(num_lines=num_lines, n_pair=n_pair)
    first = int(random.integers(max(num_lines - n_pair + 1, 1)))
    return np.minimum(first + np.arange(n_pair), num_lines - 1)

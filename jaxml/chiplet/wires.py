"""Brute force: real arrays moved over single directed links, step by step, in NumPy.

Nothing here knows a formula. Every message takes a path of physical links; a step that would use a
link twice is an error; time is the sum over steps of the slowest message. Tests hold the closed
forms of `collective.py` against it, and the report draws its link loads.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

type Die = tuple[int, int]
type Link = tuple[Die, Die]


class LinkConflictError(RuntimeError):
    """Two messages of one step met on one directed link."""


class Wires:
    """A mesh of dies without wrap links, and what went over its links so far.

    Attributes:
      loads: bytes by directed link.
      sent: bytes that each die put on the package links.
      seconds: time so far.
    """

    def __init__(self, rows: int, cols: int, bytes_s: float = 1.0, hop_s: float = 0.0):
        """A mesh whose links carry `bytes_s` and take `hop_s` a hop."""
        self.rows, self.cols = rows, cols
        self.bytes_s, self.hop_s = bytes_s, hop_s
        self.loads: Counter[Link] = Counter()
        self.sent: Counter[Die] = Counter()
        self.seconds = 0.0

    @property
    def byte_hops(self) -> int:
        """Bytes times links."""
        return sum(self.loads.values())

    def path(self, start: Die, end: Die) -> list[Link]:
        """Links from die to die, along the row first."""
        (r, c), path = start, []
        while (r, c) != end:
            step = (r, c + (1 if end[1] > c else -1)) if c != end[1] else None
            step = step or (r + (1 if end[0] > r else -1), c)
            path.append(((r, c), step))
            r, c = step
        return path

    def step(self, messages: Iterable[tuple[Die, Die, np.ndarray]]) -> None:
        """Messages that travel at once.

        Raises:
          LinkConflictError: two of them need one directed link.
        """
        used: set[Link] = set()
        slowest = 0.0
        for start, end, content in messages:
            path = self.path(start, end)
            for link in path:
                if link in used:
                    raise LinkConflictError(f"two messages of a step need the link {link}.")
                used.add(link)
                self.loads[link] += content.nbytes
            self.sent[start] += content.nbytes
            slowest = max(slowest, len(path) * self.hop_s + content.nbytes / self.bytes_s)
        self.seconds += slowest


def bypass(line: Sequence[Die]) -> list[Die]:
    """The ring on a line: the even places going out, the odd ones coming back."""
    return [*line[::2], *line[1::2][::-1]]


def closed_walk(rows: int, cols: int) -> list[Die]:
    """A ring through all dies.

    Neighbours throughout if a side is even, one detour if both are odd, the bypass ring on a line.
    """
    if min(rows, cols) == 1:
        return bypass([(r, c) for r in range(rows) for c in range(cols)])
    if rows % 2 and cols % 2:
        return _odd_walk(rows, cols)
    if cols % 2:
        return [(r, c) for c, r in closed_walk(cols, rows)]
    snake = []
    for c in range(cols):
        column = [(r, c) for r in range(1, rows)]
        snake += column if c % 2 == 0 else column[::-1]
    return [(0, 0), *snake, *((0, c) for c in range(cols - 1, 0, -1))]


def _odd_walk(rows: int, cols: int) -> list[Die]:
    walk = [(0, c) for c in range(cols)]
    for c in range(cols - 1, 1, -1):
        column = [(r, c) for r in range(1, rows)]
        walk += column if c % 2 == 0 else column[::-1]
    for r in range(rows - 1, 0, -1):
        pair = [(r, 1), (r, 0)]
        walk += pair if (rows - 1 - r) % 2 == 0 else pair[::-1]
    return walk


def all_gather(
    wires: Wires, rings: Sequence[Sequence[Die]], blocks: dict[Die, np.ndarray]
) -> dict[Die, list[np.ndarray]]:
    """Every die of a ring gets all blocks of its ring, in the order of the ring; rings at once."""
    held = {die: {i: blocks[die]} for ring in rings for i, die in enumerate(ring)}
    for t in range(max(len(ring) for ring in rings) - 1):
        moves = []
        for ring in rings:
            for i, die in enumerate(ring):
                source = (i - t) % len(ring)
                moves.append((die, ring[(i + 1) % len(ring)], held[die][source], source))
        wires.step((a, b, content) for a, b, content, _ in moves)
        for _, b, content, source in moves:
            held[b][source] = content
    return {die: [parts[i] for i in sorted(parts)] for die, parts in held.items()}


def reduce_scatter(
    wires: Wires, rings: Sequence[Sequence[Die]], parts: dict[Die, list[np.ndarray]]
) -> dict[Die, np.ndarray]:
    """Die i of a ring gets the sum of everybody's part i; rings at once."""
    sums = {die: [part.copy() for part in parts[die]] for ring in rings for die in ring}
    for t in range(max(len(ring) for ring in rings) - 1):
        moves = []
        for ring in rings:
            n = len(ring)
            for i, die in enumerate(ring):
                index = (i - t - 1) % n
                moves.append((die, ring[(i + 1) % n], sums[die][index], index))
        wires.step((a, b, content) for a, b, content, _ in moves)
        arrived = [(b, content.copy(), index) for _, b, content, index in moves]
        for b, content, index in arrived:
            sums[b][index] = sums[b][index] + content
    return {die: sums[die][i] for ring in rings for i, die in enumerate(ring)}


def all_reduce(
    wires: Wires, rings: Sequence[Sequence[Die]], whole: dict[Die, np.ndarray]
) -> dict[Die, np.ndarray]:
    """Sum over every ring: reduce-scatter, then gather."""
    size = {die: len(ring) for ring in rings for die in ring}
    parts = {die: np.array_split(x, size[die]) for die, x in whole.items()}
    blocks = reduce_scatter(wires, rings, parts)
    return {die: np.concatenate(x) for die, x in all_gather(wires, rings, blocks).items()}


def columns(wires: Wires) -> list[list[Die]]:
    """Bypass rings of the columns."""
    return [bypass([(r, c) for r in range(wires.rows)]) for c in range(wires.cols)]


def rows(wires: Wires) -> list[list[Die]]:
    """Bypass rings of the rows."""
    return [bypass([(r, c) for c in range(wires.cols)]) for r in range(wires.rows)]


def torus_all_reduce(wires: Wires, whole: dict[Die, np.ndarray]) -> dict[Die, np.ndarray]:
    """Reduce-scatter in rows, all-reduce in columns, gather in rows."""
    parts = {die: np.array_split(x, wires.cols) for die, x in whole.items()}
    blocks = reduce_scatter(wires, rows(wires), parts)
    summed = all_reduce(wires, columns(wires), blocks)
    gathered = all_gather(wires, rows(wires), summed)
    return {die: np.concatenate(x) for die, x in gathered.items()}

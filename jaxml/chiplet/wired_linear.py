"""Brute force of the two-dimensional matrix product and its gradients, on `wires`."""

from typing import Literal

import numpy as np

from jaxml.chiplet.wires import Die, Wires, all_gather, bypass, reduce_scatter

type Blocks = dict[Die, np.ndarray]


class WiredLinear:
    """Y = X W over a mesh of dies, with what each die holds.

    Die (r, c) holds the tile of W at the blocks of K and M that its place on the two axes names.
    """

    def __init__(self, wires: Wires, orientation: Literal["col", "row"]):
        """On a mesh; "col" gathers X along the columns and scatters Y along the rows."""
        self.wires, self.col = wires, orientation == "col"
        lines_c = [[(r, c) for r in range(wires.rows)] for c in range(wires.cols)]
        lines_r = [[(r, c) for c in range(wires.cols)] for r in range(wires.rows)]
        self.along = [bypass(line) for line in (lines_c if self.col else lines_r)]
        self.across = [bypass(line) for line in (lines_r if self.col else lines_c)]

    def _place(self, die: Die) -> tuple[int, int]:
        """Place along the gathering axis, and along the scattering axis."""
        r, c = die
        return (r, c) if self.col else (c, r)

    def split_x(self, x: np.ndarray) -> Blocks:
        """X [t, K] as it lies before: tokens by the gathering axis, features by the other."""
        return self._split(x, swap=False)

    def split_y(self, y: np.ndarray) -> Blocks:
        """Y [t, M] as it lies after: the other way round."""
        return self._split(y, swap=True)

    def _split(self, array: np.ndarray, swap: bool) -> Blocks:
        n, m = len(self.across), len(self.along)
        cuts = (m, n) if swap else (n, m)
        blocks = [np.array_split(part, cuts[1], 1) for part in np.array_split(array, cuts[0])]
        found = {}
        for ring in self.along:
            for die in ring:
                i, j = self._place(die)[::-1] if swap else self._place(die)
                found[die] = blocks[i][j]
        return found

    def split_w(self, w: np.ndarray) -> Blocks:
        """W [K, M]: K by the scattering axis, M by the gathering axis."""
        n, m = len(self.across), len(self.along)
        tiles = [np.array_split(part, n, 1) for part in np.array_split(w, m)]
        found = {}
        for ring in self.along:
            for die in ring:
                i, j = self._place(die)
                found[die] = tiles[j][i]
        return found

    def _gather(self, blocks: Blocks, rings: list[list[Die]], axis: int) -> Blocks:
        """All tokens of a ring, in the order of places."""
        got = all_gather(self.wires, rings, blocks)
        found = {}
        for ring in rings:
            order = np.argsort([self._place(die)[axis] for die in ring])
            for die in ring:
                found[die] = np.concatenate([got[die][i] for i in order])
        return found

    def _scatter(self, partial: Blocks, rings: list[list[Die]], axis: int) -> Blocks:
        parts = {}
        for ring in rings:
            places = [self._place(die)[axis] for die in ring]
            for die in ring:
                cut = np.array_split(partial[die], len(ring))
                parts[die] = [cut[place] for place in places]
        return reduce_scatter(self.wires, rings, parts)

    def forward(self, x: Blocks, w: Blocks) -> Blocks:
        """Y, as `split_y` cuts it."""
        whole = self._gather(x, self.along, 0)
        return self._scatter({d: whole[d] @ w[d] for d in w}, self.across, 1)

    def backward(self, x: Blocks, w: Blocks, dy: Blocks) -> tuple[Blocks, Blocks]:
        """Gradients dX as `split_x` and dW as `split_w` cut them; X is gathered again."""
        slopes = self._gather(dy, self.across, 1)
        whole = self._gather(x, self.along, 0)
        dx = self._scatter({d: slopes[d] @ w[d].T for d in w}, self.along, 0)
        return dx, {d: whole[d].T @ slopes[d] for d in w}

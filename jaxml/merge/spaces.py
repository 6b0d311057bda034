"""Feature spaces as equivalence classes: which axes of which arrays must share one basis.

Every axis of every value is one of: `None`, along which the value is constant; `FIXED`, which
carries something no basis change may touch (examples, pixels, input channels, classes); or a
`Space`, d features laid out as [outer, d, inner].
"""

from typing import Any, NamedTuple

FIXED = "fixed"


class Space(NamedTuple):
    """An axis that carries features: atom number and layout."""

    atom: int
    outer: int = 1
    inner: int = 1


type Label = Space | str | None


class Spaces:
    """Union-find over atoms; an atom may stand for a whole layout of another."""

    def __init__(self):
        self._link: dict[int, Space] = {}
        self.sizes: dict[int, int] = {}
        self._frozen: set[int] = set()
        self._rigid: set[int] = set()

    def new(self, size: int) -> Space:
        """A new space of that many features."""
        atom = len(self.sizes)
        self.sizes[atom] = size
        return Space(atom)

    def find(self, label: Label) -> Label:
        """The label by its class's representative."""
        while isinstance(label, Space) and label.atom in self._link:
            to = self._link[label.atom]
            label = Space(to.atom, label.outer * to.outer, to.inner * label.inner)
        return label

    def freeze(self, label: Label) -> None:
        """No change of basis is possible here."""
        found = self.find(label)
        if isinstance(found, Space):
            self._frozen.add(found.atom)

    def make_rigid(self, label: Label) -> None:
        """Only permutations are possible here."""
        found = self.find(label)
        if isinstance(found, Space):
            self._rigid.add(found.atom)

    def is_frozen(self, atom: int) -> bool:
        """Whether the class must stay as it is."""
        return atom in self._frozen

    def is_rigid(self, atom: int) -> bool:
        """Whether the class may only be permuted."""
        return atom in self._rigid

    def unify(self, a: Label, b: Label) -> Label:
        """Two axes meet and must share one basis; returns the common label."""
        a, b = self.find(a), self.find(b)
        if a is None or b is None:
            return b if a is None else a
        if not (isinstance(a, Space) and isinstance(b, Space)):
            self.freeze(a)
            self.freeze(b)
            return FIXED
        if a == b:
            return a
        if a.atom != b.atom:
            if b[1:] == (1, 1) or a[1:] == b[1:]:
                return self._bind(b.atom, a if b[1:] == (1, 1) else Space(a.atom)) or a
            if a[1:] == (1, 1):
                return self._bind(a.atom, b) or b
        self.freeze(a)
        self.freeze(b)
        return FIXED

    def _bind(self, atom: int, to: Space) -> None:
        self._link[atom] = to
        if atom in self._frozen:
            self._frozen.add(to.atom)
        if atom in self._rigid:
            self._rigid.add(to.atom)


def merged(labels: list[Label], sizes: list[int], spaces: Spaces) -> Label:
    """The label of several axes flattened into one."""
    found = [spaces.find(label) for label in labels]
    where = [i for i, label in enumerate(found) if isinstance(label, Space)]
    if not where:
        return None if all(label is None for label in found) else FIXED
    if len(where) > 1:
        for label in found:
            spaces.freeze(label)
        return FIXED
    at = where[0]
    before, after = _product(sizes[:at]), _product(sizes[at + 1 :])
    space: Any = found[at]
    return Space(space.atom, before * space.outer, space.inner * after)


def split(label: Label, sizes: list[int], spaces: Spaces) -> list[Label]:
    """The labels of one axis cut into several; features stay whole, or the space is frozen."""
    found = spaces.find(label)
    if not isinstance(found, Space):
        return [found] * len(sizes)
    d = spaces.sizes[found.atom]
    for i, size in enumerate(sizes):
        if size == d and (_product(sizes[:i]), _product(sizes[i + 1 :])) == found[1:]:
            whole: list[Label] = [FIXED] * len(sizes)
            whole[i] = Space(found.atom)
            return whole
    spaces.freeze(found)
    return [FIXED] * len(sizes)


def _product(sizes: list[int]) -> int:
    total = 1
    for size in sizes:
        total *= size
    return total

"""Weight matching (Git Re-Basin, arXiv 2209.04836): permutations that need no data.

Coordinate descent: with all other nodes' permutations fixed, the best one of a node is a linear
assignment. A node's costs change only when a neighbour's permutation does, so products are kept
until then.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxml.core import tree
from jaxml.core.types import PyTree
from jaxml.inputs.order import generator
from jaxml.merge.align import assign
from jaxml.merge.network import is_statistic
from jaxml.merge.spec import MergeSpec, ParamAxis


class _Term:
    """The part of a node's costs that one array gives, at one of its axes."""

    def __init__(self, a: np.ndarray, b: np.ndarray, site: ParamAxis, others: Any):
        order = self._layout(a, site, others)
        self.ours, self.theirs = order(a), order(b)
        self.neighbours = [name for name, _ in others]
        self.fixed = self._product(self.theirs) if not others else None

    def _layout(self, array: np.ndarray, site: ParamAxis, others: Any) -> Any:
        """A function that brings the node's axis first, and the others' next."""
        sites = [site, *(other for _, other in others)]
        shape: list[int] = []
        at: dict[int, int] = {}
        for axis, size in enumerate(array.shape):
            here = next((s for s in sites if s.axis % array.ndim == axis), None)
            if here is None:
                shape.append(size)
                continue
            at[axis] = len(shape) + 1
            shape += [here.outer, size // (here.outer * here.inner), here.inner]
        first = [at[s.axis % array.ndim] for s in sites]
        rest = [i for i in range(len(shape)) if i not in first]
        return lambda x: np.ascontiguousarray(x.reshape(shape).transpose(first + rest))

    def _product(self, theirs: np.ndarray) -> np.ndarray:
        d = len(self.ours)
        return self.ours.reshape(d, -1) @ theirs.reshape(d, -1).T

    def costs(self, orders: Mapping[str, np.ndarray]) -> np.ndarray:
        """Inner products [d, d] of our rows and theirs, the neighbours' axes in `orders`."""
        if self.fixed is not None:
            return self.fixed
        theirs = self.theirs
        for axis, name in enumerate(self.neighbours, 1):
            theirs = np.take(theirs, orders[name], axis)
        return self._product(theirs)


def weight_matching(
    spec: MergeSpec, ours: PyTree, theirs: PyTree, seed: int = 0, max_rounds: int = 100
) -> dict[str, np.ndarray]:
    """The permutation of every node that brings `theirs` nearest to `ours`.

    Running statistics do not count; they are permuted with the rest when applied.

    Args:
      spec: nodes; those with blocks are matched block by block.
      ours: the reference's variables.
      theirs: the other network's.
      seed: of the order of the nodes in each round.
      max_rounds: stops earlier when no node improves.

    Returns:
      For each node int64 [d]: aligned feature i is feature `order[i]` of `theirs`.
    """
    spec.check(ours)
    terms = _terms(spec, ours, theirs)
    sizes = spec.sizes(ours)
    orders = {name: np.arange(sizes[name]) for name in spec.nodes}
    stamp = dict.fromkeys(spec.nodes, 0)  # how often a permutation changed
    kept: dict[tuple[str, int], tuple[Any, np.ndarray]] = {}
    settled: dict[str, Any] = {}
    random, names = generator(seed, "weight matching"), list(spec.nodes)
    for _ in range(max_rounds):
        progress = False
        for name in (names[i] for i in random.permutation(len(names))):
            around = {n for term in terms[name] for n in term.neighbours}
            state = {n: stamp[n] for n in around}
            if settled.get(name) == state:
                continue
            total = np.zeros((sizes[name], sizes[name]))
            for i, term in enumerate(terms[name]):
                key, now = (name, i), tuple(stamp[n] for n in term.neighbours)
                if key not in kept or kept[key][0] != now:
                    kept[key] = (now, term.costs(orders))
                total += kept[key][1]
            new = _assign_blocks(total, spec.nodes[name].block)
            rows = np.arange(len(new))
            if total[rows, new].sum() > total[rows, orders[name]].sum() + 1e-12:
                orders[name], progress = new, True
                stamp[name] += 1
            settled[name] = state
        if not progress:
            break
    return orders


def _assign_blocks(total: np.ndarray, block: int) -> np.ndarray:
    if block == 1:
        return assign(total)
    num = len(total) // block
    diagonals = np.einsum("iajb,ab->ij", total.reshape(num, block, num, block), np.eye(block))
    match = assign(diagonals)
    return (match[:, None] * block + np.arange(block)).reshape(-1)


def _terms(spec: MergeSpec, ours: PyTree, theirs: PyTree) -> dict[str, list[_Term]]:
    a, b = tree.flatten(ours), tree.flatten(theirs)
    arrays: dict[tuple[str, int | None], list[tuple[str, ParamAxis]]] = {}
    for name, node in spec:
        for site in node.sites:
            if not is_statistic(site.path):
                arrays.setdefault((site.path, site.index), []).append((name, site))
    terms: dict[str, list[_Term]] = {name: [] for name in spec.nodes}
    for (path, index), members in arrays.items():
        first, second = (np.asarray(x[path], np.float32) for x in (a, b))
        if index is not None:
            first, second = first[index], second[index]
        for name, site in members:
            others = [(other, s) for other, s in members if s is not site]
            terms[name].append(_Term(first, second, site, others))
    return terms


def agreement(ours: PyTree, theirs: PyTree) -> float:
    """The inner product of all parameters: what weight matching maximises."""
    a, b = tree.flatten(ours), tree.flatten(theirs)
    return float(
        sum(
            np.vdot(np.asarray(a[path], np.float64), np.asarray(b[path], np.float64))
            for path in a
            if not is_statistic(path)
        )
    )

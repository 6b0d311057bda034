"""Where the feature spaces of a network live: nodes, and the parameter axes they own.

A node is one space of d features. Writers produce it (their rows are its features), readers
consume it, norms act on it feature by feature. Changing the basis of a node by T multiplies
writers and norms by T and readers by its inverse; all axes of one node change together, or the
network breaks.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from jaxml.core import check, tree
from jaxml.core.types import PyTree


class ParamAxis(NamedTuple):
    """One axis of one array that carries a node's features.

    Attributes:
      path: of the array among the network's variables, e.g. `params/layer0/kernel`.
      axis: which axis; for a stacked array counted inside its layer.
      index: layer of an array stacked over layers along its first axis; None: not stacked.
      outer: the axis is laid out [outer, d, inner]; a flattened image [y, x, c] has y * x here.
      inner: see `outer`.
      rigid: moves by the permutation part of a change of basis only (queries and keys, whose
        products must not change).
    """

    path: str
    axis: int = -1
    index: int | None = None
    outer: int = 1
    inner: int = 1
    rigid: bool = False

    def size(self, leaves: Mapping[str, Any]) -> int:
        """d, as this axis has it.

        Raises:
          ValueError: no such array or axis, or factors that do not divide it; names the path.
        """
        if self.path not in leaves:
            hint = check.nearest(self.path, leaves)
            raise ValueError(f"the spec names {self.path!r}, which the network lacks{hint}.")
        shape = tuple(leaves[self.path].shape)
        if self.index is not None:
            if not shape or not 0 <= self.index < shape[0]:
                raise ValueError(
                    f"{self.path} must have a layer {self.index}; its shape is {shape}."
                )
            shape = shape[1:]
        if not -len(shape) <= self.axis < len(shape):
            raise ValueError(
                f"axis of {self.path} must lie in its {len(shape)} axes; got axis={self.axis}."
            )
        whole, factor = shape[self.axis], self.outer * self.inner
        if factor < 1 or whole % factor:
            raise ValueError(
                f"outer * inner must divide axis {self.axis} of {self.path} ({whole}); "
                f"got outer={self.outer}, inner={self.inner}."
            )
        return whole // factor


class Node(NamedTuple):
    """One feature space.

    Attributes:
      writers: axes that produce the features.
      readers: axes that consume them.
      norms: vectors that scale, shift or describe them one by one, running statistics included.
      tap: where features are read: a name the network gives, or an operation of its trace.
      block: features that move as one, e.g. those of an attention head.
      rigid: only a permutation keeps the network's meaning (e.g. around a layer norm); other
        methods then permute here.
    """

    writers: tuple[ParamAxis, ...]
    readers: tuple[ParamAxis, ...]
    norms: tuple[ParamAxis, ...] = ()
    tap: str = ""
    block: int = 1
    rigid: bool = False

    @property
    def sites(self) -> tuple[ParamAxis, ...]:
        """All axes: writers, norms, readers."""
        return (*self.writers, *self.norms, *self.readers)


@dataclasses.dataclass(frozen=True)
class MergeSpec:
    """All nodes of a network by name, in the order of its computation."""

    nodes: Mapping[str, Node]

    def __iter__(self) -> Iterator[tuple[str, Node]]:
        """Names and nodes."""
        return iter(self.nodes.items())

    def sizes(self, variables: PyTree) -> dict[str, int]:
        """Width d of every node, for variables that pass `check`."""
        leaves = tree.flatten(variables)
        return {name: node.sites[0].size(leaves) for name, node in self}

    def check(self, variables: PyTree) -> None:
        """Checks that the spec fits a network.

        Raises:
          ValueError: a node without writer or reader, a path or axis that is not there, widths
            that differ inside a node, a block that does not divide it, or an axis of two nodes.
        """
        leaves, owner = tree.flatten(variables), dict[Any, str]()
        if not self.nodes:
            raise ValueError("the spec must have a node; got none.")
        for name, node in self:
            for role in ("writers", "readers"):
                if not getattr(node, role):
                    raise ValueError(f"node {name!r} must have {role}; got none.")
            widths = {site: site.size(leaves) for site in node.sites}
            if len(set(widths.values())) > 1:
                said = ", ".join(f"{s.path} axis {s.axis}: {d}" for s, d in widths.items())
                raise ValueError(f"axes of node {name!r} must have one width; got {said}.")
            if next(iter(widths.values())) % node.block:
                raise ValueError(
                    f"block must divide the width of node {name!r}; got block={node.block}, "
                    f"width={next(iter(widths.values()))}."
                )
            for site in node.sites:
                place = _place(site, leaves)
                if owner.setdefault(place, name) != name:
                    raise ValueError(
                        f"axis {site.axis} of {site.path} belongs to the nodes "
                        f"{owner[place]!r} and {name!r}; an axis has one node."
                    )


def _place(site: ParamAxis, leaves: Mapping[str, Any]) -> tuple[str, int, int | None]:
    rank = len(leaves[site.path].shape) - (site.index is not None)
    return site.path, site.axis % rank, site.index


def same_sites(a: MergeSpec, b: MergeSpec, variables: PyTree) -> bool:
    """Whether two specs group the same axes in the same roles, whatever their nodes are called."""
    leaves = tree.flatten(variables)

    def groups(spec: MergeSpec) -> set[Any]:
        return {
            (
                frozenset(_place(s, leaves) for s in (*node.writers, *node.norms)),
                frozenset((*_place(s, leaves), s.outer, s.inner) for s in node.readers),
            )
            for _, node in spec
        }

    return groups(a) == groups(b)


def check_models(models: list[PyTree]) -> None:
    """Checks that models can be merged.

    Raises:
      ValueError: fewer than two, or trees whose paths or shapes differ (the path is named).
    """
    if len(models) < 2:
        raise ValueError(f"models must hold at least two networks; got {len(models)}.")
    for i, other in enumerate(models[1:], 1):
        tree.check_match(other, models[0], f"model {i}")

"""Changing the basis of a network's nodes, and averaging networks that share one."""

from collections.abc import Mapping, Sequence

import numpy as np

from jaxml.core import tree
from jaxml.core.types import PyTree
from jaxml.merge.align import Alignment
from jaxml.merge.spec import MergeSpec, Node, ParamAxis, check_models


def apply_alignment(
    spec: MergeSpec, variables: PyTree, alignments: Mapping[str, Alignment]
) -> PyTree:
    """The network in other bases: writers and norms times T, readers times its inverse.

    A permutation leaves the function of the network as it is. Any other T does not, where it
    meets a nonlinearity, and running variances times T are no variances: reset them after
    averaging.

    Args:
      spec: nodes of the network.
      variables: as checked by `spec.check`.
      alignments: by node; nodes without one stay as they are.

    Raises:
      ValueError: an alignment of a node that the spec lacks, or of another width.
    """
    leaves = {path: np.array(leaf) for path, leaf in tree.flatten(variables).items()}
    dtypes = {path: leaf.dtype for path, leaf in leaves.items()}
    if unknown := set(alignments) - set(spec.nodes):
        raise ValueError(f"alignments name nodes that the spec lacks: {', '.join(unknown)}.")
    for name, alignment in alignments.items():
        _check_width(name, spec.nodes[name], alignment, leaves)
        for site, reads in _sites(spec.nodes[name]):
            leaves[site.path] = _changed(leaves[site.path], site, alignment, reads)
    new = {path: leaf.astype(dtypes[path]) for path, leaf in leaves.items()}
    return tree.map_with_path(lambda path, _: new[path], variables)


def _sites(node: Node) -> list[tuple[ParamAxis, bool]]:
    writes = [(site, False) for site in (*node.writers, *node.norms)]
    return writes + [(site, True) for site in node.readers]


def _check_width(name: str, node: Node, alignment: Alignment, leaves: Mapping[str, object]) -> None:
    d = node.sites[0].size(leaves)
    if alignment.matrix.shape != (d, d):
        raise ValueError(
            f"the alignment of node {name!r} must have shape {(d, d)}; "
            f"got {alignment.matrix.shape}."
        )


def _changed(leaf: np.ndarray, site: ParamAxis, alignment: Alignment, reads: bool) -> np.ndarray:
    if site.index is not None:
        one = _changed(leaf[site.index], site._replace(index=None), alignment, reads)
        stack = leaf.astype(np.promote_types(leaf.dtype, one.dtype))
        stack[site.index] = one
        return stack
    axis = site.axis % leaf.ndim
    d = leaf.shape[axis] // (site.outer * site.inner)
    before, after = leaf.shape[:axis], leaf.shape[axis + 1 :]
    cut = leaf.reshape(*before, site.outer, d, site.inner, *after)
    if site.rigid or _is_permutation(alignment):
        new = np.take(cut, alignment.order, axis + 1)
    else:
        matrix = alignment.inverse.T if reads else alignment.matrix
        last = np.moveaxis(cut, axis + 1, -1).astype(np.float64)
        new = np.moveaxis(last @ matrix.T, -1, axis + 1)
    return new.reshape(leaf.shape)


def _is_permutation(alignment: Alignment) -> bool:
    rows = np.arange(len(alignment.order))
    picked = alignment.matrix[rows, alignment.order]
    return bool((picked == 1).all() and np.count_nonzero(alignment.matrix) == len(rows))


def average(models: Sequence[PyTree], weights: Sequence[float] | None = None) -> PyTree:
    """The mean of networks, each weighing `weights[k]` (default: alike).

    Leaves that are no floating-point numbers are the first network's.

    Raises:
      ValueError: fewer than two networks, trees that differ, or weights that do not sum to one.
    """
    check_models(list(models))
    shares = [1 / len(models)] * len(models) if weights is None else list(weights)
    check_weights(shares, len(models))

    def mean(*leaves: np.ndarray) -> np.ndarray:
        first = np.asarray(leaves[0])
        if not np.issubdtype(first.dtype, np.floating) and first.dtype.name != "bfloat16":
            return first
        total = sum(
            w * np.asarray(leaf, np.float64) for w, leaf in zip(shares, leaves, strict=True)
        )
        return np.asarray(total).astype(first.dtype)

    return tree.map_with_path(lambda _, *leaves: mean(*leaves), *models)


def check_weights(weights: Sequence[float], num_models: int) -> None:
    """Raises ValueError unless there is one weight per network and they sum to one."""
    if len(weights) != num_models:
        raise ValueError(
            f"weights must have one number per network; got {len(weights)} for {num_models}."
        )
    if not np.isfinite(weights).all() or abs(sum(weights) - 1) > 1e-6:
        raise ValueError(f"weights must sum to 1; got a sum of {sum(weights):g}.")

"""Nested dicts of arrays, addressed by paths such as `layers/attention/query/kernel`."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxml.core.types import PyTree


def path_of(keys: Any) -> str:
    """A key path of `jax.tree_util` as text with slashes."""
    return jax.tree_util.keystr(keys, simple=True, separator="/")


def flatten(tree: PyTree, is_leaf: Callable[[Any], bool] | None = None) -> dict[str, Any]:
    """Leaves by path, in the tree's order.

    >>> flatten({"a": {"b": 1}, "c": 2})
    {'a/b': 1, 'c': 2}
    """
    pairs = jax.tree_util.tree_flatten_with_path(tree, is_leaf=is_leaf)[0]
    return {path_of(keys): leaf for keys, leaf in pairs}


def unflatten(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """The nested dict whose `flatten` is `leaves`."""
    tree: dict[str, Any] = {}
    for path, leaf in leaves.items():
        *parents, name = path.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = leaf
    return tree


def map_with_path(function: Callable[..., Any], tree: PyTree, *rest: PyTree) -> PyTree:
    """`jax.tree.map` whose function gets the path first."""
    return jax.tree_util.tree_map_with_path(
        lambda keys, *leaves: function(path_of(keys), *leaves), tree, *rest
    )


def cast(tree: PyTree, dtype: Any) -> PyTree:
    """Floating leaves in another dtype; integers, bools and keys stay as they are."""
    return jax.tree.map(
        lambda x: x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree
    )


def num_elements(tree: PyTree) -> int:
    """Total number of array elements."""
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def num_bytes(tree: PyTree) -> int:
    """Total size of the arrays in bytes."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def check_match(got: PyTree, want: PyTree, what: str = "tree") -> None:
    """Checks that two trees agree in paths and shapes.

    Raises:
      ValueError: names every path that is missing, extra or of another shape.
    """
    have, need = flatten(got), flatten(want)
    problems = [f"missing {p}" for p in need if p not in have]
    problems += [f"unexpected {p}" for p in have if p not in need]
    problems += [
        f"{p} has shape {tuple(have[p].shape)}, expected {tuple(need[p].shape)}"
        for p in need
        if p in have and tuple(have[p].shape) != tuple(need[p].shape)
    ]
    if problems:
        more = f" and {len(problems) - 8} more" if len(problems) > 8 else ""
        raise ValueError(f"{what} does not match: {'; '.join(problems[:8])}{more}.")

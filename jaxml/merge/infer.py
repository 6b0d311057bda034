"""The merge spec of a network, read off its traced computation.

Axes that are summed over together, or combined element by element, must change basis together.
Following them through the operations groups the axes of all parameters into feature spaces; a
space that no input, output or rigid operation pins down, with a writer and a reader, is a node.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from jaxml.core import tree
from jaxml.core.types import PyTree
from jaxml.merge import rules
from jaxml.merge.graph import trace
from jaxml.merge.spaces import Space
from jaxml.merge.spec import MergeSpec, Node, ParamAxis

SAME_FEATURES = ("reshape", "transpose", "squeeze", "convert_element_type", "copy", "reduce_sum")
SCALINGS = ("div", "mul")


def infer_spec(apply_fn: Callable[..., Any], variables: PyTree, *inputs: Any) -> MergeSpec:
    """The nodes of a feed-forward or convolutional network.

    Handles matrix products and convolutions (depthwise ones too) in any layout, biases, batch
    norm, residual sums, pooling, flattening, gates. Features that a network reduces over (layer
    norm) become rigid nodes, which only permutations may touch. What is not understood stays
    unaligned; networks that loop over layers or cut features into heads need a spec by hand.

    Args:
      apply_fn: `(variables, *inputs) -> logits`, in evaluation mode.
      variables: parameters and statistics, any tree; shapes are enough.
      *inputs: examples; shapes are enough. Taps stand for any batch size.

    Raises:
      ValueError: no node was found; says what it met.

    >>> import jax.numpy as jnp
    >>> params = {"a": {"w": jnp.ones((3, 8))}, "b": {"w": jnp.ones((8, 2))}}
    >>> def apply(p, x):
    ...     return jnp.maximum(x @ p["a"]["w"], 0) @ p["b"]["w"]
    >>> [(name, node.writers[0].path) for name, node in infer_spec(apply, params, jnp.ones((5, 3)))]
    [('a', 'a/w')]
    """
    graph = trace(apply_fn, variables, *inputs)
    flow = rules.Flow(graph)
    for index, operation in enumerate(graph.operations):
        rules.apply(flow, operation, index)
    for slot in graph.outputs:
        flow.freeze(slot)
    spec = MergeSpec(_nodes(flow, tree.flatten(variables)))
    if not spec.nodes:
        names = ", ".join(sorted({o.name for o in graph.operations}))
        raise ValueError(
            f"no feature space found in the trace (operations: {names}); give a MergeSpec."
        )
    spec.check(variables)
    return spec


def _nodes(flow: rules.Flow, leaves: dict[str, Any]) -> dict[str, Node]:
    groups: dict[int, list[tuple[str, int, Space]]] = {}
    for (path, axis), atom in flow.atoms.items():
        found = flow.spaces.find(Space(atom))
        if isinstance(found, Space) and not flow.spaces.is_frozen(found.atom):
            groups.setdefault(found.atom, []).append((path, axis, found))
    nodes = []
    for root, members in groups.items():
        reads = [r for r in flow.reads if _root(flow, r[3]) == root]
        if not reads:
            continue
        node = _node(flow, root, members, reads, leaves)
        if node is not None:
            nodes.append((int(node.tap.split(":")[0]), node))
    named: dict[str, Node] = {}
    for _, node in sorted(nodes, key=lambda pair: pair[0]):
        named[_name(node, named)] = node
    return named


def _root(flow: rules.Flow, atom: int) -> int:
    found = flow.spaces.find(Space(atom))
    assert isinstance(found, Space)
    return found.atom


def _node(
    flow: rules.Flow, root: int, members: list[Any], reads: list[Any], leaves: dict[str, Any]
) -> Node | None:
    read_atoms = {atom for *_, atom in reads}
    readers, matrices, vectors = [], [], []
    for path, axis, space in members:
        site = ParamAxis(path, axis, outer=space.outer, inner=space.inner)
        if flow.atoms[path, axis] in read_atoms:
            readers.append(site)
        else:
            (matrices if len(leaves[path].shape) > 1 else vectors).append(site)
    if not matrices:
        return None
    homes = {site.path.rpartition("/")[0] for site in matrices}
    biases = [v for v in vectors if v.path.rpartition("/")[0] in homes]
    norms = [v for v in vectors if v not in biases]
    tap = _tap(flow, root, max(reads))
    writers = (*matrices, *biases)
    return Node(writers, tuple(readers), tuple(norms), tap, 1, flow.spaces.is_rigid(root))


def _tap(flow: rules.Flow, root: int, read: tuple[int, int, int, int]) -> str:
    """Where features are read: `slot:axis:outer:inner`, before pooling and flattening."""
    producers = {out: op for op in flow.graph.operations for out in op.outputs}
    slot = read[1]
    while (op := producers.get(slot)) is not None and _keeps_features(flow, op):
        if not any(_label_root(flow, x) == root for x in flow.labels[op.inputs[0]]):
            break
        slot = op.inputs[0]
    axis = next(i for i, x in enumerate(flow.labels[slot]) if _label_root(flow, x) == root)
    space = flow.spaces.find(flow.labels[slot][axis])
    assert isinstance(space, Space)
    return f"{slot}:{axis}:{space.outer}:{space.inner}"


def _label_root(flow: rules.Flow, label: Any) -> int | None:
    found = flow.spaces.find(label)
    return found.atom if isinstance(found, Space) else None


def _keeps_features(flow: rules.Flow, op: Any) -> bool:
    if op.name in SAME_FEATURES or op.name.startswith("reduce_window"):
        return True
    return op.name in SCALINGS and all(
        flow.shape(slot) == () or all(label is None for label in flow.labels[slot])
        for slot in op.inputs[1:]
    )


def _name(node: Node, taken: dict[str, Node]) -> str:
    path = node.writers[0].path
    parent = path.rpartition("/")[0] or path
    name = parent.removeprefix("params/")
    return name if name not in taken else path


def read_tap(values: dict[int, Any], tap: str) -> Any:
    """Features [..., d] at a tap of an inferred spec, from the values of the graph's slots."""
    slot, axis, outer, inner = map(int, tap.split(":"))
    array = values[slot]
    axis %= array.ndim
    d = array.shape[axis] // (outer * inner)
    shape = (*array.shape[:axis], outer, d, inner, *array.shape[axis + 1 :])
    cut = jnp.moveaxis(array.reshape(shape), axis + 1, -1)
    return cut.reshape(
        *(n for i, n in enumerate(cut.shape[:-1]) if i not in (axis, axis + 1) or n > 1), d
    )


def tap_slot(tap: str) -> int:
    """The slot of a tap."""
    return int(tap.split(":")[0])

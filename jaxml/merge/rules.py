"""What each primitive does to the feature spaces of its operands."""

from collections.abc import Callable
from typing import Any

import numpy as np

from jaxml.merge.graph import Graph, Operation, is_uniform
from jaxml.merge.spaces import FIXED, Label, Space, Spaces, merged, split


class Flow:
    """Labels of the axes of every slot, filled in order of the operations.

    Attributes:
      labels: by slot, one label per axis.
      spaces: the classes.
      source: slots made from one leaf by moving its axes about, and that leaf's path.
      reads: (operation index, slot of the features, its axis, atom of the parameter's axis) for
        each product of features with a parameter.
    """

    def __init__(self, graph: Graph):
        self.graph, self.spaces = graph, Spaces()
        self.labels: dict[int, list[Label]] = {}
        self.source: dict[int, str] = {}
        self.reads: list[tuple[int, int, int, int]] = []
        self.atoms: dict[tuple[str, int], int] = {}
        for path, slot in graph.leaves.items():
            self.source[slot] = path
            sizes = graph.shapes[slot]
            self.labels[slot] = [self.spaces.new(n) if n > 1 else None for n in sizes]
            for axis, label in enumerate(self.labels[slot]):
                if isinstance(label, Space):
                    self.atoms[path, axis] = label.atom
        for slot in graph.inputs:
            self.labels[slot] = [FIXED for _ in graph.shapes[slot]]
        for slot, value in graph.constants.items():
            mark = None if is_uniform(value) else FIXED
            self.labels[slot] = [mark if n > 1 else None for n in np.shape(value)]

    def shape(self, slot: int) -> tuple[int, ...]:
        """Of a slot."""
        return self.graph.shapes[slot]

    def freeze(self, slot: int) -> None:
        """Freezes every space of a slot."""
        for label in self.labels[slot]:
            self.spaces.freeze(label)


type RuleFn = Callable[[Flow, Operation, int], list[list[Label]]]


def apply(flow: Flow, operation: Operation, index: int) -> None:
    """Labels the results of one operation."""
    rule = RULES.get(operation.name, RULES.get(_family(operation.name), elementwise))
    for slot, labels in zip(operation.outputs, rule(flow, operation, index), strict=True):
        sizes = flow.shape(slot)
        flow.labels[slot] = [
            label if n > 1 else None for label, n in zip(labels, sizes, strict=True)
        ]
    if operation.name in MOVES and operation.inputs[0] in flow.source:
        flow.source[operation.outputs[0]] = flow.source[operation.inputs[0]]


def _family(name: str) -> str:
    return next((f for f in ("reduce_window", "reduce_", "cum") if name.startswith(f)), name)


def elementwise(flow: Flow, op: Operation, index: int) -> list[list[Label]]:
    """Axes of equal size are shared, axes of size one stretched; anything else is frozen."""
    del index
    out = flow.shape(op.outputs[0])
    wide = [slot for slot in op.inputs if flow.shape(slot) != ()]
    fits = all(_stretches(flow.shape(slot), out) for slot in wide)
    if not fits or any(flow.shape(slot) != out for slot in op.outputs):
        return opaque(flow, op, 0)
    labels: list[Label] = [None] * len(out)
    for slot in wide:
        labels = [flow.spaces.unify(a, b) for a, b in zip(labels, flow.labels[slot], strict=True)]
    return [labels for _ in op.outputs]


def _stretches(shape: tuple[int, ...], out: tuple[int, ...]) -> bool:
    return len(shape) == len(out) and all(a in (1, b) for a, b in zip(shape, out, strict=True))


def opaque(flow: Flow, op: Operation, index: int) -> list[list[Label]]:
    """Freezes all that goes in."""
    del index
    for slot in op.inputs:
        flow.freeze(slot)
    return [[FIXED] * len(flow.shape(slot)) for slot in op.outputs]


def _meet(flow: Flow, index: int, a: tuple[int, int], b: tuple[int, int]) -> None:
    """Two axes (slot, axis) are summed over together."""
    first, second = (flow.labels[slot][axis] for slot, axis in (a, b))
    if first is None or second is None:  # a plain sum over features
        flow.spaces.make_rigid(first or second)
        return
    for (slot, axis), (other, _) in ((a, b), (b, a)):
        label = flow.labels[other][b[1] if other == b[0] else a[1]]
        if other in flow.source and slot not in flow.source and isinstance(label, Space):
            flow.reads.append((index, slot, axis, label.atom))
    flow.spaces.unify(first, second)


def dot_general(flow: Flow, op: Operation, index: int) -> list[list[Label]]:
    """Contracted axes share a space; the others pass."""
    (left, right), (batch_l, batch_r) = op.params["dimension_numbers"]
    lhs, rhs = op.inputs
    for a, b in zip(left, right, strict=True):
        _meet(flow, index, (lhs, a), (rhs, b))
    labels = [
        flow.spaces.unify(flow.labels[lhs][a], flow.labels[rhs][b])
        for a, b in zip(batch_l, batch_r, strict=True)
    ]
    for slot, used in ((lhs, (*left, *batch_l)), (rhs, (*right, *batch_r))):
        labels += [x for axis, x in enumerate(flow.labels[slot]) if axis not in used]
    return [labels]


def convolution(flow: Flow, op: Operation, index: int) -> list[list[Label]]:
    """Input channels meet the kernel's; output channels are the kernel's."""
    lhs, rhs = op.inputs
    numbers, groups = op.params["dimension_numbers"], op.params["feature_group_count"]
    batch, channels = numbers.lhs_spec[:2]
    outs, ins = numbers.rhs_spec[:2]
    label = flow.labels[rhs][outs]
    if op.params["batch_group_count"] != 1:
        return opaque(flow, op, index)
    if groups == 1:
        _meet(flow, index, (lhs, channels), (rhs, ins))
    elif flow.shape(rhs)[ins] == 1 and flow.shape(lhs)[channels] == flow.shape(rhs)[outs]:
        label = flow.spaces.unify(flow.labels[lhs][channels], label)  # depthwise
    else:
        flow.spaces.freeze(flow.labels[lhs][channels])
        flow.freeze(rhs)
        label = FIXED
    labels: list[Label] = [FIXED] * len(flow.shape(op.outputs[0]))
    labels[numbers.out_spec[0]] = flow.labels[lhs][batch]
    labels[numbers.out_spec[1]] = label
    for axis in numbers.rhs_spec[2:]:
        flow.spaces.freeze(flow.labels[rhs][axis])
    return [labels]


def broadcast(flow: Flow, op: Operation, index: int) -> list[list[Label]]:
    """New and stretched axes are constant."""
    del index
    slot = op.inputs[0]
    labels: list[Label] = [None] * len(op.params["shape"])
    for axis, to in enumerate(op.params["broadcast_dimensions"]):
        labels[to] = flow.labels[slot][axis]
    return [labels]


def transpose(flow: Flow, op: Operation, index: int) -> list[list[Label]]:
    """Axes change places."""
    del index
    return [[flow.labels[op.inputs[0]][axis] for axis in op.params["permutation"]]]


def reshape(flow: Flow, op: Operation, index: int) -> list[list[Label]]:
    """Axes are joined and cut; features must stay whole."""
    del index
    slot, new = op.inputs[0], list(op.params["new_sizes"])
    old, labels, result, i, j = list(flow.shape(slot)), flow.labels[slot], [], 0, 0
    if op.params.get("dimensions") is not None or 0 in old:
        return opaque(flow, op, 0)
    while i < len(old) or j < len(new):
        start_i, start_j = i, j
        before = after = 1
        while i < len(old) or j < len(new):
            if i < len(old) and (before <= after or j == len(new)):
                before, i = before * old[i], i + 1
            else:
                after, j = after * new[j], j + 1
            if before == after and i > start_i and j > start_j:
                break
        result += _regroup(flow, labels[start_i:i], old[start_i:i], new[start_j:j])
    return [result]


def _regroup(flow: Flow, labels: list[Label], old: list[int], new: list[int]) -> list[Label]:
    kept = [(label, n) for label, n in zip(labels, old, strict=True) if n > 1]
    wide = [n for n in new if n > 1]
    if [n for _, n in kept] == wide:
        found = [label for label, _ in kept]
    elif len(wide) == 1:
        found = [merged([x for x, _ in kept], [n for _, n in kept], flow.spaces)]
    elif len(kept) == 1:
        found = split(kept[0][0], wide, flow.spaces)
    else:
        for label, _ in kept:
            flow.spaces.freeze(label)
        found = [FIXED] * len(wide)
    rest = iter(found)
    return [next(rest) if n > 1 else None for n in new]


def squeeze(flow: Flow, op: Operation, index: int) -> list[list[Label]]:
    """Axes of size one go."""
    del index
    labels, gone = flow.labels[op.inputs[0]], op.params["dimensions"]
    return [[label for axis, label in enumerate(labels) if axis not in gone]]


def reduction(flow: Flow, op: Operation, index: int) -> list[list[Label]]:
    """A sum over features keeps its meaning under permutations only."""
    del index
    gone = op.params["axes"]
    for slot in op.inputs:
        for axis in gone:
            flow.spaces.make_rigid(flow.labels[slot][axis])
    labels = flow.labels[op.inputs[0]]
    kept = [label for axis, label in enumerate(labels) if axis not in gone]
    return [kept for _ in op.outputs]


def windows(flow: Flow, op: Operation, index: int) -> list[list[Label]]:
    """Pooling, padding, slicing: axes whose length stays keep their features."""
    del index
    slot, out = op.inputs[0], op.outputs[0]
    if len(flow.shape(slot)) != len(flow.shape(out)):
        return opaque(flow, op, 0)
    labels = []
    for label, a, b in zip(flow.labels[slot], flow.shape(slot), flow.shape(out), strict=True):
        if a != b:
            flow.spaces.freeze(label)
        labels.append(label if a == b else FIXED)
    return [labels]


def along(flow: Flow, op: Operation, index: int) -> list[list[Label]]:
    """Concatenation, sorting, running sums: the axis along which they act is frozen."""
    del index
    axis = int(op.params["dimension" if "dimension" in op.params else "axis"])
    labels: list[Label] = [None] * len(flow.shape(op.outputs[0]))
    for slot in op.inputs:
        flow.spaces.freeze(flow.labels[slot][axis])
        labels = [
            FIXED if i == axis else flow.spaces.unify(a, b)
            for i, (a, b) in enumerate(zip(labels, flow.labels[slot], strict=True))
        ]
    return [labels for _ in op.outputs]


def gather(flow: Flow, op: Operation, index: int) -> list[list[Label]]:
    """A look-up: axes taken whole keep their features, others are frozen."""
    table, numbers = op.inputs[0], op.params["dimension_numbers"]
    if getattr(numbers, "operand_batching_dims", ()):
        return opaque(flow, op, index)
    sizes = op.params["slice_sizes"]
    labels: list[Label] = [FIXED] * len(flow.shape(op.outputs[0]))
    offsets = iter(numbers.offset_dims)
    for axis, label in enumerate(flow.labels[table]):
        whole = sizes[axis] == flow.shape(table)[axis]
        if axis in numbers.collapsed_slice_dims or not whole:
            flow.spaces.freeze(label)
        if axis not in numbers.collapsed_slice_dims:
            labels[next(offsets)] = label if whole else FIXED
    return [labels]


RULES: dict[str, Any] = {
    "dot_general": dot_general,
    "conv_general_dilated": convolution,
    "broadcast_in_dim": broadcast,
    "transpose": transpose,
    "reshape": reshape,
    "squeeze": squeeze,
    "reduce_window": windows,
    "reduce_": reduction,
    "pad": windows,
    "slice": windows,
    "dynamic_slice": windows,
    "cum": along,
    "sort": along,
    "concatenate": along,
    "gather": gather,
    **dict.fromkeys(("argmax", "argmin", "scan", "while", "cond", "split", "rev"), opaque),
    **dict.fromkeys(("reduce_precision",), elementwise),
    **dict.fromkeys(("iota", "rng_bit_generator", "random_bits"), opaque),
}
MOVES = ("convert_element_type", "transpose", "reshape", "squeeze", "broadcast_in_dim", "copy")
MOVES += ("stop_gradient", "copy_p", "reduce_precision")

"""A traced network as one flat list of operations, whose values can be read as it runs.

jax traces a function into nested programs; here calls are opened up, every value gets a number
(a slot), and the leaves of the network's variables are known by path.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend import core as extended

from jaxml.core import tree
from jaxml.core.types import Array, PyTree

OPENED = ("jit", "pjit", "closed_call", "core_call", "custom_jvp_call", "custom_vjp_call")
OPENED += ("remat", "checkpoint", "custom_vjp_call_jaxpr")


class Operation(NamedTuple):
    """One primitive with its slots."""

    primitive: Any
    params: dict[str, Any]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    @property
    def name(self) -> str:
        """Of the primitive."""
        return self.primitive.name


class Graph(NamedTuple):
    """A traced function of (variables, x).

    Attributes:
      operations: in order.
      shapes: shape of every slot.
      constants: values of the slots that are constants.
      leaves: slot of every leaf of the variables, by path.
      inputs: slots of the other arguments' leaves.
      outputs: slots of the results.
    """

    operations: tuple[Operation, ...]
    shapes: dict[int, tuple[int, ...]]
    constants: dict[int, Any]
    leaves: dict[str, int]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def trace(apply_fn: Callable[..., Any], variables: PyTree, *inputs: Any) -> Graph:
    """Traces `apply_fn(variables, *inputs)`; arrays may be abstract."""
    closed = jax.make_jaxpr(apply_fn)(variables, *inputs)
    builder = _Builder()
    paths = list(tree.flatten(variables))
    arguments = [builder.slot(var.aval) for var in closed.jaxpr.invars]
    leaves = dict(zip(paths, arguments, strict=False))
    outputs = builder.add(closed.jaxpr, closed.consts, arguments)
    return Graph(
        tuple(builder.operations),
        builder.shapes,
        builder.constants,
        leaves,
        tuple(arguments[len(paths) :]),
        tuple(outputs),
    )


class _Builder:
    """Numbers slots while nested programs are opened."""

    def __init__(self):
        self.operations: list[Operation] = []
        self.shapes: dict[int, tuple[int, ...]] = {}
        self.constants: dict[int, Any] = {}

    def slot(self, aval: Any) -> int:
        self.shapes[len(self.shapes)] = tuple(getattr(aval, "shape", ()))
        return len(self.shapes) - 1

    def constant(self, value: Any, aval: Any) -> int:
        slot = self.slot(aval)
        self.constants[slot] = value
        return slot

    def add(self, jaxpr: Any, consts: Sequence[Any], arguments: Sequence[int]) -> list[int]:
        """Appends a program; returns the slots of its results."""
        known = dict(zip(jaxpr.invars, arguments, strict=True))
        for var, value in zip(jaxpr.constvars, consts, strict=True):
            known[var] = self.constant(value, var.aval)

        def read(atom: Any) -> int:
            if isinstance(atom, extended.Literal):
                return self.constant(atom.val, atom.aval)
            return known[atom]

        for eqn in jaxpr.eqns:
            inputs = tuple(read(atom) for atom in eqn.invars)
            inner = eqn.params.get("jaxpr", eqn.params.get("call_jaxpr"))
            if eqn.primitive.name in OPENED and inner is not None:
                outputs = self.add(
                    getattr(inner, "jaxpr", inner), getattr(inner, "consts", ()), inputs
                )
            else:
                outputs = [self.slot(var.aval) for var in eqn.outvars]
                self.operations.append(Operation(eqn.primitive, eqn.params, inputs, tuple(outputs)))
            known |= dict(zip(eqn.outvars, outputs, strict=True))
        return [read(atom) for atom in jaxpr.outvars]


def run(
    graph: Graph,
    variables: PyTree,
    *inputs: Any,
    read: Sequence[int] = (),
    change: Mapping[int, Callable[[Array], Array]] | None = None,
) -> tuple[list[Any], dict[int, Array]]:
    """Computes the results, and the values of some slots on the way.

    Args:
      graph: of the same function at the same shapes.
      variables: as traced.
      *inputs: as traced.
      read: slots to keep.
      change: functions put behind slots; what they return is passed on in the slot's place.

    Returns:
      The results, and the kept values by slot (as changed).
    """
    change = change or {}
    leaves = tree.flatten(variables)
    values: dict[int, Any] = dict(graph.constants)
    values |= {slot: leaves[path] for path, slot in graph.leaves.items()}
    values |= dict(zip(graph.inputs, jax.tree.leaves(inputs), strict=True))
    for operation in graph.operations:
        params = operation.primitive.get_bind_params(operation.params)
        arguments = (values[slot] for slot in operation.inputs)
        found = operation.primitive.bind(*arguments, **params)
        results = found if operation.primitive.multiple_results else [found]
        for slot, value in zip(operation.outputs, results, strict=True):
            values[slot] = change[slot](value) if slot in change else value
    return [values[slot] for slot in graph.outputs], {slot: values[slot] for slot in read}


def is_uniform(value: Any) -> bool:
    """Whether a constant has one value everywhere."""
    array = np.asarray(value)
    return array.size > 0 and bool((array == array.reshape(-1)[0]).all())

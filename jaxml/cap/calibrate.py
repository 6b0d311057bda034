"""How large the inputs of every weight matrix are, read off a function's own trace.

Any function of parameters and inputs will do: its jaxpr is run with an interpreter that follows
parameters through casts, transposes and scans over layers, and adds up the squares of what they
are multiplied by.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend import core

from jaxml.core import tree
from jaxml.core.types import Array, PyTree

SAME = ("convert_element_type", "copy", "copy_p", "stop_gradient", "optimization_barrier")
CALLS = ("jit", "pjit", "closed_call", "core_call", "remat2", "checkpoint", "custom_jvp_call",
         "custom_vjp_call", "custom_vjp_call_jaxpr")  # fmt: skip


class Tag(NamedTuple):
    """A value that is a parameter: its path, and the parameter's axis behind each of its own."""

    path: str
    axes: tuple[int, ...]


class InputNorms(NamedTuple):
    """Sums of squares of a matrix's inputs.

    Attributes:
      squares: with the parameter's number of axes, size 1 where it is not an input axis.
      axes: the parameter's axes that are multiplied and summed over.
    """

    squares: Array
    axes: tuple[int, ...]


def input_norms(apply: Callable[..., Any], params: PyTree, *inputs: Any) -> dict[str, InputNorms]:
    """Squares of the inputs of every parameter that is the operand of a matrix product.

    A parameter that `lax.scan` slices over layers has its layers on axis 0. Parameters that are
    used twice get the sum.

    Args:
      apply: `(params, *inputs) -> anything`; traced and run once, jit this call.
      params: nested dict.
      inputs: arrays or trees.
    """
    jaxpr, consts = _opened(jax.make_jaxpr(apply)(params, *inputs))
    leaves = tree.flatten(params)
    tags = [Tag(path, tuple(range(leaf.ndim))) for path, leaf in leaves.items()]
    values = [*leaves.values(), *jax.tree.leaves(inputs)]
    every = [*tags, *[None] * (len(values) - len(tags))]
    found: dict[str, Array] = {}
    axes: dict[str, tuple[int, ...]] = {}
    _run(jaxpr, consts, values, every, found, axes)
    return {path: InputNorms(x, axes[path]) for path, x in found.items()}


def _run(
    jaxpr: Any,
    consts: Any,
    values: list[Any],
    tags: list[Tag | None],
    found: dict[str, Array],
    axes: dict[str, tuple[int, ...]],
) -> list[Any]:
    """Runs a jaxpr; `found` and `axes` gather, in place, what its matrix products show."""
    env: dict[Any, Any] = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *values],
                                   strict=True))  # fmt: skip
    known: dict[Any, Tag] = {v: t for v, t in zip(jaxpr.invars, tags, strict=True) if t}

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, core.Literal) else env[atom]

    def tag(atom: Any) -> Tag | None:
        return None if isinstance(atom, core.Literal) else known.get(atom)

    for eqn in jaxpr.eqns:
        given, marks = [read(a) for a in eqn.invars], [tag(a) for a in eqn.invars]
        name = eqn.primitive.name
        if name == "dot_general":
            _record(eqn.params["dimension_numbers"], given, marks, found, axes)
        if name == "scan" and any(marks):
            out = _scan(eqn.params, given, marks, found, axes)
        elif name in CALLS:
            inner, consts = _opened(eqn.params.get("jaxpr") or eqn.params["call_jaxpr"])
            out = _run(inner, consts, given, marks, found, axes)
        else:
            out = eqn.primitive.bind(*given, **eqn.params)
            out = out if eqn.primitive.multiple_results else [out]
            if marks and marks[0] and (moved := _followed(eqn, marks[0])):
                known[eqn.outvars[0]] = moved
        env |= dict(zip(eqn.outvars, out, strict=True))
    return [read(v) for v in jaxpr.outvars]


def _followed(eqn: Any, mark: Tag) -> Tag | None:
    """The tag of a parameter that was cast, transposed or stripped of axes of size 1."""
    name = eqn.primitive.name
    if name in SAME:
        return mark
    if name == "transpose":
        return Tag(mark.path, tuple(mark.axes[i] for i in eqn.params["permutation"]))
    if name == "squeeze":
        gone = eqn.params["dimensions"]
        return Tag(mark.path, tuple(a for i, a in enumerate(mark.axes) if i not in gone))
    return None


def _record(
    numbers: Any,
    given: list[Any],
    marks: list[Tag | None],
    found: dict[str, Array],
    axes: dict[str, tuple[int, ...]],
) -> None:
    """Adds the squares of the other operand where one of the two is a parameter."""
    for side in (0, 1):
        mark, other = marks[side], given[1 - side]
        if mark is None or marks[1 - side] is not None or any(map(len, numbers[1])):
            continue  # batched products with parameters do not occur in layers
        mine, theirs = numbers[0][side], numbers[0][1 - side]
        summed = tuple(i for i in range(other.ndim) if i not in theirs)
        squares = jnp.sum(jnp.square(other.astype(jnp.float32)), summed)
        # left: the contracted axes in the other operand's order; put them into the parameter's
        order = sorted(range(len(theirs)), key=lambda i: theirs[i])
        at = {mark.axes[mine[i]]: squares.shape[p] for p, i in enumerate(order)}
        squares = jnp.transpose(squares, _to_order([mark.axes[mine[i]] for i in order]))
        shape = [at.get(axis, 1) for axis in range(max(mark.axes) + 1)]
        if min(mark.axes) == 1:  # a slice of a stack of layers
            shape = [at.get(axis, 1) for axis in range(1, max(mark.axes) + 1)]
        squares = squares.reshape(shape)
        found[mark.path] = found[mark.path] + squares if mark.path in found else squares
        axes[mark.path] = tuple(sorted(at))


def _to_order(named: list[int]) -> list[int]:
    return sorted(range(len(named)), key=lambda i: named[i])


def _opened(jaxpr: Any) -> tuple[Any, Any]:
    """A jaxpr, closed or not, and its constants."""
    return getattr(jaxpr, "jaxpr", jaxpr), getattr(jaxpr, "consts", [])


def _numbers_of(params: dict[str, Any]) -> tuple[int, int]:
    """How many constants and carried values a scan has."""
    if "num_consts" in params:
        return params["num_consts"], params["num_carry"]
    consts, carry, _ = params["ft_in"].unpack()
    return len(tuple(consts.vals)), len(tuple(carry.vals))


def _scan(
    params: dict[str, Any],
    given: list[Any],
    marks: list[Tag | None],
    found: dict[str, Array],
    axes: dict[str, tuple[int, ...]],
) -> list[Any]:
    """A scan whose body also returns what its products show, stacked over layers."""
    body, body_consts = _opened(params["jaxpr"])
    num_consts, num_carry = _numbers_of(params)
    consts = given[:num_consts]
    sliced = [m and Tag(m.path, m.axes[1:]) for m in marks[num_consts + num_carry :]]
    inner_marks = [*marks[:num_consts], *[None] * num_carry, *sliced]
    each: dict[str, tuple[int, ...]] = {}

    def step(carry: list[Any], xs: list[Any]) -> tuple[list[Any], Any]:
        seen: dict[str, Array] = {}
        out = _run(body, body_consts, [*consts, *carry, *xs], inner_marks, seen, each)
        return out[:num_carry], (out[num_carry:], seen)

    carry, xs = given[num_consts : num_consts + num_carry], given[num_consts + num_carry :]
    carry, (ys, seen) = jax.lax.scan(
        step, list(carry), list(xs), length=params["length"], reverse=params["reverse"]
    )
    stacked = {m.path for m in marks[num_consts + num_carry :] if m}
    for path, squares in seen.items():
        squares = squares if path in stacked else jnp.sum(squares, 0)
        found[path] = found[path] + squares if path in found else squares
        axes[path] = each[path]
    return [*carry, *ys]

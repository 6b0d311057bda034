"""Numbers with units: fields that know their rule, checked before anything is traced."""

import dataclasses
import difflib
import typing
from collections.abc import Iterator
from typing import Any

import jax
import jax.core
import numpy as np

_RULES = {
    "> 0": lambda x: np.isfinite(x) & (x > 0),
    ">= 0": lambda x: np.isfinite(x) & (x >= 0),
    ">= 1": lambda x: np.isfinite(x) & (x >= 1),
    "in (0, 1]": lambda x: (x > 0) & (x <= 1),
    "in [0, 1]": lambda x: (x >= 0) & (x <= 1),
    "a whole number >= 1": lambda x: np.isfinite(x) & (x >= 1) & (x == np.floor(x)),
    "0 or 1": lambda x: (x == 0) | (x == 1),
}


def field(unit: str, rule: str, *, default: Any = dataclasses.MISSING) -> Any:
    """A dataclass field that states its unit and its rule."""
    return dataclasses.field(default=default, metadata={"unit": unit, "rule": rule})


def choice(*, default: bool | int) -> Any:
    """A dataclass field that selects a program and is not traced."""
    return dataclasses.field(default=default, metadata={"static": True})


@typing.dataclass_transform(frozen_default=True, field_specifiers=(field, choice))
def record[T](cls: type[T]) -> type[T]:
    """A frozen dataclass that jax maps over; Python numbers are checked when it is made.

    Arrays are checked by `validate` where they enter the library, since the gradient of a record
    is a record too and may hold anything.
    """

    def __post_init__(self: Any) -> None:
        for f in dataclasses.fields(self):
            value = getattr(self, f.name)
            if isinstance(value, str) or value is None:
                _break(f, value)
            if "rule" in f.metadata and isinstance(value, int | float | np.number):
                _obey(f, value)

    setattr(cls, "__post_init__", __post_init__)  # noqa: B010
    made: Any = dataclasses.dataclass(frozen=True)(cls)
    static = [f.name for f in dataclasses.fields(made) if f.metadata.get("static")]
    data = [f.name for f in dataclasses.fields(made) if f.name not in static]
    return jax.tree_util.register_dataclass(made, data_fields=data, meta_fields=static)


def _break(f: Any, value: Any) -> None:
    unit = f.metadata.get("unit", "")
    rule = f.metadata.get("rule", "a number")
    raise TypeError(f"{f.name} must be {rule} {unit}; got {f.name}={value!r}.".replace(" ;", ";"))


def _obey(f: Any, value: Any, name: str = "") -> None:
    numbers = np.asarray(value)
    if numbers.dtype.kind not in "iufb":
        _break(f, value)
    broken = ~_RULES[f.metadata["rule"]](numbers.astype(np.float64))
    if broken.any():
        first = numbers[broken].ravel()[0] if numbers.ndim else value
        unit = f.metadata["unit"]
        wanted = f"{f.metadata['rule']}{unit and ' '}{unit}"
        raise ValueError(f"{name or f.name} must be {wanted}; got {f.name}={first}.")


def validate(node: Any, prefix: str = "") -> None:
    """Checks every concrete number of a record, arrays included; tracers pass.

    Raises:
      ValueError: a number breaks the rule of its field; names field, rule, unit and value.
    """
    for f in dataclasses.fields(node):
        value = getattr(node, f.name)
        if dataclasses.is_dataclass(value):
            validate(value, f"{prefix}{f.name}.")
        elif "rule" in f.metadata and not isinstance(value, jax.core.Tracer):
            _obey(f, value, prefix + f.name)


def paths(node: Any, prefix: str = "") -> Iterator[str]:
    """Dotted names of the numbers of a record."""
    for f in dataclasses.fields(node):
        value = getattr(node, f.name)
        if dataclasses.is_dataclass(value):
            yield from paths(value, f"{prefix}{f.name}.")
        elif "rule" in f.metadata:
            yield prefix + f.name


def get(node: Any, path: str) -> Any:
    """The value at a dotted name.

    Raises:
      ValueError: no such number; the nearest is named.
    """
    known = list(paths(node))
    if path not in known:
        close = difflib.get_close_matches(path, known, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise ValueError(f"field must be one of {', '.join(known)}; got field={path!r}{hint}.")
    for name in path.split("."):
        node = getattr(node, name)
    return node


def put(node: Any, path: str, value: Any) -> Any:
    """The record with the number at a dotted name replaced.

    Raises:
      ValueError: no such number.
    """
    get(node, path)
    head, _, rest = path.partition(".")
    inner = put(getattr(node, head), rest, value) if rest else value
    return dataclasses.replace(node, **{head: inner})

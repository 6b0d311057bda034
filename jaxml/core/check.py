"""Checks of arguments, run before any compute.

Every message has the same form: the argument, the rule, and the value that broke it.

>>> positive(width=0)
Traceback (most recent call last):
...
ValueError: width must be > 0; got width=0.
"""

import dataclasses
import difflib
import functools
import math
import typing
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import typeguard


def positive(**values: float) -> None:
    """Raises ValueError unless every value is a finite number above zero."""
    for name, value in values.items():
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be > 0; got {name}={value}.")


def at_least(lowest: float, **values: float) -> None:
    """Raises ValueError unless every value is finite and `>= lowest`."""
    for name, value in values.items():
        if not (math.isfinite(value) and value >= lowest):
            raise ValueError(f"{name} must be >= {lowest}; got {name}={value}.")


def between(lowest: float, highest: float, **values: float) -> None:
    """Raises ValueError unless `lowest <= value <= highest` for every value."""
    for name, value in values.items():
        if not lowest <= value <= highest:
            raise ValueError(f"{name} must lie in [{lowest}, {highest}]; got {name}={value}.")


def divides(**values: int) -> None:
    """Raises ValueError unless the first value divides the second.

    >>> divides(num_heads=3, width=8)
    Traceback (most recent call last):
    ...
    ValueError: num_heads must divide width; got num_heads=3, width=8.
    """
    (part, small), (whole, large) = values.items()
    if small <= 0 or large % small:
        raise ValueError(f"{part} must divide {whole}; got {part}={small}, {whole}={large}.")


def one_of(choices: Collection[str], **values: str) -> None:
    """Raises ValueError unless every value is one of `choices`; names the nearest one."""
    for name, value in values.items():
        if value not in choices:
            raise ValueError(
                f"{name} must be one of {', '.join(map(str, choices))}; "
                f"got {name}={value!r}{nearest(value, choices)}."
            )


def nearest(word: Any, choices: Iterable[str]) -> str:
    """Returns ` (did you mean 'x'?)` for the closest choice, or an empty string."""
    close = difflib.get_close_matches(str(word), list(choices), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def types(config: Any) -> None:
    """Raises TypeError where a field of a dataclass does not hold its annotated type.

    A bool is not taken for a number.
    """
    for field in dataclasses.fields(config):
        value, hint = getattr(config, field.name), _hints(type(config))[field.name]
        number = hint in (int, float)
        try:
            if number and isinstance(value, bool):
                raise typeguard.TypeCheckError("is a bool")
            typeguard.check_type(value, hint)
        except typeguard.TypeCheckError:
            wanted = hint.__name__ if isinstance(hint, type) else str(hint)
            where = f"{type(config).__name__}.{field.name}"
            raise TypeError(f"{where} must be {wanted}; got {field.name}={value!r}.") from None


def shape(name: str, array: Any, pattern: Sequence[int | str]) -> dict[str, int]:
    """Checks an array's shape against sizes and names; returns what the names stand for.

    Raises:
      ValueError: if the rank differs, a size differs, or a name stands for two sizes.

    >>> import numpy as np
    >>> shape("q", np.zeros((2, 5, 4)), ["b", "t", 4])
    {'b': 2, 't': 5}
    """
    actual, bound = tuple(array.shape), dict[str, int]()
    text = ", ".join(map(str, pattern))
    if len(actual) != len(pattern):
        raise ValueError(f"{name} must have shape [{text}]; got {name}.shape={actual}.")
    for size, want in zip(actual, pattern, strict=True):
        expected = bound.setdefault(want, size) if isinstance(want, str) else want
        if size != expected:
            raise ValueError(f"{name} must have shape [{text}]; got {name}.shape={actual}.")
    return bound

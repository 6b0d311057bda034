"""Configurations: frozen dataclasses to and from JSON, with a fingerprint and a golden text."""

import dataclasses
import hashlib
import itertools
import json
import types
import typing
from pathlib import Path
from typing import Any

from jaxml.core import check, files


def to_dict(config: Any) -> dict[str, Any]:
    """The configuration as plain JSON values, nested like the dataclasses."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def from_dict[T](cls: type[T], values: dict[str, Any]) -> T:
    """Builds `cls` from nested plain values; its own checks run.

    Raises:
      ValueError: a key that is no field (the nearest field is named), or a failed check.
      TypeError: a value of the wrong type, or a missing field.
    """
    hints = typing.get_type_hints(cls)
    names = {f.name for f in dataclasses.fields(cls)}  # pyright: ignore[reportArgumentType]
    for key in values:
        if key not in names:
            raise ValueError(f"{cls.__name__} has no field {key!r}{check.nearest(key, names)}.")
    return cls(**{key: _decode(hints[key], value) for key, value in values.items()})


def _decode(hint: Any, value: Any) -> Any:
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        options = [h for h in typing.get_args(hint) if h is not type(None)]
        return None if value is None else _decode(options[0], value) if len(options) == 1 else value
    if dataclasses.is_dataclass(hint) and isinstance(value, dict):
        return from_dict(hint, value)  # pyright: ignore[reportArgumentType]
    if origin is tuple and isinstance(value, list):
        inner = typing.get_args(hint)
        repeat = len(inner) == 2 and inner[1] is Ellipsis
        return tuple(_decode(inner[0] if repeat else inner[i], v) for i, v in enumerate(value))
    return float(value) if hint is float and type(value) is int else value


def fingerprint(config: Any) -> str:
    """Twelve hex digits that change when any value of the configuration does."""
    canonical = json.dumps(to_dict(config), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def text(config: Any) -> str:
    """One `path = value` line per setting: the golden text that makes a changed default visible."""
    lines: list[str] = []

    def walk(prefix: str, value: Any) -> None:
        if dataclasses.is_dataclass(value):
            for field in dataclasses.fields(value):
                walk(f"{prefix}{'.' if prefix else ''}{field.name}", getattr(value, field.name))
        else:
            lines.append(f"{prefix} = {value!r}")

    walk("", config)
    return "\n".join(lines) + "\n"


def check_same(now: Any, before: Any, folder: Path | str) -> None:
    """A folder belongs to one run: raises where its configuration differs, naming the first field.

    Raises:
      ValueError: they differ.

    >>> import dataclasses
    >>> Run = dataclasses.make_dataclass("Run", [("lr", float)], frozen=True)
    >>> check_same(Run(1.0), Run(2.0), "runs/a")
    Traceback (most recent call last):
    ValueError: runs/a holds a run with lr = 2.0; here lr = 1.0. Choose another folder.
    """
    if now == before:
        return
    both = itertools.zip_longest(text(before).splitlines(), text(now).splitlines(), fillvalue="-")
    was, here = next(((b, n) for b, n in both if b != n), ("other settings", "these"))
    raise ValueError(f"{folder} holds a run with {was}; here {here}. Choose another folder.")


def save(config: Any, path: Path | str) -> None:
    """Writes the configuration, its class and its fingerprint as JSON."""
    record = {
        "class": type(config).__name__,
        "fingerprint": fingerprint(config),
        "config": to_dict(config),
    }
    files.write_text(path, json.dumps(record, indent=2) + "\n")


def load[T](cls: type[T], path: Path | str) -> T:
    """Reads what `save` wrote.

    Raises:
      ValueError: the file is not such a record, or is of another class.
    """
    try:
        record = json.loads(Path(path).read_text())
        name, values = record["class"], record["config"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a saved configuration ({error}).") from None
    if name != cls.__name__:
        raise ValueError(f"{path} holds a {name}; expected {cls.__name__}.")
    return from_dict(cls, values)

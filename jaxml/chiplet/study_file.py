"""A study as a TOML file: which model, which package, what is changed, swept or free.

model = "llama2-70b"            # a name, or a table of all numbers of a ModelShape
system = "paper_v1"             # default or paper_v1
method = "hecaton"
[set]                           # numbers of the system by dotted name
"mesh.rows" = 64
"mesh.cols" = 16
[axes]                          # of a sweep: values of each number
"link.bandwidth_bytes_s" = [16e9, 32e9, 64e9]
[free]                          # of a search: lowest and highest value
"mesh.aspect" = [0.1, 10.0]
[budget]
power_w = 4000.0
"""

import dataclasses
import tomllib
from pathlib import Path
from typing import Any

from jaxml.chiplet import field, presets
from jaxml.chiplet.config import ModelShape, System, TrainingConfig
from jaxml.chiplet.optimize import Budget
from jaxml.core import check

KEYS = ("model", "system", "method", "batch_tokens", "set", "training", "axes", "free", "budget")


@dataclasses.dataclass(frozen=True)
class Study:
    """What a file asks for; attributes as in the file."""

    model: ModelShape
    system: System
    method: str = "hecaton"
    batch_tokens: int | None = None
    axes: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    free: dict[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    budget: Budget = dataclasses.field(default_factory=Budget)


def read(path: Path | None) -> Study:
    """The study of a file; without one, Llama2-70B on the calibrated package.

    Raises:
      ValueError: not TOML, a key or name that is not known, or a value that breaks its rule.
      FileNotFoundError: no such file.
    """
    if path is None:
        return study({})
    if not path.is_file():
        raise FileNotFoundError(f"{path} is no file; give a TOML file, or none for the default.")
    try:
        return study(tomllib.loads(path.read_text()))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path} is not TOML: {error}.") from None


def study(table: dict[str, Any]) -> Study:
    """The study of the file's content.

    Raises:
      ValueError: a key or name that is not known, or a value that breaks its rule.
    """
    for key in table:
        check.one_of(KEYS, key=key)
    return Study(
        _model(table.get("model", "llama2-70b")),
        _system(table),
        table.get("method", "hecaton"),
        table.get("batch_tokens"),
        {path: list(values) for path, values in _section(table, "axes").items()},
        {path: _bounds(path, pair) for path, pair in _section(table, "free").items()},
        _record(Budget, _section(table, "budget"), "budget"),
    )


def _section(table: dict[str, Any], key: str) -> dict[str, Any]:
    section = table.get(key, {})
    if not isinstance(section, dict):
        raise ValueError(f"{key} must be a table; got {key}={section!r}.")
    return section


def _model(value: Any) -> ModelShape:
    if isinstance(value, dict):
        return _record(ModelShape, value, "model")
    check.one_of(presets.MODELS, model=value)
    return presets.MODELS[value]


def _system(table: dict[str, Any]) -> System:
    name = table.get("system", "paper_v1")
    check.one_of(presets.SYSTEMS, system=name)
    system = presets.SYSTEMS[name]()
    for path, value in _section(table, "set").items():
        system = field.put(system, path, value)
    training = _section(table, "training")
    if not training:
        return system
    return dataclasses.replace(system, training=_record(TrainingConfig, training, "training"))


def _record[T](cls: type[T], values: dict[str, Any], where: str) -> T:
    names = [f.name for f in dataclasses.fields(cls)]  # pyright: ignore[reportArgumentType]
    for name in values:
        check.one_of(names, **{f"key of {where}": name})
    try:
        return cls(**values)
    except TypeError as error:
        missing = str(error).rpartition("()")[2].strip() or str(error)
        raise ValueError(f"{where}: {missing}.".replace("..", ".")) from None


def _bounds(path: str, pair: Any) -> tuple[float, float]:
    if not isinstance(pair, list) or len(pair) != 2:
        raise ValueError(f"free numbers need [low, high]; got {path}={pair!r}.")
    return float(pair[0]), float(pair[1])

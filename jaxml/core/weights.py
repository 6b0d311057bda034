"""Weights on disk: safetensors files (sharded or not) and renaming rules between layouts.

Nothing here unpickles. A rule says how one family of foreign tensors maps onto one leaf of ours,
and the same rules serve import and export.
"""

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import safetensors
from safetensors import numpy as safetensors_numpy

from jaxml.core import check, files, tree
from jaxml.core.types import PyTree

Tensors = dict[str, np.ndarray]


class WeightsError(ValueError):
    """A weights file that is damaged, or does not hold what a model needs."""


def read(path: Path | str) -> Tensors:
    """All tensors of a safetensors file, of a `*.index.json`, or of a folder holding either.

    Raises:
      FileNotFoundError: nothing there, or a shard that the index names is missing.
      WeightsError: a damaged file, or a tensor the index promises and no shard holds.
    """
    path = Path(path)
    if path.is_dir():
        found = sorted(path.glob("*.safetensors.index.json")) or sorted(path.glob("*.safetensors"))
        if not found:
            raise FileNotFoundError(f"{path} holds no .safetensors file.")
        if len(found) > 1:
            names = ", ".join(p.name for p in found)
            raise WeightsError(f"{path} holds several weights and no index: {names}; name one.")
        path = found[0]
    return _read_index(path) if path.name.endswith(".index.json") else _read_one(path)


def _read_one(path: Path) -> Tensors:
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist.")
    try:
        return safetensors_numpy.load_file(path)
    except (safetensors.SafetensorError, OSError, ValueError, KeyError) as error:
        raise WeightsError(f"{path} is not an intact safetensors file ({error}).") from None


def _read_index(path: Path) -> Tensors:
    try:
        where = json.loads(path.read_text())["weight_map"]
    except (json.JSONDecodeError, KeyError, TypeError):
        raise WeightsError(f"{path} is not a safetensors index.") from None
    tensors: Tensors = {}
    for shard in sorted(set(where.values())):
        tensors |= _read_one(path.parent / shard)
    if missing := sorted(set(where) - set(tensors)):
        raise WeightsError(
            f"{path} promises tensors that no shard holds: {', '.join(missing[:8])}."
        )
    return tensors


def write(
    path: Path | str, tensors: Mapping[str, Any], metadata: dict[str, str] | None = None
) -> None:
    """Writes one safetensors file, whole or not at all."""
    arrays = {name: np.asarray(jax.device_get(x), order="C") for name, x in tensors.items()}
    files.write_bytes(path, safetensors_numpy.save(arrays, metadata=metadata))


def write_sharded(
    folder: Path | str,
    tensors: Mapping[str, Any],
    max_bytes: int = 5_000_000_000,
    metadata: dict[str, str] | None = None,
) -> None:
    """Writes `model.safetensors` to a folder, or shards of at most `max_bytes` and their index.

    A tensor larger than that gets a shard of its own. The index comes last: a folder without it is
    not whole.

    Raises:
      FileExistsError: the folder holds weights.
      ValueError: `max_bytes` below 1.
    """
    folder = Path(folder)
    check.positive(max_bytes=max_bytes)
    if any(folder.glob("*.safetensors*")):
        raise FileExistsError(f"{folder} holds weights already; choose another folder.")
    shards, sizes = [[]], [0]
    for name, x in tensors.items():
        size = x.size * x.dtype.itemsize
        if shards[-1] and sizes[-1] + size > max_bytes:
            shards.append([])
            sizes.append(0)
        shards[-1].append(name)
        sizes[-1] += size
    if len(shards) == 1:
        write(folder / "model.safetensors", tensors, metadata)
        return
    where = {}
    for index, names in enumerate(shards):
        file = f"model-{index + 1:05d}-of-{len(shards):05d}.safetensors"
        write(folder / file, {name: tensors[name] for name in names}, metadata)
        where |= dict.fromkeys(names, file)
    record = {"metadata": {"total_size": sum(sizes)}, "weight_map": where}
    text = json.dumps(record, indent=1) + "\n"
    files.write_text(folder / "model.safetensors.index.json", text)


def same(x: np.ndarray) -> np.ndarray:
    """The layout that needs no change."""
    return x


def transpose(x: np.ndarray) -> np.ndarray:
    """Swaps the last two axes: (out, in) of other libraries to our (in, out) and back."""
    return np.swapaxes(x, -1, -2)


@dataclasses.dataclass(frozen=True)
class Rule:
    """One family of tensors.

    Attributes:
      theirs: foreign name; `{i}` stands for the layer where ours is stacked over layers.
      ours: path of the leaf in our tree.
      first: the foreign layer that our stack begins with.
      load: foreign array to ours (one layer at a time).
      dump: ours to foreign, the inverse of `load`.
    """

    theirs: str
    ours: str
    load: Callable[[np.ndarray], np.ndarray] = same
    dump: Callable[[np.ndarray], np.ndarray] = same
    first: int = 0


def linear(theirs: str, ours: str) -> Rule:
    """The rule of a linear kernel kept as (out, in) there and (in, out) here."""
    return Rule(theirs, ours, transpose, transpose)


def import_tree(
    tensors: Mapping[str, np.ndarray],
    rules: Sequence[Rule],
    target: PyTree,
    ignore: Callable[[str], bool] = lambda name: False,
) -> PyTree:
    """Foreign tensors as our parameter tree.

    Args:
      tensors: by foreign name.
      rules: one per leaf of `target`.
      target: abstract parameters: paths, shapes and dtypes wanted.
      ignore: foreign names that may be left over.

    Raises:
      WeightsError: names every tensor that is missing, extra or of the wrong shape.
    """
    want, got, used = tree.flatten(target), {}, set()
    problems: list[str] = []
    for rule in rules:
        num_layers = want[rule.ours].shape[0] if "{i}" in rule.theirs else None
        names = _names(rule, num_layers)
        absent = [name for name in names if name not in tensors]
        problems += [f"missing {name}" for name in absent]
        used |= set(names)
        if absent:
            continue
        parts = [rule.load(tensors[name]) for name in names]
        shape = tuple(want[rule.ours].shape)
        each = shape if num_layers is None else shape[1:]
        wrong = [
            f"{name} has shape {tuple(tensors[name].shape)}, which gives {part.shape} for "
            f"{rule.ours}, expected {each}"
            for name, part in zip(names, parts, strict=True)
            if part.shape != each
        ]
        problems += wrong
        if not wrong:
            array = parts[0] if num_layers is None else np.stack(parts)
            got[rule.ours] = jax.numpy.asarray(array, want[rule.ours].dtype)
    problems += [f"unexpected {n}" for n in tensors if n not in used and not ignore(n)]
    problems += [f"no rule for our {p}" for p in want if p not in {r.ours for r in rules}]
    if problems:
        more = f" and {len(problems) - 10} more" if len(problems) > 10 else ""
        raise WeightsError(f"weights do not fit the model: {'; '.join(problems[:10])}{more}.")
    return tree.unflatten({path: got[path] for path in want})


def export_tree(params: PyTree, rules: Iterable[Rule]) -> Tensors:
    """Our parameters under foreign names and in foreign layouts."""
    leaves, tensors = tree.flatten(params), Tensors()
    for rule in rules:
        array = np.asarray(jax.device_get(leaves[rule.ours]))
        num_layers = array.shape[0] if "{i}" in rule.theirs else None
        for index, name in enumerate(_names(rule, num_layers)):
            part = array if num_layers is None else array[index]
            tensors[name] = np.asarray(rule.dump(part), order="C")
    return tensors


def _names(rule: Rule, num_layers: int | None) -> list[str]:
    if num_layers is None:
        return [rule.theirs]
    return [rule.theirs.replace("{i}", str(rule.first + i)) for i in range(num_layers)]

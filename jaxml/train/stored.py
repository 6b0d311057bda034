"""The content of one checkpoint folder: arrays by path, and positions of data iterators.

Arrays are stored by their path in the state (`opt_state/0/mu/layers/kernel`), so a file does not
depend on the classes of the optimiser that wrote it. Nothing is pickled.
"""

import base64
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from jax.sharding import SingleDeviceSharding

from jaxml.core import files, tree
from jaxml.core.types import Array, PyTree
from jaxml.train import manifest


class MismatchError(ValueError):
    """A checkpoint's arrays are not those of the template."""


def arrays_of(state: PyTree) -> dict[str, Array]:
    """Leaves by path."""
    return {path: jnp.asarray(leaf) for path, leaf in tree.flatten(state).items()}


def describe(arrays: dict[str, Any]) -> dict[str, list[Any]]:
    """Shape and dtype of every array, as JSON; a key's dtype names its generator."""
    return {path: [list(leaf.shape), str(leaf.dtype)] for path, leaf in arrays.items()}


def nested(arrays: dict[str, Any]) -> dict[str, Any]:
    """The arrays as orbax takes them: keys as the integers behind them, empty arrays left out."""
    return tree.unflatten(
        {
            path: jax.random.key_data(leaf) if _is_key(leaf) else leaf
            for path, leaf in arrays.items()
            if leaf.size
        }
    )


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def read(folder: Path, template: PyTree) -> tuple[PyTree, Any]:
    """The state and this process's iterator position, from a checkpoint that is whole.

    Raises:
      MismatchError: paths, shapes or dtypes that differ, or no position for this process.
    """
    about = json.loads((folder / manifest.NAME).read_text())
    wanted = tree.flatten(template)
    _check_fits(about["arrays"], describe(wanted))
    targets = {path: _target(leaf) for path, leaf in wanted.items()}
    with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as reader:
        present = {path: leaf for path, leaf in targets.items() if leaf.size}
        found = reader.restore(
            folder / "state", args=ocp.args.StandardRestore(tree.unflatten(present))
        )
    arrays = tree.flatten(found)
    leaves = [_leaf(arrays.get(path), leaf) for path, leaf in wanted.items()]
    state = jax.tree.unflatten(jax.tree.structure(template), leaves)
    return state, _read_position(folder, about["files"])


def _target(leaf: Any) -> jax.ShapeDtypeStruct:
    """What orbax shall read for a leaf, and where it shall lie."""
    sharding = getattr(leaf, "sharding", None) or SingleDeviceSharding(jax.local_devices()[0])
    if _is_key(leaf):
        leaf = jax.eval_shape(jax.random.key_data, jax.ShapeDtypeStruct(leaf.shape, leaf.dtype))
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _leaf(found: Array | None, like: Any) -> Array:
    if found is None:
        return jnp.zeros(like.shape, like.dtype)
    if _is_key(like):
        return jax.random.wrap_key_data(found, impl=_generator(like))
    return found


def _generator(like: Any) -> Any:
    """The generator of a key, or of a shape that stands for one (which jax asks of traced keys)."""
    found = []
    shape = jax.ShapeDtypeStruct(like.shape, like.dtype)
    jax.eval_shape(lambda key: found.append(jax.random.key_impl(key)), shape)
    return found[0]


def _check_fits(have: dict[str, list[Any]], want: dict[str, list[Any]]) -> None:
    problems = [f"missing {path}" for path in want if path not in have]
    problems += [f"unexpected {path}" for path in have if path not in want]
    problems += [
        f"{path} is {_text(have[path])}, expected {_text(want[path])}"
        for path in want
        if path in have and have[path] != want[path]
    ]
    if problems:
        more = f" and {len(problems) - 8} more" if len(problems) > 8 else ""
        raise MismatchError("; ".join(problems[:8]) + more)


def _text(entry: list[Any]) -> str:
    shape, dtype = entry
    return f"{dtype}{shape}"


def _position_name(process: int) -> str:
    return f"iterator-{process}.json"


def write_position(folder: Path, position: Any) -> None:
    """Writes this process's iterator state; nothing for None.

    Raises:
      TypeError: neither JSON values nor bytes.
    """
    if position is None:
        return
    if isinstance(position, bytes):
        position = {"bytes": base64.b64encode(position).decode()}
    else:
        position = {"json": position}
    files.write_text(folder / _position_name(jax.process_index()), json.dumps(position) + "\n")


def _read_position(folder: Path, listed: dict[str, Any]) -> Any:
    saved = [name for name in listed if name.startswith("iterator-")]
    name = _position_name(jax.process_index())
    if not saved:
        return None
    if len(saved) != jax.process_count():
        raise MismatchError(
            f"it holds the data positions of {len(saved)} processes; "
            f"there are {jax.process_count()}"
        )
    position = json.loads((folder / name).read_text())
    return base64.b64decode(position["bytes"]) if "bytes" in position else position["json"]


def first_line(error: BaseException) -> str:
    """An error's type and the first line of its text."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:1000]}" if text else type(error).__name__

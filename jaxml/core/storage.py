"""Networks on disk: safetensors, npz, or an orbax folder; any tree of arrays, never a pickle."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxml.core import files, tree
from jaxml.core.types import PyTree

SUFFIXES = (".safetensors", ".npz")


def save(path: Path | str, variables: PyTree, about: Mapping[str, str] | None = None) -> None:
    """Writes arrays by path, whole or not at all, as the suffix says; no suffix: an orbax folder.

    Args:
      path: `.safetensors`, `.npz`, or the name of a folder.
      variables: nested dicts of arrays.
      about: text kept in the header of a safetensors file.

    Raises:
      ValueError: another suffix.
    """
    path = Path(path)
    leaves = {name: np.asarray(leaf) for name, leaf in tree.flatten(variables).items()}
    if path.suffix == ".safetensors":
        from jaxml.core import weights

        weights.write(path, leaves, dict(about or {}))
    elif path.suffix == ".npz":
        with files.aside(path) as part, part.open("wb") as out:
            named: dict[str, Any] = {n.replace("/", "|"): leaf for n, leaf in leaves.items()}
            np.savez(out, **named)
    elif not path.suffix:
        import orbax.checkpoint as ocp

        with ocp.StandardCheckpointer() as writer:
            writer.save(path.absolute(), tree.unflatten(leaves), force=True)
    else:
        raise ValueError(f"path must end in {', '.join(SUFFIXES)}, or be a folder; got {path}.")


def load(path: Path | str) -> dict[str, Any]:
    """Nested dicts of NumPy arrays, from what `save` or another program wrote.

    A safetensors file of PyTorch's names (`a.b.weight`) becomes a tree by its dots.

    Raises:
      FileNotFoundError: nothing there.
      ValueError: damaged, or of another kind.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist.")
    if path.suffix == ".npz":
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return tree.unflatten({n.replace("|", "/"): arrays[n] for n in arrays})
        except (OSError, ValueError, EOFError) as error:
            raise ValueError(f"{path} is not an intact npz file ({error}).") from None
    if path.suffix == ".safetensors" or any(path.glob("*.safetensors")):
        from jaxml.core import weights

        found = weights.read(path)
        dotted = not any("/" in name for name in found)
        return tree.unflatten({n.replace(".", "/") if dotted else n: x for n, x in found.items()})
    if path.is_dir():
        import orbax.checkpoint as ocp

        with ocp.StandardCheckpointer() as reader:
            return _host(reader.restore(path.absolute()))
    raise ValueError(f"path must end in {', '.join(SUFFIXES)}, or be a folder; got {path}.")


def _host(variables: PyTree) -> dict[str, Any]:
    return tree.map_with_path(lambda _, leaf: np.asarray(leaf), variables)

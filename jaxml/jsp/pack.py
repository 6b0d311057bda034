"""A whole training state as one small safetensors file, written aside and renamed."""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open

from jaxml.core import tree, weights
from jaxml.core.types import PyTree


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def save(path: Path | str, arrays: PyTree, about: dict[str, Any]) -> None:
    """Writes a tree of arrays (typed keys among them) and a record of plain values."""
    leaves = {
        name: jax.random.key_data(leaf) if _is_key(leaf) else leaf
        for name, leaf in tree.flatten(arrays).items()
    }
    weights.write(path, leaves, {"about": json.dumps(about)})


def load(path: Path | str, like: PyTree) -> tuple[PyTree, dict[str, Any]]:
    """What `save` wrote, in the structure of `like`, and the record.

    Raises:
      FileNotFoundError: no such file.
      WeightsError: damaged, or other arrays than `like` has; names them.
    """
    found = weights.read(path)
    with safe_open(str(path), "numpy") as handle:
        about = json.loads((handle.metadata() or {}).get("about", "{}"))
    want = {
        name: jax.eval_shape(jax.random.key_data, leaf) if _is_key(leaf) else leaf
        for name, leaf in tree.flatten(like).items()
    }
    try:
        tree.check_match(tree.unflatten(found), tree.unflatten(want), str(path))
    except (ValueError, SafetensorError) as error:
        raise weights.WeightsError(str(error)) from None
    leaves = [
        jax.random.wrap_key_data(jnp.asarray(found[name]))
        if _is_key(leaf)
        else jnp.asarray(np.asarray(found[name]), leaf.dtype)
        for name, leaf in tree.flatten(like).items()
    ]
    return jax.tree.unflatten(jax.tree.structure(like), leaves), about

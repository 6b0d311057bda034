"""What a training step carries: parameters, optimiser state, key and counters."""

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding, PartitionSpec

from jaxml.core import rng, tree
from jaxml.core.types import Array, Key, PyTree


@flax.struct.dataclass
class TrainState:
    """Everything that makes the next step, as one tree of arrays.

    Attributes:
      step: steps done, int32 [].
      params: the model's parameters.
      opt_state: the optimiser's state.
      key: the run's key; a step draws from this key folded with `step`.
      extra: state of the model that is not trained, e.g. batch statistics; `{}` if none.
      ema: running mean of `params`, or None.
      num_rejected: steps whose update was not finite and was not made, int32 [].
    """

    step: Array
    params: PyTree
    opt_state: optax.OptState
    key: Key
    extra: PyTree
    ema: PyTree
    num_rejected: Array


def create(
    key: Key,
    params: PyTree,
    optimizer: optax.GradientTransformation,
    *,
    extra: PyTree = None,
    ema: bool = False,
) -> TrainState:
    """The state before the first step, placed as `params` are.

    Optimiser state that mirrors a parameter gets that parameter's sharding; all else is held by
    every device of the mesh. The state owns `params`: a donating step deletes them.

    Args:
      key: makes the run's key; the caller may go on using it.
      params: parameters, on one device or on a mesh.
      optimizer: gives the optimiser state.
      extra: the model's other state.
      ema: keep a running mean of the parameters.

    >>> state = create(jax.random.key(0), {"w": jnp.ones(3)}, optax.adam(1e-3), ema=True)
    >>> int(state.step), state.ema["w"].tolist()
    (0, [1.0, 1.0, 1.0])
    """
    start, arguments = _starter(optimizer, ema), (key, params, {} if extra is None else extra)
    place = _placement(jax.eval_shape(start, *arguments), params, arguments[2])
    return jax.jit(start, out_shardings=place)(*arguments)


def planned(
    params: PyTree, optimizer: optax.GradientTransformation, *, extra: PyTree = None
) -> TrainState:
    """Shapes, dtypes and shardings of what `create` would make, without making an array.

    A step lowered with it says what it needs before anything is in memory.

    Args:
      params: tree of `jax.ShapeDtypeStruct`, with shardings on a mesh.
      optimizer: gives the optimiser state.
      extra: the model's other state, likewise.
    """
    start, more = _starter(optimizer, False), {} if extra is None else extra
    like = jax.eval_shape(start, jax.eval_shape(lambda: jax.random.key(0)), params, more)
    place = _placement(like, params, more)
    if place is None:
        return like
    return jax.tree.map(
        lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where), like, place
    )


def _starter(
    optimizer: optax.GradientTransformation, ema: bool
) -> Callable[[Key, PyTree, PyTree], TrainState]:
    def start(key: Key, params: PyTree, extra: PyTree) -> TrainState:
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            opt_state=optimizer.init(params),
            key=rng.fold(key, "train"),
            extra=extra,
            ema=jax.tree.map(jnp.copy, params) if ema else None,
            num_rejected=jnp.zeros((), jnp.int32),
        )

    return start


def _placement(like: TrainState, params: PyTree, extra: PyTree) -> PyTree:
    """Shardings for every leaf of `like`, or None when `params` lie on no mesh."""
    known = {
        **{f"params/{path}": leaf for path, leaf in tree.flatten(params).items()},
        **{f"extra/{path}": leaf for path, leaf in tree.flatten(extra).items()},
    }
    placed = {
        path: leaf.sharding
        for path, leaf in known.items()
        if isinstance(getattr(leaf, "sharding", None), NamedSharding)
    }
    if not placed:
        return None
    everywhere = NamedSharding(next(iter(placed.values())).mesh, PartitionSpec())
    by_path = {path.removeprefix("params/"): path for path in known if path.startswith("params/")}

    def one(path: str, leaf: jax.ShapeDtypeStruct) -> NamedSharding:
        if path in known:
            return placed.get(path, everywhere)
        source = by_path.get(_longest_suffix(path, by_path), "")
        same = source in known and jnp.shape(known[source]) == leaf.shape
        return placed.get(source, everywhere) if same else everywhere

    return tree.map_with_path(one, like)


def _longest_suffix(path: str, names: dict[str, Any]) -> str:
    words = path.split("/")
    suffixes = ("/".join(words[i:]) for i in range(1, len(words)))
    return next((suffix for suffix in suffixes if suffix in names), "")


def shardings(state: TrainState) -> PyTree:
    """Where every leaf lies on its mesh, for `make_step(shardings=)`; None without a mesh."""
    places = jax.tree.map(lambda leaf: leaf.sharding, state)
    on_mesh = any(isinstance(place, NamedSharding) for place in jax.tree.leaves(places))
    return places if on_mesh else None


def abstract(state: TrainState) -> TrainState:
    """Shapes, dtypes and shardings without the arrays: what `checkpoint.restore` fills."""

    def one(leaf: Array) -> jax.ShapeDtypeStruct:
        # An array that was never placed may go wherever its reader puts it.
        sharding = leaf.sharding if leaf.committed else None
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    return jax.tree.map(one, state)

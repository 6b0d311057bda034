"""Banks: frozen representations of every training example, by one or several encoders."""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxml.core import check
from jaxml.core.types import Array, PyTree


@flax.struct.dataclass
class Bank:
    """Representations [n, r, d] of n examples by r encoders, and labels [n] or None.

    Attributes:
      reps: [n, r, d] in any floating dtype, or `Rows` on a mesh.
      labels: int [n], or None.
      count: how many of the r are filled, int32 []; None: all. A bank with room lets a compiled
        step run on while snapshots are added.
    """

    reps: Any
    labels: Any = None
    count: Any = None

    @property
    def num_examples(self) -> int:
        """N."""
        return self.reps.shape[0]

    def append(self, reps_nd: Array) -> "Bank":
        """The bank with one more representation: in the next free place, or in a longer array.

        Raises:
          ValueError: another shape, values that are not finite, or no free place.
        """
        num, room, width = self.reps.shape
        _check_reps(reps_nd, (num, width))
        new = jnp.asarray(reps_nd, self.reps.dtype)[:, None]
        if self.count is None:
            return dataclasses.replace(self, reps=jnp.concatenate([jnp.asarray(self.reps), new], 1))
        filled = int(self.count)
        if filled >= room:
            raise ValueError(f"a bank must have a free place; got {filled} of {room} filled.")
        reps = jnp.asarray(self.reps).at[:, filled].set(new[:, 0])
        return dataclasses.replace(self, reps=reps, count=jnp.int32(filled + 1))


def empty(num: int, room: int, width: int, labels: Any = None, dtype: Any = jnp.float16) -> Bank:
    """A bank with room for `room` representations, none filled."""
    check.positive(num=num, room=room, width=width)
    return Bank(jnp.zeros((num, room, width), dtype), labels, jnp.int32(0))


def encode(
    apply_fn: Callable[[PyTree, Any], Array],
    params: PyTree,
    batches: Iterable[Any],
    labels: Any = None,
    dtype: Any = jnp.float16,
) -> Bank:
    """A bank of one representation per example.

    Args:
      apply_fn: `(params, batch) -> [b, d]`, without dropout, e.g. jitted.
      params: of the encoder.
      batches: covering the examples in the order of their ids.
      labels: int [n], or None.
      dtype: stored.

    Raises:
      ValueError: a representation that is not finite.
    """
    reps = np.concatenate([np.asarray(apply_fn(params, batch)) for batch in batches])
    _check_reps(reps, reps.shape)
    return Bank(jnp.asarray(reps, dtype)[:, None], labels)


def _check_reps(reps: Any, shape: tuple[int, ...]) -> None:
    check.shape("reps", reps, list(shape))
    if not bool(jnp.isfinite(jnp.asarray(reps)).all()):
        raise ValueError("reps must be finite; got NaN or infinity.")


@flax.struct.dataclass
class Rows:
    """An array whose rows are spread over a mesh axis; `take` fetches rows by number."""

    array: Array
    num: int = flax.struct.field(pytree_node=False)
    mesh: Any = flax.struct.field(pytree_node=False)
    axis: str = flax.struct.field(pytree_node=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """Without the padding of the last part."""
        return (self.num, *self.array.shape[1:])

    @property
    def dtype(self) -> Any:
        """Of the array."""
        return self.array.dtype


def shard(bank: Bank, mesh: Mesh, axis: str = "data") -> Bank:
    """Spreads the examples of a bank over a mesh axis, padding the last part."""
    parts, num = mesh.shape[axis], bank.num_examples
    padded = np.pad(np.asarray(bank.reps), ((0, -num % parts), (0, 0), (0, 0)))
    place = NamedSharding(mesh, PartitionSpec(axis))
    return dataclasses.replace(bank, reps=Rows(jax.device_put(padded, place), num, mesh, axis))


def take(array: Any, ids: Array) -> Array:
    """Rows [k, ...] by number, from an array or from `Rows`.

    On a mesh every device gives the rows it holds and their sum is what all get: k rows travel,
    never the bank.
    """
    if not isinstance(array, Rows):
        return jnp.take(jnp.asarray(array), ids, axis=0, mode="clip")

    def body(local: Array, ids: Array) -> Array:
        place = ids - jax.lax.axis_index(array.axis) * local.shape[0]
        mine = (place >= 0) & (place < local.shape[0])
        rows = jnp.take(local, place, axis=0, mode="clip")
        keep = mine.reshape(-1, *(1,) * (local.ndim - 1))
        return jax.lax.psum(jnp.where(keep, rows, jnp.zeros_like(rows)), array.axis)

    specs = (PartitionSpec(array.axis), PartitionSpec())
    return jax.shard_map(body, mesh=array.mesh, in_specs=specs, out_specs=PartitionSpec())(
        array.array, ids
    )


def draw_extra(generator: np.random.Generator, num: int, extra: int, replace: bool = False) -> Any:
    """Further candidates of a step: `extra` of `num` examples, int32 [extra].

    Raises:
      ValueError: more than there are, unless drawn with replacement.
    """
    if extra > num and not replace:
        raise ValueError(
            f"extra must be <= the number of examples without replace=True; "
            f"got extra={extra}, examples={num}."
        )
    return generator.choice(num, extra, replace=replace, shuffle=False).astype(np.int32)

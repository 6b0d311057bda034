"""Which mesh axes share out which logical axis of an array.

A model names the axes of its arrays by what they are (`embed`, `heads`); a set of rules says, once
for all arrays, which mesh axes split them. Changing the parallelism changes the rules only.
"""

import dataclasses
import math
from collections.abc import Mapping

from jax.sharding import Mesh, PartitionSpec

from jaxml.core.types import Axes, Shape

type MeshAxes = str | tuple[str, ...] | None


@dataclasses.dataclass(frozen=True, init=False)
class Rules:
    """Logical axis name to mesh axis, tuple of mesh axes, or None (not split).

    A logical axis without a rule is not split.

    >>> Rules(heads="model", batch=("data", "fsdp")).of("batch")
    ('data', 'fsdp')
    """

    table: tuple[tuple[str, tuple[str, ...]], ...]

    def __init__(self, **axes: MeshAxes):
        table = tuple((name, _as_tuple(mesh_axes)) for name, mesh_axes in sorted(axes.items()))
        object.__setattr__(self, "table", table)

    def of(self, axis: str | None) -> tuple[str, ...]:
        """The mesh axes that split one logical axis; empty where none does."""
        return dict(self.table).get(axis, ()) if axis else ()

    def replace(self, **axes: MeshAxes) -> "Rules":
        """The same rules with some changed or added.

        >>> DATA.replace(embed="fsdp").of("embed")
        ('fsdp',)
        """
        return Rules(**{**dict(self.table), **axes})

    def spec(self, axes: Axes, shape: Shape, mesh: Mesh, path: str = "array") -> PartitionSpec:
        """The partition of one array.

        Args:
          axes: the logical name of each dimension.
          shape: its sizes, as many.
          mesh: gives the sizes of the mesh axes.
          path: how errors name the array.

        Raises:
          ValueError: a mesh axis is asked for by two dimensions, is not in the mesh, or does not
            divide its dimension; or `axes` and `shape` differ in length.

        >>> from jaxml.dist import mesh
        >>> tuple(TENSOR.spec(("embed", "mlp"), (8, 32), mesh.make(mesh.MeshConfig(data=-1))))
        ('fsdp', 'model')
        """
        if len(axes) != len(shape):
            raise ValueError(
                f"axes must name every dimension of {path}; got axes={axes}, shape={shape}."
            )
        _refuse_reuse({axis: self.of(axis) for axis in axes if axis}, axes, path)
        for axis, size in zip(axes, shape, strict=True):
            _check_divides(self.of(axis), axis, size, mesh, path)
        return PartitionSpec(*(_as_entry(self.of(axis)) for axis in axes))


def _as_tuple(mesh_axes: MeshAxes) -> tuple[str, ...]:
    if mesh_axes is None:
        return ()
    return (mesh_axes,) if isinstance(mesh_axes, str) else tuple(mesh_axes)


def _as_entry(mesh_axes: tuple[str, ...]) -> MeshAxes:
    return (mesh_axes[0] if len(mesh_axes) == 1 else mesh_axes) if mesh_axes else None


def _refuse_reuse(wanted: Mapping[str, tuple[str, ...]], axes: Axes, path: str) -> None:
    users: dict[str, list[str]] = {}
    for axis in axes:
        for mesh_axis in wanted.get(axis, ()) if axis else ():
            users.setdefault(mesh_axis, []).append(str(axis))
    for mesh_axis, names in users.items():
        if len(names) > 1:
            raise ValueError(
                f"mesh axis {mesh_axis!r} may split one dimension of {path}; "
                f"the rules give it to {' and '.join(names)} of axes={axes}."
            )


def _check_divides(
    mesh_axes: tuple[str, ...], axis: str | None, size: int, mesh: Mesh, path: str
) -> None:
    for mesh_axis in mesh_axes:
        if mesh_axis not in mesh.shape:
            raise ValueError(
                f"the rule for {axis} names mesh axis {mesh_axis!r}; "
                f"the mesh has {', '.join(map(str, mesh.shape))}."
            )
    parts = math.prod(mesh.shape[mesh_axis] for mesh_axis in mesh_axes)
    if size % parts:
        sizes = ", ".join(f"{mesh_axis}={mesh.shape[mesh_axis]}" for mesh_axis in mesh_axes)
        raise ValueError(
            f"the mesh must divide axis {axis} of {path}; "
            f"got {axis}={size} over {parts} parts ({sizes})."
        )


DATA = Rules(batch=("data", "fsdp"), seq="seq")
"""Every device holds all parameters; the batch is split."""

FSDP = DATA.replace(embed="fsdp")
"""Parameters are split along their embedding axis as well, and gathered for use."""

TENSOR = FSDP.replace(heads="model", kv_heads="model", mlp="model", vocab="model")
"""Heads, feed-forward and vocabulary are split over the model axis on top of FSDP."""

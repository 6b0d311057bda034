"""Device meshes with the four axes of the house: data, fsdp, model, seq."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import AxisType, Mesh

from jaxml.core import check

AXES = ("data", "fsdp", "model", "seq")
"""Every mesh has these axes in this order; an axis that is not used has size 1."""


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """Sizes of the mesh axes; -1 on one axis takes the devices that the others leave.

    Attributes:
      data: copies of the model, each on its own part of the batch.
      fsdp: parts of every parameter, gathered for use; also splits the batch.
      model: parts of heads, feed-forward and vocabulary (tensor parallelism).
      seq: parts of the time axis.

    Raises:
      ValueError: a size that is neither positive nor -1, or -1 on more than one axis.
    """

    data: int = 1
    fsdp: int = 1
    model: int = 1
    seq: int = 1

    def __post_init__(self):
        check.types(self)
        open_axes = [name for name in AXES if getattr(self, name) == -1]
        check.positive(**{name: getattr(self, name) for name in AXES if name not in open_axes})
        if len(open_axes) > 1:
            raise ValueError(f"only one mesh axis may be -1; got -1 for {', '.join(open_axes)}.")


def sizes(cfg: MeshConfig, num_devices: int) -> tuple[int, ...]:
    """The four axis sizes for this many devices, in the order of `AXES`.

    Raises:
      ValueError: the sizes do not multiply to `num_devices`.

    >>> sizes(MeshConfig(data=-1, model=2), num_devices=8)
    (4, 1, 2, 1)
    """
    given = [getattr(cfg, name) for name in AXES]
    fixed = math.prod(size for size in given if size != -1)
    text = ", ".join(f"{name}={size}" for name, size in zip(AXES, given, strict=True))
    if -1 in given:
        if num_devices % fixed:
            raise ValueError(
                f"the mesh sizes must divide the number of devices; got {text} on "
                f"{num_devices} devices ({fixed} does not divide {num_devices})."
            )
        return tuple(num_devices // fixed if size == -1 else size for size in given)
    if fixed != num_devices:
        raise ValueError(
            f"the mesh sizes must multiply to the number of devices; got {text}, which needs "
            f"{fixed} of {num_devices} devices (set one axis to -1 to use all, or pass devices=)."
        )
    return tuple(given)


def make(cfg: MeshConfig, devices: Sequence[Any] | None = None) -> Mesh:
    """A mesh over `devices` (default: all of every process).

    Its axes are of type Auto: the compiler places what no sharding fixes.

    Raises:
      ValueError: the sizes do not fit the number of devices.

    >>> make(MeshConfig(data=-1)).axis_names
    ('data', 'fsdp', 'model', 'seq')
    """
    devices = jax.devices() if devices is None else list(devices)
    shape = sizes(cfg, len(devices))
    return jax.make_mesh(shape, AXES, axis_types=(AxisType.Auto,) * len(AXES), devices=devices)

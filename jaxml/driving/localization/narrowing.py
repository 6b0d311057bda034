"""Registration from a start that may be off by decimetres: a wide kernel first, then narrower."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxml.core import check
from jaxml.core.types import Array
from jaxml.driving.localization.icp import Registration, align
from jaxml.driving.localization.voxelmap import VoxelMap

KERNELS_M = (0.4, 0.2, 0.1, 0.05)


def align_narrowing(
    world: VoxelMap,
    source: Array,
    mask: Array,
    start: Array,
    *,
    limit_m: Array | float,
    kernels_m: Sequence[float] = KERNELS_M,
    **how: Any,
) -> Registration:
    """`align` once for each kernel, each from the last one's pose, with partners looked up anew.

    A narrow kernel alone stays in a minimum near its start; a wide one alone is pulled by what has
    no partner in the map.

    Args:
      world: the map.
      source: [s, 3] in its own frame.
      mask: bool [s].
      start: first guess of source to map [4, 4].
      limit_m: pairs farther apart do not count.
      kernels_m: widths of the kernels, falling.
      how: what else `align` takes.

    Returns:
      The last registration; `iterations` are those of all.

    Raises:
      ValueError: no kernel, or kernels that do not fall.
    """
    check.positive(num_kernels=len(kernels_m), narrowest_kernel=min(kernels_m, default=1.0))
    if any(wide <= narrow for wide, narrow in zip(kernels_m, kernels_m[1:], strict=False)):
        raise ValueError(f"kernels_m must fall; got kernels_m={tuple(kernels_m)}.")

    def narrower(pose: Array, kernel: Array) -> tuple[Array, Registration]:
        found = align(world, source, mask, pose, limit_m=limit_m, kernel_m=kernel, **how)
        return found.pose, found

    _, every = jax.lax.scan(narrower, start, jnp.asarray(kernels_m, start.dtype))
    last = jax.tree.map(lambda x: x[-1], every)
    return last._replace(iterations=jnp.sum(every.iterations))

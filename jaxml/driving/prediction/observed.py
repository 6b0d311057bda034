"""What a forecaster is given: the past of an agent and of those beside it, and nothing else."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxml.core.types import Array
from jaxml.driving.tracks.windows import Windows, neighbours


class Observed(NamedTuple):
    """Pasts relative to each agent's last position, in metres; float32.

    Attributes:
      past: [n, t, 2]; the last position is zero.
      others: pasts of the nearest agents of the window, [n, p, t, 2].
      mask: [n, p], False where there is no such agent.
      place: the agent's last position relative to the mean of its window's, [n, 2].
    """

    past: Any
    others: Any
    mask: Any
    place: Any


def observe(windows: Windows, num_neighbours: int) -> Observed:
    """The past of every agent and of its nearest neighbours; `windows.future` is never read."""
    rows, mask = neighbours(windows, num_neighbours)
    origin = windows.past[:, -1]
    num_groups = int(windows.group.max(initial=-1)) + 1
    count = np.maximum(np.bincount(windows.group, minlength=num_groups), 1)
    sums = np.stack(
        [np.bincount(windows.group, origin[:, i], num_groups) for i in range(2)], -1
    )  # fmt: skip
    mean = sums / count[:, None]
    past = windows.past - origin[:, None]
    others = windows.past[rows] - origin[:, None, None]
    place = origin - mean[windows.group]
    past, others, place = (np.asarray(x, np.float32) for x in (past, others, place))
    return Observed(past, others, mask, place)


def truth(windows: Windows) -> np.ndarray:
    """The future relative to each agent's last position, float32 [n, s, 2]."""
    return np.asarray(windows.future - windows.past[:, -1:], np.float32)


def flip(seen: Observed, future: Array, sign: Array) -> tuple[Observed, Array]:
    """Mirrors agents at the x axis where `sign` [n] is -1: the same world, the other way round."""
    mirror = jnp.stack([jnp.ones_like(sign), sign], -1)
    past, others = seen.past * mirror[:, None], seen.others * mirror[:, None, None]
    return Observed(past, others, seen.mask, seen.place * mirror), future * mirror[:, None]

"""What the forecaster of vehicles is given: polylines in the frame of the agent it is about."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxml.core import check
from jaxml.core.types import Array
from jaxml.driving.tracks import argoverse
from jaxml.driving.tracks.argoverse import Map
from jaxml.driving.tracks.windows import Windows, neighbours


class Scene(NamedTuple):
    """Polylines in the frame of each agent: origin at its last position, x along its heading.

    A point is (x, y, cosine, sine) of a place in metres and a direction.

    Attributes:
      history: of the agent itself, float32 [n, t, 4].
      others: of its neighbours, [n, p, t, 4].
      others_mask: bool [n, p].
      lines: of the map, [n, m, points, 4].
      lines_mask: bool [n, m].
      kind: of each line, one-hot and whether in a junction, [n, m, 4].
      size: length and width, metres [n, 2].
    """

    history: Any
    others: Any
    others_mask: Any
    lines: Any
    lines_mask: Any
    kind: Any
    size: Any


class Pose(NamedTuple):
    """Where each agent's frame lies in the world: origin [n, 2], heading [n]."""

    origin: np.ndarray
    heading: np.ndarray


def pose(windows: Windows) -> Pose:
    """The frame at the last observed moment; the box gives the heading.

    Raises:
      ValueError: headings that are not finite.
    """
    heading = windows.heading[:, -1]
    if not np.isfinite(heading).all():
        raise ValueError("heading must be finite for vehicles; got NaN.")
    return Pose(windows.past[:, -1], heading)


def to_frame(place: Pose, points: np.ndarray) -> np.ndarray:
    """World points [n, ..., 2] in the frames of n agents."""
    shape = (len(points),) + (1,) * (points.ndim - 2)
    apart = points - place.origin.reshape(*shape, 2)
    cos, sin = (f(place.heading).reshape(shape) for f in (np.cos, np.sin))
    x, y = apart[..., 0], apart[..., 1]
    return np.stack([x * cos + y * sin, y * cos - x * sin], -1)


def to_world(place: Pose, points: np.ndarray) -> np.ndarray:
    """Back: `to_world(p, to_frame(p, x)) == x`."""
    shape = (len(points),) + (1,) * (points.ndim - 2)
    cos, sin = (f(place.heading).reshape(shape) for f in (np.cos, np.sin))
    x, y = points[..., 0], points[..., 1]
    turned = np.stack([x * cos - y * sin, y * cos + x * sin], -1)
    return turned + place.origin.reshape(*shape, 2)


def _with_direction(points: np.ndarray, angle: np.ndarray) -> np.ndarray:
    direction = np.stack([np.cos(angle), np.sin(angle)], -1)
    return np.concatenate([points, direction], -1)


def see(
    windows: Windows, num_neighbours: int, num_lines: int = 0, roads: Map | None = None
) -> Scene:
    """The scene around every agent; `windows.future` is never read.

    Raises:
      ValueError: lines are wanted and there is no map.
    """
    if num_lines and roads is None:
        raise ValueError(f"roads must be given when num_lines > 0; got num_lines={num_lines}.")
    check.at_least(0, num_neighbours=num_neighbours)
    place, n = pose(windows), len(windows)
    turn = place.heading[:, None]
    history = _with_direction(to_frame(place, windows.past), windows.heading - turn)
    rows, mask = neighbours(windows, num_neighbours)
    others = _with_direction(
        to_frame(place, windows.past[rows]), windows.heading[rows] - turn[:, :, None]
    )
    lines = np.zeros((n, num_lines, argoverse.POINTS, 4))
    kind, lines_mask = np.zeros((n, num_lines, 4)), np.zeros((n, num_lines), bool)
    if num_lines and roads is not None:
        which, lines_mask = argoverse.nearest(roads, place.origin, num_lines)
        points = to_frame(place, roads.points[which])
        step = np.gradient(points, axis=2)  # along a map line, not along time
        lines = _with_direction(points, np.arctan2(step[..., 1], step[..., 0]))
        kind = np.concatenate([np.eye(3)[roads.kind], roads.junction[:, None]], 1)[which]
    arrays = (history, others, mask, lines, lines_mask, kind, windows.size)
    return Scene(*(x if x.dtype == bool else np.asarray(x, np.float32) for x in arrays))


def mirror(scene: Scene, future: Array, sign: Array) -> tuple[Scene, Array]:
    """The same roads the other way round, where `sign` [n] is -1."""
    one = jnp.ones_like(sign)
    four, two = jnp.stack([one, sign, one, sign], -1), jnp.stack([one, sign], -1)
    return scene._replace(
        history=scene.history * four[:, None], others=scene.others * four[:, None, None],
        lines=scene.lines * four[:, None, None],
    ), future * two[:, None]  # fmt: skip

"""Windows of tracks: what was seen of agents, what came next, and who stood beside them.

Nothing that a forecaster is given may touch the future: `observe` builds its input from `past`
alone, neighbours included.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from jaxml.core import check


@dataclasses.dataclass(frozen=True)
class Windows:
    """Agents cut out of tracks, one row per agent and window.

    Attributes:
      name: of the scene or split.
      step_s: seconds between two positions.
      past: observed positions in metres, float64 [n, t, 2].
      future: what is to be forecast, float64 [n, s, 2].
      group: agents of one window share a number, int32 [n].
      heading: radians over the past, counter-clockwise from +x, float64 [n, t]; of agents without
        a measured heading NaN.
      size: length and width in metres, float64 [n, 2]; NaN where not measured.

    Raises:
      ValueError: shapes that do not fit.
    """

    name: str
    step_s: float
    past: np.ndarray
    future: np.ndarray
    group: np.ndarray
    heading: np.ndarray
    size: np.ndarray

    def __post_init__(self):
        check.positive(step_s=self.step_s)
        sizes = check.shape("past", self.past, ["n", "t", 2])
        check.shape("future", self.future, [sizes["n"], "s", 2])
        check.shape("group", self.group, [sizes["n"]])
        check.shape("heading", self.heading, [sizes["n"], sizes["t"]])
        check.shape("size", self.size, [sizes["n"], 2])

    def __len__(self) -> int:
        return len(self.past)

    @property
    def num_windows(self) -> int:
        """How many windows there are."""
        return len(np.unique(self.group))

    def take(self, rows: np.ndarray) -> "Windows":
        """Some of the agents."""
        arrays = {name: getattr(self, name)[rows] for name in ARRAYS}
        return dataclasses.replace(self, **arrays)

    def blind(self) -> "Windows":
        """The same with the future replaced by NaN: what a leak-proof forecaster may see."""
        return dataclasses.replace(self, future=np.full_like(self.future, np.nan))


ARRAYS = ("past", "future", "group", "heading", "size")


def concatenate(name: str, parts: Sequence[Windows]) -> Windows:
    """All agents of several sets; groups stay apart.

    Raises:
      ValueError: no parts, or time steps that differ.
    """
    if not parts or len({part.step_s for part in parts}) > 1:
        raise ValueError(f"parts must be >= 1 of one step_s; got {[p.step_s for p in parts]}.")
    starts = np.cumsum([0, *(int(p.group.max(initial=-1)) + 1 for p in parts)])
    arrays = {key: np.concatenate([getattr(p, key) for p in parts]) for key in ARRAYS}
    groups = [p.group + start for p, start in zip(parts, starts, strict=False)]
    arrays["group"] = np.concatenate(groups).astype(np.int32)
    return Windows(name, parts[0].step_s, **arrays)


def cut(
    name: str,
    tracks: Mapping[int, tuple[np.ndarray, np.ndarray]],
    starts: Iterable[int],
    *,
    num_past: int,
    num_future: int,
    stride: int,
    step_s: float,
    fewest: int = 1,
) -> Windows:
    """Cuts windows out of tracks; only agents present in every frame of a window count.

    Args:
      name: of the result.
      tracks: by agent: frame numbers, ascending [f], and rows (x, y, heading, length, width)
        [f, 5] in metres and radians.
      starts: first frames of windows.
      num_past: observed positions.
      num_future: positions to forecast.
      stride: frames from one position to the next.
      step_s: seconds from one position to the next.
      fewest: windows with fewer such agents are dropped.

    Raises:
      ValueError: frames of a track that are not ascending.
    """
    for agent, (frames, _) in tracks.items():
        if np.any(np.diff(frames) <= 0):
            raise ValueError(f"frames must ascend within a track; got agent={agent}, {frames[:9]}.")
    where = {agent: {int(f): i for i, f in enumerate(fs)} for agent, (fs, _) in tracks.items()}
    length, rows, groups, group = num_past + num_future, [], [], 0
    for start in starts:
        wanted = range(start, start + length * stride, stride)
        present = [a for a, at in where.items() if all(f in at for f in wanted)]
        if len(present) >= max(fewest, 1):
            rows += [tracks[a][1][[where[a][f] for f in wanted]] for a in present]
            groups += [group] * len(present)
            group += 1
    all_rows = np.stack(rows) if rows else np.zeros((0, length, 5))
    past, future = all_rows[:, :num_past], all_rows[:, num_past:]
    return Windows(
        name,
        step_s,
        past[..., :2].copy(),
        future[..., :2].copy(),
        np.array(groups, np.int32),
        past[..., 2].copy(),
        past[:, -1, 3:5].copy() if len(rows) else np.zeros((0, 2)),
    )


def neighbours(windows: Windows, num: int) -> tuple[np.ndarray, np.ndarray]:
    """The nearest agents of the same window at the last observed moment.

    Returns:
      Rows int32 [n, num], nearest first, and a mask [n, num], False where there is no such agent
      (the row is then the agent itself).
    """
    n = len(windows)
    rows = np.repeat(np.arange(n, dtype=np.int32)[:, None], num, 1)
    mask = np.zeros((n, num), bool)
    order = np.argsort(windows.group, kind="stable")
    edges = np.flatnonzero(np.diff(windows.group[order])) + 1
    for members in np.split(order, edges):
        if len(members) < 2:
            continue
        place = windows.past[members, -1]
        gap = np.linalg.norm(place[:, None] - place[None], axis=-1)
        np.fill_diagonal(gap, np.inf)
        near = np.argsort(gap, axis=1, kind="stable")[:, : min(num, len(members) - 1)]
        rows[members, : near.shape[1]] = members[near]
        mask[members, : near.shape[1]] = True
    return rows, mask

"""One Argoverse 2 motion-forecasting scenario: tracks, and the map as polylines.

The forecast here is at 5 Hz like KITTI's (every second of the 10 Hz steps).
"""

import json
from typing import NamedTuple

import numpy as np

from jaxml.core import check
from jaxml.driving.tracks.windows import Windows, cut
from jaxml.inputs import source
from jaxml.inputs.source import Provenance

POINTS = 10
"""Points of a polyline, at equal distances along it."""


class Map(NamedTuple):
    """Polylines of a map.

    Attributes:
      points: metres, float64 [p, POINTS, 2].
      kind: 0 lane of vehicles, 1 lane of bicycles or buses, 2 pedestrian crossing, int32 [p].
      junction: whether a lane lies in a junction, bool [p].
    """

    points: np.ndarray
    kind: np.ndarray
    junction: np.ndarray


def resample(points: np.ndarray, num: int = POINTS) -> np.ndarray:
    """Points [num, 2] at equal distances along a polyline [m, 2].

    Raises:
      ValueError: fewer than two points.

    >>> resample(np.array([[0.0, 0.0], [1.0, 0.0], [4.0, 0.0]]), 3)[:, 0].tolist()
    [0.0, 2.0, 4.0]
    """
    if len(points) < 2:
        raise ValueError(f"points must be >= 2; got points.shape={points.shape}.")
    gap = np.linalg.norm(np.diff(points, axis=0), axis=1)
    along = np.concatenate([[0.0], np.cumsum(gap)])
    at = np.linspace(0.0, along[-1], num)
    return np.stack([np.interp(at, along, points[:, i]) for i in range(2)], -1)


def parse_map(text: str) -> Map:
    """Centre lines and crossings of a map file."""
    content = json.loads(text)
    lines, kinds, junction = [], [], []
    for lane in content["lane_segments"].values():
        lines.append(_xy(lane["centerline"]))
        kinds.append(0 if lane["lane_type"] == "VEHICLE" else 1)
        junction.append(bool(lane["is_intersection"]))
    for crossing in content["pedestrian_crossings"].values():
        edges = [_xy(crossing[name]) for name in ("edge1", "edge2")]
        lines.append((edges[0] + edges[1]) / 2)
        kinds.append(2)
        junction.append(False)
    points = np.stack([resample(line) for line in lines])
    return Map(points, np.array(kinds, np.int32), np.array(junction))


def _xy(points: list[dict[str, float]]) -> np.ndarray:
    return np.array([[p["x"], p["y"]] for p in points])


def nearest(found: Map, place: np.ndarray, num: int) -> tuple[np.ndarray, np.ndarray]:
    """The polylines nearest to each place.

    Args:
      found: of the map.
      place: [n, 2].
      num: of polylines.

    Returns:
      Rows int32 [n, num] and a mask [n, num], False where the map has no more.
    """
    check.positive(num=num)
    gap = np.linalg.norm(found.points[None] - place[:, None, None], axis=-1).min(-1)
    order = np.argsort(gap, axis=1, kind="stable")[:, :num]
    pad = num - order.shape[1]
    rows = np.pad(order, ((0, 0), (0, max(pad, 0)))).astype(np.int32)
    mask = np.arange(num)[None] < order.shape[1]
    return rows, np.broadcast_to(mask, rows.shape).copy()


def load(path: str | None = None) -> tuple[Windows, Map, Provenance]:
    """Vehicles of the scenario in windows like KITTI's, its map, and where they came from.

    Raises:
      DataNotFoundError: the set is not on this machine; says how to get it.
      ImportError: pyarrow is not installed.
    """
    import io

    from pyarrow import parquet

    located, known = source.find("av2", path), source.dataset("av2")
    files = {f.path.rpartition("forecast_0a1e6f0a_")[2]: f for f in known.files}
    table = parquet.read_table(io.BytesIO(source.read(located, files["scenario.parquet"])))
    names = ("timestep", "position_x", "position_y", "heading")
    columns = {n: table[n].to_numpy() for n in names}
    track, kind = (np.array(table[n].to_pylist()) for n in ("track_id", "object_type"))
    tracks = {}
    for number, name in enumerate(np.unique(track[kind == "vehicle"])):
        rows = np.flatnonzero(track == name)
        body = np.stack([columns[n][rows] for n in names[1:]], -1)
        size = np.broadcast_to([4.6, 1.9], (len(rows), 2))
        tracks[number] = (columns["timestep"][rows], np.concatenate([body, size], 1))
    found = cut("av2", tracks, range(0, 71, 5), num_past=5, num_future=15, stride=2, step_s=0.2)
    file = files["map.json"]
    about = Provenance("av2", located.how, file.sha256, file.num_bytes, known.licence)
    return found, parse_map(source.read(located, file).decode()), about

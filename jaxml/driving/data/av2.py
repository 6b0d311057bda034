"""Argoverse 2 sensor frames: annotated sweeps of two logs (needs pyarrow)."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxml.driving.boxes import quaternion
from jaxml.driving.data import archive


class Sweep(NamedTuple):
    """One sweep in the frame of the ego vehicle.

    Attributes:
      log: short name of the log.
      timestamp_ns: of the sweep.
      points: x, y, z, intensity in [0, 1] [p, 4].
      boxes: [n, 7].
      category: str [n].
      num_inside: points inside each box as the data set says, int [n].
      pose: ego vehicle to city [4, 4].
    """

    log: str
    timestamp_ns: int
    points: np.ndarray
    boxes: np.ndarray
    category: np.ndarray
    num_inside: np.ndarray
    pose: np.ndarray


def _columns(content: bytes) -> dict[str, np.ndarray]:
    try:
        from pyarrow import feather
    except ImportError:
        raise ImportError("reading Argoverse 2 needs pyarrow; pip install pyarrow.") from None
    table: Any = feather.read_table(io.BytesIO(content))
    return {name: table[name].to_numpy() for name in table.column_names}


def sweeps(path: Path | str | None = None) -> Iterator[Sweep]:
    """The three annotated sweeps, by log and time. Arguments and errors as in `source.find`."""
    files = archive.contents("av2", path, ".feather")
    for name in sorted(n for n in files if "_lidar_" in n):
        log, stamp = name.removesuffix(".feather").split("_lidar_")
        points = _columns(files[name])
        rows = _columns(files[f"{log}_annotations.feather"])
        now = {key: column[rows["timestamp_ns"] == int(stamp)] for key, column in rows.items()}
        ego = _columns(files[f"{log}_city_SE3_egovehicle.feather"])
        at = int(np.argmin(np.abs(ego["timestamp_ns"] - int(stamp))))
        pose = np.eye(4)
        pose[:3, :3] = quaternion.matrix_of_quaternion(
            np.array([ego[key][at] for key in ("qw", "qx", "qy", "qz")])
        )
        pose[:3, 3] = [ego[key][at] for key in ("tx_m", "ty_m", "tz_m")]
        yield Sweep(
            log,
            int(stamp),
            np.stack(
                [points["x"], points["y"], points["z"], points["intensity"] / 255.0], -1
            ).astype(np.float32),
            quaternion.from_av2(now),
            now["category"].astype(str),
            now["num_interior_pts"],
            pose,
        )

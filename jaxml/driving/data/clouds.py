"""Two real LiDAR clouds of one parked car, for registration."""

from pathlib import Path

import numpy as np

from jaxml.driving.data import archive


def car_clouds(path: Path | str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The clouds [24989, 3] and [25193, 3] in metres. Arguments and errors as in `source.find`."""
    (content,) = archive.contents("car_clouds", path).values()
    found = archive.arrays(content)
    return found["car_cloud400"], found["car_cloud401"]

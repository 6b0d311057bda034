"""What one agent sends for one frame, in bytes."""

from jaxml.core import check
from jaxml.driving.detection3d.config import PillarConfig
from jaxml.driving.v2x.config import METHODS

POSE_BYTES = 6 * 4


def bytes_per_agent(
    method: str, cfg: PillarConfig, *, points: float = 0, boxes: float = 0, value_bytes: int = 2
) -> float:
    """Bytes that a method sends.

    Args:
      method: one of `METHODS`.
      cfg: of the detector, whose map is sent by the intermediate methods.
      points: returns of one cloud (x, y, z, intensity as four 32-bit numbers).
      boxes: boxes found (seven numbers and a score of 32 bits, a class of 8).
      value_bytes: of one feature; nothing is compressed beyond that.

    >>> bytes_per_agent("late", PillarConfig(), boxes=10)
    354
    """
    check.one_of(METHODS, method=method)
    check.at_least(0, points=points, boxes=boxes)
    if method == "none":
        return 0
    if method == "early":
        return POSE_BYTES + 16 * points
    if method == "late":
        return POSE_BYTES + 33 * boxes
    rows, columns = cfg.map_shape
    return POSE_BYTES + rows * columns * cfg.bev_width * value_bytes

"""Many objects over time: Kalman filters and assignment on top of any detector."""

from jaxml.driving.tracking.config import TrackerConfig
from jaxml.driving.tracking.kalman import Belief, begin, predict, update
from jaxml.driving.tracking.tracker import Tracks, overlaps, track

__all__ = [
    "Belief",
    "TrackerConfig",
    "Tracks",
    "begin",
    "overlaps",
    "predict",
    "track",
    "update",
]

"""Driving: perception, fusion, V2X, localisation, prediction, planning, safety, and a simulator.

Metres, radians, seconds; a box is (x, y, z of its centre, dx, dy, dz, heading counter-clockwise
from +x) in a frame whose z points up. Other conventions exist only in the converters.

A folder of folders; each is imported when it is first touched.
"""

import importlib
from types import ModuleType

_PARTS = (
    "boxes",
    "data",
    "depth",
    "detection2d",
    "detection3d",
    "fusion",
    "geometry",
    "localization",
    "metrics",
    "planning",
    "prediction",
    "safety",
    "sim",
    "tracking",
    "tracks",
    "v2x",
)


def __getattr__(name: str) -> ModuleType:
    if name in _PARTS:
        return importlib.import_module(f"jaxml.driving.{name}")
    raise AttributeError(f"module 'jaxml.driving' has no attribute {name!r}")

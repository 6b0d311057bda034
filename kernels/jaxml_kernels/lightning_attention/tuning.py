"""The tile sizes of the Triton kernel, by device and widths: a table that a script measures."""

import json
from functools import cache
from pathlib import Path
from typing import NamedTuple

TABLE = Path(__file__).with_name("tuning.json")


class Tiles(NamedTuple):
    """How a program is cut: value columns, warps, and chunks that are loaded ahead."""

    block: int
    warps: int
    stages: int


def candidates(key_width: int, value_width: int) -> list[Tiles]:
    """What the script tries: states of at most 128 x 128 floats, spread over enough warps."""
    found = []
    for block in (32, 64, 128):
        if block > value_width or key_width * block > 128 * 128:
            continue
        for warps in (4, 8):
            found += [Tiles(block, warps, stages) for stages in (1, 2, 3)]
    return found or [Tiles(value_width, 4, 2)]


@cache
def table() -> dict[str, dict[str, list[int]]]:
    """Measured tiles by device and `key x value` widths: `benchmarks/tune.py`."""
    return json.loads(TABLE.read_text())


def tiles(device_kind: str, key_width: int, value_width: int) -> Tiles:
    """The measured tiles of the device, or a safe choice where nothing was measured."""
    entry = table().get(device_kind, {}).get(f"{key_width}x{value_width}")
    if entry:
        return Tiles(*entry)
    block = min(64, value_width)
    return Tiles(block, 8 if key_width * block >= 128 * 64 else 4, 2)

"""A changed default shows here."""

from pathlib import Path

from jaxml.core import config
from jaxml.driving import depth, detection2d, detection3d, fusion, localization, sim, v2x

GOLDEN = Path(__file__).parent / "golden/presets.txt"


def text():
    parts = []
    for part in (depth, detection2d, detection3d, fusion, localization, sim, v2x):
        for name, preset in part.PRESETS.items():
            parts.append(f"[{part.__name__} {name}]\n{config.text(preset)}")
    return "\n".join(parts)


def test_presets_are_as_reviewed():
    assert text() == GOLDEN.read_text()

"""A changed default shows in review: the golden text of every preset."""

from pathlib import Path

import pytest

from jaxml.core import config
from jaxml.tnl.config import PRESETS
from jaxml.tnl.train import TrainConfig

GOLDEN = Path(__file__).parent / "golden"
CONFIGS = {**PRESETS, "train": TrainConfig()}


@pytest.mark.parametrize("name", CONFIGS)
def test_preset_is_as_reviewed(name):
    assert config.text(CONFIGS[name]) == (GOLDEN / f"{name}.txt").read_text()

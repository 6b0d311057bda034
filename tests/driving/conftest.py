import os
from pathlib import Path

import pytest


@pytest.fixture
def real_data():
    """Skips where the real frames are not at hand."""
    folder = os.environ.get("JAXML_DATA")
    if not folder or not (Path(folder) / "driving").is_dir():
        pytest.skip("the real frames need JAXML_DATA (see `jaxml data list`)")

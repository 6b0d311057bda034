"""How long a person waits for `jaxml --help` and `import jaxml`."""

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from jaxml.report import timing

ROOT = Path(__file__).resolve().parents[1]
LIMITS = {
    "jaxml --help": (1.0, ["-m", "jaxml.cli", "--help"]),
    "import jaxml": (0.3, ["-c", "import jaxml"]),
}


def _seconds(words: list[str]) -> float:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    start = time.perf_counter()
    subprocess.run([sys.executable, *words], check=True, capture_output=True, env=env)
    return time.perf_counter() - start


def rows(smoke: bool) -> list[timing.Row]:
    """Whole processes; the peer is the limit we set ourselves, in seconds."""
    found = []
    for name, (limit, words) in LIMITS.items():
        value = statistics.median(_seconds(words) for _ in range(2 if smoke else 7))
        found.append(timing.Row(name, "wall_s", "s", value, "limit", limit, limit / value, 1.0))
    return found

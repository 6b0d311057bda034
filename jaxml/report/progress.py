"""Lines with the time, for programs that run far from a terminal."""

import time

BEGUN = time.monotonic()
"""When the program began."""


def say(line: str) -> None:
    """Prints with the seconds since the program began."""
    print(f"[{time.monotonic() - BEGUN:6.1f} s] {line}", flush=True)

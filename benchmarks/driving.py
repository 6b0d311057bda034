"""Rotated overlap beside shapely and torch, pillars, and odometry beside KISS-ICP.

`JAXML_PEERS_DRIVING` names the python of an environment with torch and kiss-icp 1.3.0; without it
their columns stay empty. Runs alternate, on the same inputs.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "kernels")]

import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

from jaxml.driving import localization as loc  # noqa: E402
from jaxml.driving import speed  # noqa: E402
from jaxml.report import timing  # noqa: E402


def rows(smoke: bool) -> list[timing.Row]:
    """Peers: shapely here, torch and kiss-icp in a process of their own."""
    num = 100 if smoke else 1000
    python = os.environ.get("JAXML_PEERS_DRIVING")
    return [*_overlap(num, python, 2 if smoke else 5), *_pillars(smoke), *_odometry(python, smoke)]


class _Worker:
    """A process that answers each line with seconds."""

    def __init__(self, python: str, *words: str):
        run = [python, str(HERE / "peers" / "driving_worker.py"), *words]
        self._process = subprocess.Popen(
            run, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.run()  # loads and warms up

    def run(self) -> dict:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("run\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        self._process.communicate()


def _polygons(box: np.ndarray):
    import shapely

    box = box.astype(np.float64)
    c, s, out = np.cos(box[:, 6]), np.sin(box[:, 6]), []
    for i, j in ((1, 1), (-1, 1), (-1, -1), (1, -1)):
        x, y = i * box[:, 3] / 2, j * box[:, 4] / 2
        out.append(np.stack([box[:, 0] + c * x - s * y, box[:, 1] + s * x + c * y], -1))
    return shapely.polygons(np.stack(out, 1))


def _overlap(num: int, python: str | None, repeats: int) -> list[timing.Row]:
    import shapely

    a, b = (speed.boxes(num, seed) for seed in (0, 1))
    on = jnp.asarray(a), jnp.asarray(b)
    pa, pb = _polygons(a)[:, None], _polygons(b)[None]

    def peer():
        shared = shapely.area(shapely.intersection(pa, pb))
        return shared / (shapely.area(pa) + shapely.area(pb) - shared)

    times = timing.alternate(
        {"ours": lambda: speed.all_pairs(*on), "peer": peer}, repeats=repeats, warmups=1
    )
    name = f"rotated IoU {num} x {num}"
    gap = float(np.abs(np.asarray(speed.all_pairs(*on)) - peer()).max())
    found = [
        timing.faster(name, "call_ms", times["ours"], "shapely", times["peer"], 100.0),
        timing.Row(name, "largest_gap", "IoU", gap, "shapely", 0.0),
    ]
    if python:
        worker = _Worker(python, "iou", str(num))
        mine, theirs = [], []
        for _ in range(repeats):
            mine.append(timing.once(lambda: speed.all_pairs(*on)))
            theirs.append(worker.run()["seconds"])
        worker.close()
        both = timing.Timing(tuple(mine)), timing.Timing(tuple(theirs))
        peer_name = "torch, sorted vertices"
        found.append(timing.faster(name, "call_ms", both[0], peer_name, both[1], 5.0))
    return found


def _pillars(smoke: bool) -> list[timing.Row]:
    num = 5_000 if smoke else 120_000
    points, mask = jnp.asarray(speed.cloud(num)), jnp.ones(num, bool)
    kernel = jnp.ones((10, 64))
    found = timing.alternate({"ours": lambda: speed.to_grid(points, mask, kernel, 64)}, repeats=3)
    name = f"pillarise and scatter {num}"
    return [timing.Row(name, "call_ms", "ms", 1e3 * found["ours"].median)]


def _odometry(python: str | None, smoke: bool) -> list[timing.Row]:
    clouds, name = speed.clouds()
    clouds = clouds[:3] if smoke else clouds
    cfg = loc.PRESETS["tiny" if smoke else "laptop"]
    if smoke:
        clouds = [cloud[:1024] for cloud in clouds]
    points, mask = (jnp.asarray(x) for x in loc.pad_clouds(clouds, cfg.cloud_room))

    def ours():
        return loc.run(points, mask, cfg, loc.point_to_point)[0]

    timing.once(ours)
    worker = _Worker(python, "icp") if python and not smoke else None
    mine, theirs = [], []
    for _ in range(1 if smoke else 3):
        mine.append(timing.once(ours) / len(clouds))
        if worker is not None:
            theirs.append(worker.run()["seconds"])
    case = f"odometry, {name}"
    if worker is None:
        return [timing.Row(case, "frame_ms", "ms", 1e3 * timing.Timing(tuple(mine)).median)]
    worker.close()
    both = timing.Timing(tuple(mine)), timing.Timing(tuple(theirs))
    return [timing.faster(case, "frame_ms", both[0], "kiss-icp 1.3.0", both[1], 0.5)]

"""The perception runs that need a GPU, from a bare command line.

    python -m jaxml.driving.gpu OUT PART [PART ...] [--scale h100] [--minutes 9]

PART is a row of `PARTS`. Needs jax, numpy, scipy, optax, orbax, flax, pillow, matplotlib and
typeguard, and JAXML_DATA with the sets bccd, kitti_tracking and kitti_object. Call it again with
the same folder to go on; finished trainings are read again. Writes OUT/PART.json.
"""

import argparse
import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from jaxml.core import files
from jaxml.driving import speed
from jaxml.driving.fusion import recipe as fusion
from jaxml.driving.fusion.config import PRESETS as FUSION
from jaxml.driving.fusion.config import SENSORS
from jaxml.driving.sim.layout import layouts
from jaxml.driving.v2x import recipe as v2x
from jaxml.driving.v2x.config import PRESETS as V2X
from jaxml.report import environment, timing
from jaxml.report.progress import BEGUN, say
from jaxml.report.recipe import Context


def _recipe(module: str) -> Callable[[str, Context], dict[str, Any]]:
    def run(scale: str, context: Context) -> dict[str, Any]:
        import importlib

        found = importlib.import_module(module).measure(scale, context)
        return {
            "claims": [claim.to_json() for claim in found.claims],
            "tables": [dataclasses.asdict(table) for table in found.tables],
        }

    return run


def _fusion(seed: int) -> Callable[[str, Context], dict[str, Any]]:
    def run(scale: str, context: Context) -> dict[str, Any]:
        cfg = FUSION[scale]
        every, out = layouts(cfg.sim.room), {}
        for name in SENSORS:
            one = dataclasses.replace(cfg, sensors=name, seed=seed)
            folder = context.folder / f"fusion-{name}-{seed}"
            out[name] = fusion.scores(one, every, folder, _scenes(scale))
            say(f"{name}, seed {seed}: {out[name]}")
        return {"layouts": every.source, "scores": out}

    return run


def _v2x(seed: int) -> Callable[[str, Context], dict[str, Any]]:
    def run(scale: str, context: Context) -> dict[str, Any]:
        cfg = V2X[scale]
        every, out = layouts(cfg.sim.room), {}
        for name in ("none", "early", "fcooper", "v2vnet"):
            one = dataclasses.replace(cfg, method=name, seed=seed)
            folder = context.folder / f"v2x-{name}-{seed}"
            out[name] = v2x.scores(one, every, folder, _scenes(scale))
            say(f"{name}, seed {seed}: {out[name]}")
        return {"layouts": every.source, "scores": out}

    return run


def _speed(scale: str, context: Context) -> dict[str, Any]:
    rows = speed.alone(2, 2000) if scale == "tiny" else speed.alone()
    context.say(timing.table(rows))
    return {"rows": [dataclasses.asdict(row) for row in rows]}


def _scenes(scale: str) -> int:
    return 4 if scale == "tiny" else 256


PARTS: dict[str, Callable[[str, Context], dict[str, Any]]] = {
    "speed": _speed,
    "detect2d": _recipe("jaxml.driving.detection2d.recipe"),
    "detect3d": _recipe("jaxml.driving.detection3d.recipe"),
    "depth": _recipe("jaxml.driving.depth.recipe"),
    **{f"fusion-{seed}": _fusion(seed) for seed in range(3)},
    **{f"v2x-{seed}": _v2x(seed) for seed in range(3)},
}
"""By name; the number is the seed, so that every part fits into one call."""


def main() -> None:
    """Parses the flags and runs the parts that the time allows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("parts", nargs="+", choices=sorted(PARTS))
    parser.add_argument("--scale", default="h100", choices=("tiny", "laptop", "h100"))
    parser.add_argument("--minutes", type=float, default=9.0, help="no part is begun later")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    say(f"{jax.devices()}, jax {jax.__version__}")
    for name in args.parts:
        if time.monotonic() - BEGUN > 60 * args.minutes:
            say(f"no time left for {name}")
            continue
        begun = time.monotonic()
        record = PARTS[name](args.scale, Context(args.scale, 0, args.out / "runs", say))
        record |= {"seconds": time.monotonic() - begun, "environment": environment.describe()}
        files.write_text(args.out / f"{name}.json", json.dumps(record, indent=1) + "\n")
        say(f"{name} done")


if __name__ == "__main__":
    main()

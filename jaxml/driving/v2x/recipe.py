"""Vehicles that share: the order of methods, and what wrong poses cost."""

import dataclasses
import json
from pathlib import Path

from jaxml.core import files
from jaxml.driving.detection3d.train import Trained
from jaxml.driving.fusion.recipe import WHY, gaps, table
from jaxml.driving.sim.layout import Layouts, crowded, layouts, split
from jaxml.driving.v2x import train as training
from jaxml.driving.v2x.bandwidth import bytes_per_agent
from jaxml.driving.v2x.config import METHODS, PRESETS, NoiseConfig, V2XConfig
from jaxml.report.claim import Promise, at_least
from jaxml.report.recipe import Context, Outcome, Table

PAPER = "OPV2V AP@0.7, PointPillars: late 78.1, early 80.0, F-Cooper 79.0, V2VNet 82.2"
NOISE = NoiseConfig(0.2, 0.2)
DELAY = NoiseConfig(delay_s=0.2)
CONDITIONS = {"clean": NoiseConfig(), "noisy": NOISE, "delayed": DELAY}
_RULE = "3 seeds, mean gap in simulated AP@0.7 of cars; below 2 points is called a tie"


def _gap(id: str, words: str, least: float, note: str = _RULE) -> Promise:
    rule = at_least(least, note)
    return Promise("driving", id, words, PAPER, "second-hand", "points of AP", rule)


LATE = _gap("late-over-none", "Sharing boxes finds more than sensing alone", 2.0)
EARLY = _gap("early-over-late", "Sharing points finds more than sharing boxes", 2.0)
MIDDLE = _gap(
    "v2vnet-over-early", "Sharing features is at least as good as sharing points", -2.0,
    "3 seeds, mean gap in simulated AP@0.7; not below a tie",
)  # fmt: skip
GRACEFUL = Promise(
    "driving", "v2vnet-with-noise", "V2VNet is still worth it with wrong poses",
    "V2XSet AP@0.7 with noise: no fusion 40.2, V2VNet 49.3", "second-hand", "points of AP",
    at_least(2.0, "over no fusion, poses off by 0.2 m and 0.2 degrees; 3 seeds"),
)  # fmt: skip
CLAIMS = (LATE, EARLY, MIDDLE, GRACEFUL)


def scores(cfg: V2XConfig, every: Layouts, folder: Path, num: int) -> dict[str, dict[str, float]]:
    """Trains one method and scores it under all `CONDITIONS`.

    The model of "none" also gives "late" as `late clean`, `late noisy`, `late delayed`.
    """
    path = folder / "scores.json"
    if path.exists():
        return json.loads(path.read_text())
    train, held = split(crowded(every, 5))
    done = training.train(cfg, train, folder)
    found = _all(done, cfg, held, num, "")
    if cfg.method == "none":
        late = dataclasses.replace(cfg, method="late")
        found |= _all(done, late, held, num, "late ")
    files.write_text(path, json.dumps(found) + "\n")
    return found


def _all(done: Trained, cfg: V2XConfig, held: Layouts, num: int, prefix: str):
    return {
        f"{prefix}{name}": training.evaluate(done, cfg, held, noise, num)
        for name, noise in CONDITIONS.items()
    }


def measure(scale: str, context: Context) -> Outcome:
    """At "h100" three seeds of all methods; otherwise what each would send."""
    cfg = PRESETS[scale]
    sent = _bandwidth(cfg)
    if scale != "h100":
        return Outcome([p.missing(WHY, context.scale) for p in CLAIMS], tables=[sent])
    every = layouts(cfg.sim.room)
    rows: dict[str, dict[str, list[dict[str, float]]]] = {
        condition: {name: [] for name in METHODS} for condition in CONDITIONS
    }
    for seed in range(3):
        for method in ("none", "early", "fcooper", "v2vnet"):
            context.say(f"V2X: {method}, seed {seed}")
            one = dataclasses.replace(cfg, method=method, seed=seed)
            found = scores(one, every, context.folder / f"v2x-{method}-{seed}", 256)
            for condition, scored in rows.items():
                scored[method].append(found[condition])
                if method == "none":
                    scored["late"].append(found[f"late {condition}"])
    return Outcome(
        claims(rows["clean"], rows["noisy"], context.scale),
        tables=[
            table("Shared, true poses", rows["clean"]),
            table("Shared, wrong poses", rows["noisy"]),
            table(f"Shared {DELAY.delay_s:g} s late", rows["delayed"]),
            sent,
        ],
    )


def claims(clean, noisy, scale: str):
    """The verdicts of scores by method and seed."""
    return [
        gaps(LATE, clean["late"], clean["none"], scale),
        gaps(EARLY, clean["early"], clean["late"], scale),
        gaps(MIDDLE, clean["v2vnet"], clean["early"], scale),
        gaps(GRACEFUL, noisy["v2vnet"], noisy["none"], scale),
    ]


def _bandwidth(cfg: V2XConfig) -> Table:
    kind = {"points": cfg.sim.lidar.rays, "boxes": 20}
    rows = tuple(
        (name, f"{bytes_per_agent(name, cfg.model, **kind) / 1e3:,.1f}") for name in METHODS
    )
    caption = f"At most {cfg.sim.lidar.rays:,} points, 20 boxes, features of 16 bits."
    return Table("What an agent sends for one frame", ("method", "kB"), rows, caption)

"""The forecasters at full size, from a bare command line.

`python -m jaxml.driving.prediction.h100 OUT` needs jax, numpy, optax and flax, and JAXML_DATA with
the two track archives. What is finished is written at once; called again with the same OUT, it goes
on with what is missing.
"""

import argparse
import dataclasses
import json
import time
from collections.abc import Callable
from concurrent import futures
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxml.core import config, files, rng, tree
from jaxml.driving.prediction import baselines, evaluate, gan_train, train, vehicles
from jaxml.driving.prediction.config import PRESETS, TrainConfig, VehicleConfig, VehicleTrainConfig
from jaxml.driving.tracks import ethucy, kitti
from jaxml.driving.tracks.ethucy import Fold
from jaxml.report.progress import BEGUN, say


def minutes() -> float:
    """Since the start."""
    return (time.monotonic() - BEGUN) / 60


def candidates(base: TrainConfig) -> dict[str, TrainConfig]:
    """What validation agents choose among; the tested scenes have no say."""
    model = base.model
    return {
        "base": base,
        "likely": dataclasses.replace(
            base, model=dataclasses.replace(model, expected_weight=0.1, temperature_m=0.3)
        ),
        "first": dataclasses.replace(
            base, model=dataclasses.replace(model, first_weight=0.2, temperature_m=0.5)
        ),
        "narrow": dataclasses.replace(
            base, model=dataclasses.replace(model, width=128, num_layers=2)
        ),
    }


def alone(cfg: TrainConfig) -> TrainConfig:
    """The same without attention to others."""
    return dataclasses.replace(cfg, model=dataclasses.replace(cfg.model, num_neighbours=0))


def shorter(cfg: TrainConfig, steps: int) -> TrainConfig:
    """The same with other numbers of steps and checks."""
    checks = min(cfg.num_checks, steps)
    steps -= steps % checks
    warm = min(cfg.optim.warmup_steps, steps // 4)
    optim = dataclasses.replace(cfg.optim, total_steps=steps, warmup_steps=warm)
    return dataclasses.replace(cfg, optim=optim, num_checks=checks)


def social_run(folds: dict[str, Fold], cfg: TrainConfig, seed: int, keep: Path | None) -> dict:
    """Trains five folds, scores validation and test."""
    begun = time.monotonic()
    fitted = train.fit(
        jax.random.key(seed), cfg, {n: f.train for n, f in folds.items()},
        {n: f.validation for n, f in folds.items()}, say,
    )  # fmt: skip
    wall, found = time.monotonic() - begun, {}
    for part in ("validation", "test"):
        rows = {}
        for name, fold in folds.items():
            windows = getattr(fold, part)
            made = train.forecast(cfg.model, *fitted.fold(name), windows)
            rows[name] = evaluate.score(windows, made)
        mean = evaluate.mean(list(rows.values()))
        found[part] = {n: r._asdict() for n, r in {**rows, "mean": mean}.items()}
        if part == "test":
            say(f"seed {seed}: {mean.min_ade:.4f}/{mean.min_fde:.4f} best, "
                f"{mean.ml_ade:.4f}/{mean.ml_fde:.4f} likely, {mean.collision:.4f}")  # fmt: skip
    if keep is not None:
        flat = tree.flatten({"params": fitted.params, "space": fitted.space._asdict()})
        arrays = {n.replace("/", "|"): np.asarray(x) for n, x in flat.items()}
        with files.aside(keep) as part, part.open("wb") as out:
            np.savez(out, **arrays)  # pyright: ignore[reportArgumentType]
    agents = 5 * cfg.batch_size * cfg.optim.total_steps
    return {
        "seed": seed, "config": config.to_dict(cfg), "wall_s": wall, "agents": agents,
        "validation_score": float(fitted.scores.min(0).mean()), **found,
    }  # fmt: skip


def rows_of_lines(folds: dict[str, Fold]) -> dict:
    """The rows that learn nothing, and anchors only."""
    found: dict[str, Any] = {"velocity": {}, "line": {}, "anchors": {}}
    for name, fold in folds.items():
        for row, make in (
            ("velocity", baselines.constant_velocity), ("line", baselines.least_squares)
        ):  # fmt: skip
            wide = baselines.spread(make(fold.train.past, 12), fold.train.future).scale
            found[row][name] = evaluate.single(fold.test, make(fold.test.past, 12), wide)
        space = train.fit_space(jax.random.key(0), PRESETS["laptop"].model, fold.train)
        paths = train.anchors_only(space, fold.test)
        flat = np.full(paths.shape[:2], -np.log(paths.shape[1]), np.float32)
        wide = np.full(paths.shape[:3], 0.3, np.float32)
        found["anchors"][name] = evaluate.score(fold.test, evaluate.Forecast(paths, flat, wide))
    return {
        row: {
            n: r._asdict() for n, r in {**rows, "mean": evaluate.mean(list(rows.values()))}.items()
        }
        for row, rows in found.items()
    }


def vehicle_configs(base: VehicleTrainConfig) -> dict[str, VehicleTrainConfig]:
    """What the drives set aside choose among."""
    model = base.model
    return {
        "base": base,
        "wide": dataclasses.replace(base, model=dataclasses.replace(model, width=64)),
        "free": dataclasses.replace(base, model=dataclasses.replace(model, gain=1.0)),
        "noisy": dataclasses.replace(base, noise_m=0.06),
    }


def vehicle_run(cfg: VehicleTrainConfig, seeds: range) -> dict:
    """Trains once per seed, scores the drives set aside and KITTI's validation drives."""
    parts, _ = kitti.load()
    moving, found = np.flatnonzero(kitti.moving(parts.validation)), []
    for seed in seeds:
        params, chosen = vehicles.fit(jax.random.key(seed), cfg, parts.fit, parts.choice)
        every = vehicles.score(params, cfg.model, parts.validation)
        some = vehicles.score(params, cfg.model, parts.validation, moving)
        found.append({"choice": chosen, "all": every._asdict(), "moving": some._asdict()})
        one = f"{every.single_ade:.3f}/{every.single_fde:.3f}"
        say(f"vehicles, seed {seed}: choice {chosen:.3f}, {one}, {every.nll:.2f} nats")
    return {"config": config.to_dict(cfg), "seeds": found}


def keep(path: Path, make: Callable[[], Any]) -> Any:
    """What `make` gives, from the file if there is one."""
    if path.exists():
        return json.loads(path.read_text())
    found = make()
    files.write_text(path, json.dumps(found, indent=1) + "\n")
    return found


def main() -> None:
    """Runs what is missing in OUT until the time is over."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("out", type=Path)
    add("--preset", choices=list(PRESETS), default="h100")
    add("--steps", type=int, help="of a full training")
    add("--choose-steps", type=int, default=2_000)
    add("--gan-steps", type=int, default=1_500)
    add("--vehicle-steps", type=int, default=2_400)
    add("--seeds", type=int, default=2)
    add("--minutes", type=float, default=7.5, help="no run is begun later than this")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    say(f"{jax.devices()}, jax {jax.__version__}")
    folds, _ = ethucy.load()
    base = PRESETS[args.preset]
    if args.steps:
        base = shorter(base, args.steps)
    keep(args.out / "lines.json", lambda: rows_of_lines(folds))
    _pedestrians(args, folds, base)
    _vehicles(args)
    if minutes() < args.minutes:
        cfg = dataclasses.replace(gan_train.PLAN, num_steps=args.gan_steps)
        keep(args.out / "social-gan.json", lambda: gan_train.study(folds, cfg, say))
    say("done")


def _vehicles(args: argparse.Namespace) -> None:
    start = VehicleTrainConfig(VehicleConfig())
    steps = args.vehicle_steps - args.vehicle_steps % start.num_checks
    warm = min(50, steps // 4)
    optim = dataclasses.replace(start.optim, total_steps=steps, warmup_steps=warm)
    start = dataclasses.replace(start, optim=optim)
    for name, cfg in vehicle_configs(start).items():
        if minutes() < args.minutes:
            path = args.out / f"vehicles-{name}.json"
            keep(path, lambda cfg=cfg: vehicle_run(cfg, range(args.seeds)))


def _pedestrians(args: argparse.Namespace, folds: dict[str, Fold], base: TrainConfig) -> None:
    """Trainings side by side: one's program is compiled while another's runs."""

    def score(cfg: TrainConfig) -> float:
        short = shorter(cfg, min(args.choose_steps, base.optim.total_steps))
        fitted = train.fit(
            rng.fold(jax.random.key(100), "choose"), short,
            {n: f.train for n, f in folds.items()}, {n: f.validation for n, f in folds.items()},
        )  # fmt: skip
        return float(fitted.scores.min(0).mean())

    def choose() -> dict:
        every = candidates(base)
        with futures.ThreadPoolExecutor(len(every)) as pool:
            scores = dict(zip(every, pool.map(score, every.values()), strict=True))
        say(f"on validation: { {n: round(x, 4) for n, x in scores.items()} }")
        return {"scores": scores, "chosen": min(scores, key=lambda n: scores[n])}

    def one(name: str, cfg: TrainConfig, seed: int) -> None:
        place = args.out / "social.npz" if (name, seed) == ("social", 0) else None
        keep(args.out / f"{name}-{seed}.json", lambda: social_run(folds, cfg, seed, place))

    chosen = keep(args.out / "chosen.json", choose)["chosen"]
    best = candidates(base)[chosen]
    pairs = {"social": best, "alone": alone(best)}
    for seed in range(args.seeds):
        if minutes() < args.minutes:
            with futures.ThreadPoolExecutor(len(pairs)) as pool:
                done = [pool.submit(one, name, cfg, seed) for name, cfg in pairs.items()]
                for job in done:
                    job.result()


if __name__ == "__main__":
    main()

"""What of trajectory forecasting is re-measured."""

import dataclasses
from typing import Any

import jax
import numpy as np

from jaxml.core import config, files, tree
from jaxml.driving.prediction import baselines, claims, evaluate, pictures, train, vehicles
from jaxml.driving.prediction.config import PRESETS, TrainConfig, VehicleTrainConfig
from jaxml.driving.prediction.evaluate import Scores
from jaxml.driving.prediction.social import Forecast
from jaxml.driving.prediction.train import Fitted
from jaxml.driving.tracks import ethucy, kitti, toy
from jaxml.driving.tracks.ethucy import Fold
from jaxml.inputs.integrity import DataNotFoundError
from jaxml.inputs.source import Provenance
from jaxml.report.recipe import Context, Outcome
from jaxml.train.optim import OptimConfig


@dataclasses.dataclass(frozen=True)
class PartConfig:
    """One scale."""

    social: TrainConfig
    vehicles: VehicleTrainConfig
    real: bool = True


def _small_vehicles() -> VehicleTrainConfig:
    base = VehicleTrainConfig()
    optim = OptimConfig(lr=1e-3, schedule="constant", total_steps=4)
    return dataclasses.replace(base, optim=optim, num_checks=2, batch_size=16)


SCALES = {
    "tiny": PartConfig(PRESETS["tiny"], _small_vehicles(), real=False),
    "laptop": PartConfig(PRESETS["laptop"], VehicleTrainConfig()),
    "h100": PartConfig(PRESETS["h100"], VehicleTrainConfig()),
}


def recordings(real: bool) -> tuple[dict[str, Fold], Provenance | None, str]:
    """Folds, where they came from, and why they are not the real ones if they are not."""
    try:
        if not real:
            raise DataNotFoundError("this scale checks the code on made tracks")
        return *ethucy.load(), ""
    except DataNotFoundError as error:
        return toy.folds(), None, str(error)


def measure(scale: str, context: Context) -> Outcome:
    """Trains the forecasters, scores them beside the rows that learn nothing."""
    cfg = SCALES[scale]
    folds, about, why = recordings(cfg.real)
    fitted = _fitted(cfg.social, folds, context)
    rows, leak = scores(cfg.social, fitted, folds)
    context.say(f"pedestrians: {rows['model']['mean']}")
    shown, made = _shown(cfg.social, fitted, folds, context)
    decided = claims.missing(why, scale)
    if not why:
        means = {name: scenes["mean"] for name, scenes in rows.items()}
        decided = claims.pedestrians(means, leak, scale) + _vehicles(cfg.vehicles, context)
    found = [(about.name, about.where, about.sha256, about.licence)] if about else []
    pictures.animate(shown, made, context.folder / "pedestrians.gif")
    figures = [
        pictures.ranks(rows),
        pictures.paths(shown, made, "driving-paths", f"A window of {shown.name}"),
    ]
    return Outcome(decided, figures, [pictures.errors(rows)], [], found)


def _fitted(cfg: TrainConfig, folds: dict[str, Fold], context: Context) -> Fitted:
    """Trained folds, or those of an earlier run of the same configuration."""
    size = sum(len(f.train) for f in folds.values())
    path = context.folder / f"social-{config.fingerprint(cfg)}-{context.seed}-{size}.npz"
    names = tuple(folds)
    like = jax.eval_shape(
        lambda key: train.start(key, cfg, len(names), 8, 12).params, jax.random.key(0)
    )
    if path.exists():
        with np.load(path, allow_pickle=False) as kept:
            arrays = {name.replace("|", "/"): kept[name] for name in kept}
        params = {n.removeprefix("params/"): x for n, x in arrays.items() if n.startswith("params")}
        leaves = [params[name] for name in tree.flatten(like)]
        params = jax.tree.unflatten(jax.tree.structure(like), leaves)
        space = train.EigenSpace(*(arrays[f"space/{n}"] for n in train.EigenSpace._fields))
        return Fitted(params, space, arrays["scores"], names)
    fitted = train.fit(
        jax.random.key(context.seed), cfg, {n: f.train for n, f in folds.items()},
        {n: f.validation for n, f in folds.items()}, context.say,
    )  # fmt: skip
    flat = {f"params/{n}": x for n, x in tree.flatten(fitted.params).items()}
    flat |= {f"space/{n}": x for n, x in fitted.space._asdict().items()} | {"scores": fitted.scores}
    arrays = {n.replace("/", "|"): np.asarray(x) for n, x in flat.items()}
    with files.aside(path) as aside, aside.open("wb") as out:
        np.savez(out, **arrays)  # pyright: ignore[reportArgumentType]
    return fitted


def scores(
    cfg: TrainConfig, fitted: Fitted, folds: dict[str, Fold]
) -> tuple[dict[str, dict[str, Scores]], float]:
    """Scores by forecaster and scene ("mean" is the mean over scenes), and the largest leak."""
    rows: dict[str, dict[str, Scores]] = {n: {} for n in pictures.NAMES}
    leak = 0.0
    for name, fold in folds.items():
        test, future = fold.test, fold.train.future
        for row, make in (
            ("velocity", baselines.constant_velocity), ("line", baselines.least_squares)
        ):  # fmt: skip
            wide = baselines.spread(make(fold.train.past, future.shape[1]), future).scale
            rows[row][name] = evaluate.single(test, make(test.past, future.shape[1]), wide)
        params, space = fitted.fold(name)
        paths = train.anchors_only(space, test)
        flat = np.full(paths.shape[:2], -np.log(paths.shape[1]), np.float32)
        wide = np.full(paths.shape[:3], 0.3, np.float32)
        rows["anchors"][name] = evaluate.score(test, Forecast(paths, flat, wide))
        made = train.forecast(cfg.model, params, space, test)
        blind = train.forecast(cfg.model, params, space, test.blind())
        leak = max(leak, float(np.abs(made.paths - blind.paths).max()))
        rows["model"][name] = evaluate.score(test, made)
    for scenes in rows.values():
        scenes["mean"] = evaluate.mean(list(scenes.values()))
    return rows, leak


def _shown(cfg: TrainConfig, fitted: Fitted, folds: dict[str, Fold], context: Context) -> Any:
    """A window of zara1 and its forecast."""
    del context
    test = folds["zara1"].test
    some = test.take(np.flatnonzero(test.group == pictures._densest(test)))
    return some, train.forecast(cfg.model, *fitted.fold("zara1"), some)


def _vehicles(cfg: VehicleTrainConfig, context: Context) -> list[Any]:
    try:
        parts, _ = kitti.load()
    except DataNotFoundError as error:
        names = ("vehicle-ade", "vehicle-fde")
        return [claims.PROMISES[n].missing(str(error), context.scale) for n in names]
    key = jax.random.key(context.seed)
    params, _ = vehicles.fit(key, cfg, parts.fit, parts.choice, say=context.say)
    across = vehicles.motion_alone(
        key, cfg, parts.dense, parts.dense_drive, parts.train, parts.train_drive, kitti.FOLDS
    ).mean(0)
    found = vehicles.score(params, cfg.model, parts.validation)
    told = {}
    for name, span in (("last step", 1), ("mean of four", 4)):
        gap = np.linalg.norm(
            baselines.constant_velocity(parts.validation.past, 15, span) - parts.validation.future,
            axis=-1,
        )
        told[f"{name} ADE"], told[f"{name} FDE"] = float(gap.mean()), float(gap[:, -1].mean())
    context.say(f"vehicles: {found}")
    return claims.vehicles(found, told, (across[0], across[1]), context.scale)

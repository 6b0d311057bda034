"""nuScenes' detection score: mean AP over distances of centres, five errors of what was found."""

from typing import NamedTuple

import numpy as np

DISTANCES = (0.5, 1.0, 2.0, 4.0)
ERRORS = ("trans", "scale", "orient", "vel", "attr")
UNDEFINED = {
    "traffic_cone": ("orient", "vel", "attr"),
    "barrier": ("vel", "attr"),
}
"""Errors that a class does not have."""


class SceneBoxes(NamedTuple):
    """Boxes of many scenes, side by side.

    Attributes:
      scene: which scene, int [n].
      name: class, str [n].
      box: [n, 7].
      velocity: x, y [n, 2]; NaN where unknown.
      attribute: str [n]; "" where unknown.
      score: of detections [n].
    """

    scene: np.ndarray
    name: np.ndarray
    box: np.ndarray
    velocity: np.ndarray
    attribute: np.ndarray
    score: np.ndarray


class _Curve(NamedTuple):
    precision: np.ndarray
    confidence: np.ndarray
    errors: dict[str, np.ndarray]


def nuscenes_nds(truth: SceneBoxes, found: SceneBoxes, classes: tuple[str, ...]) -> dict:
    """mAP, NDS, the five mean errors, and AP by class (mean over the distances).

    Args:
      truth: labels; those out of range or without points are to be left out before.
      found: detections.
      classes: names that count, even those without labels.

    Returns:
      `{"mAP", "NDS", "mATE", "mASE", "mAOE", "mAVE", "mAAE", "AP": {class: value}}`.

    Raises:
      ValueError: unlike lengths of arrays.
    """
    for name, part in (("truth", truth), ("found", found)):
        if len({len(column) for column in part}) != 1:
            raise ValueError(f"{name} must hold arrays of one length.")
    ap, errors = {}, {name: [] for name in ERRORS}
    for name in classes:
        curves = {d: _curve(truth, found, name, d) for d in DISTANCES}
        ap[name] = float(np.mean([_ap(curve) for curve in curves.values()]))
        for error in ERRORS:
            if error not in UNDEFINED.get(name, ()):
                errors[error].append(_error(curves[2.0], error))
    means = {error: float(np.mean(values)) for error, values in errors.items()}
    mean_ap = float(np.mean(list(ap.values())))
    score = (5 * mean_ap + sum(max(0.0, 1 - e) for e in means.values())) / 10
    short = dict(zip(ERRORS, ("mATE", "mASE", "mAOE", "mAVE", "mAAE"), strict=True))
    return {"mAP": mean_ap, "NDS": score, **{short[e]: means[e] for e in ERRORS}, "AP": ap}


def _curve(truth: SceneBoxes, found: SceneBoxes, name: str, distance: float) -> _Curve | None:
    """Greedy matching by distance of centres, best score first; None where nothing matches."""
    gt, dt = np.flatnonzero(truth.name == name), np.flatnonzero(found.name == name)
    if not len(gt):
        return None
    # Equal scores go from the last to the first, as the development kit sorts.
    order = dt[np.lexsort((np.arange(len(dt)), found.score[dt]))[::-1]]
    taken, hit, pairs = np.zeros(len(gt), bool), [], []
    for d in order:
        gap = np.linalg.norm(truth.box[gt, :2] - found.box[d, :2], axis=-1)
        gap[(truth.scene[gt] != found.scene[d]) | taken] = np.inf
        best = int(np.argmin(gap))
        hit.append(bool(gap[best] < distance))
        if hit[-1]:
            taken[best] = True
            pairs.append((gt[best], d))
    if not pairs:
        return None
    tp, fp = np.cumsum(hit).astype(float), np.cumsum(~np.array(hit)).astype(float)
    recall, at = tp / len(gt), np.linspace(0, 1, 101)
    confidence = np.interp(at, recall, found.score[order], right=0)
    a, b = (np.array(column) for column in zip(*pairs, strict=True))
    known = found.score[b]
    errors = {}
    for error, values in _errors(truth, found, a, b, name).items():
        running = _running_mean(values)
        errors[error] = np.interp(confidence[::-1], known[::-1], running[::-1])[::-1]
    return _Curve(np.interp(at, recall, tp / (tp + fp), right=0), confidence, errors)


def _errors(
    truth: SceneBoxes, found: SceneBoxes, a: np.ndarray, b: np.ndarray, name: str
) -> dict[str, np.ndarray]:
    gt, dt = truth.box[a], found.box[b]
    shared = np.prod(np.minimum(gt[:, 3:6], dt[:, 3:6]), -1)
    union = np.prod(gt[:, 3:6], -1) + np.prod(dt[:, 3:6], -1) - shared
    period = np.pi if name == "barrier" else 2 * np.pi
    turn = (gt[:, 6] - dt[:, 6] + period / 2) % period - period / 2
    turn = np.where(turn > np.pi, turn - 2 * np.pi, turn)
    unknown = truth.attribute[a] == ""
    wrong = (truth.attribute[a] != found.attribute[b]).astype(float)
    return {
        "trans": np.linalg.norm(gt[:, :2] - dt[:, :2], axis=-1),
        "scale": 1 - shared / union,
        "orient": np.abs(turn),
        "vel": np.linalg.norm(found.velocity[b] - truth.velocity[a], axis=-1),
        "attr": np.where(unknown, np.nan, wrong),
    }


def _running_mean(values: np.ndarray) -> np.ndarray:
    """Mean of what is known so far; 1 throughout where nothing is, 0 before the first known."""
    known = ~np.isnan(values)
    if not known.any():
        return np.ones(len(values))
    total, count = np.nancumsum(values), np.cumsum(known)
    return np.divide(total, count, out=np.zeros_like(total), where=count != 0)


def _ap(curve: _Curve | None) -> float:
    if curve is None:
        return 0.0
    return float(np.mean(np.maximum(curve.precision[11:] - 0.1, 0)) / 0.9)


def _error(curve: _Curve | None, name: str) -> float:
    if curve is None:
        return 1.0
    reached = np.flatnonzero(curve.confidence)
    last = int(reached[-1]) if len(reached) else 0
    return 1.0 if last < 11 else float(np.mean(curve.errors[name][11 : last + 1]))

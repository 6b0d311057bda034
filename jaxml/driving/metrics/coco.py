"""COCO's average precision of 2D boxes: ten overlaps, 101 recalls, at most 100 boxes an image."""

from typing import NamedTuple

import numpy as np

OVERLAPS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
AREAS = {"all": (0, 1e10), "small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, 1e10)}
MOST = 100


class Boxes2D(NamedTuple):
    """Boxes of many images, side by side.

    Attributes:
      image: which image, int [n].
      label: class, int [n].
      box: x1, y1, x2, y2 in pixels [n, 4].
      score: of detections; not read of labels [n].
      crowd: labels that detections may match without gain or loss, bool [n].
    """

    image: np.ndarray
    label: np.ndarray
    box: np.ndarray
    score: np.ndarray
    crowd: np.ndarray

    @classmethod
    def of(cls, image, label, box, score=None, crowd=None) -> "Boxes2D":
        """Boxes from arrays, checked.

        Raises:
          ValueError: lengths that differ, or a box whose end lies before its start.
        """
        box = np.asarray(box, np.float64).reshape(-1, 4)
        num = len(box)
        score = np.ones(num) if score is None else np.asarray(score, np.float64)
        crowd = np.zeros(num, bool) if crowd is None else np.asarray(crowd, bool)
        sizes = {len(image), len(label), num, len(score), len(crowd)}
        if len(sizes) != 1:
            raise ValueError(f"image, label, box, score must be of one length; got {sizes}.")
        if (box[:, 2:] < box[:, :2]).any():
            raise ValueError("box must be x1, y1, x2, y2 with x2 >= x1 and y2 >= y1.")
        return cls(np.asarray(image, int), np.asarray(label, int), box, score, crowd)

    def where(self, keep: np.ndarray) -> "Boxes2D":
        """Those rows."""
        return Boxes2D(*(column[keep] for column in self))


def iou_2d(a: np.ndarray, b: np.ndarray, crowd: np.ndarray | None = None) -> np.ndarray:
    """Overlap of all pairs [n, m] of x1, y1, x2, y2; over a crowd, the share of `a` inside it."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.prod(np.maximum(high - low, 0), -1)
    area_a, area_b = (np.prod(x[:, 2:] - x[:, :2], -1) for x in (a, b))
    union = area_a[:, None] + area_b[None] - shared
    if crowd is not None:
        union = np.where(crowd[None], area_a[:, None], union)
    return shared / np.maximum(union, 1e-12)


def coco_ap(truth: Boxes2D, found: Boxes2D) -> dict[str, float]:
    """The twelve figures of COCO that boxes have, by their usual names, in [0, 1].

    Args:
      truth: labels.
      found: detections.

    Returns:
      AP, AP50, AP75, APs, APm, APl, AR1, AR10, AR100, ARs, ARm, ARl; -1 where no label counts.
    """
    labels = np.unique(truth.label)
    images = np.unique(np.concatenate([truth.image, found.image]))
    groups = [_pairs(truth, found, label, images) for label in labels]
    out = {}
    for area, suffix in (("all", ""), ("small", "s"), ("medium", "m"), ("large", "l")):
        curves = [_curve(group, AREAS[area], MOST) for group in groups]
        precision = _mean([p for p, _ in curves])
        out["AP" + suffix] = _average(precision)
        out["AR" + (suffix or "100")] = _average(_mean([r for _, r in curves]))
        if area == "all":
            out["AP50"], out["AP75"] = _average(precision[:, 0]), _average(precision[:, 5])
    for most in (1, 10):
        out[f"AR{most}"] = _average(_mean([_curve(g, AREAS["all"], most)[1] for g in groups]))
    return out


def _mean(parts: list[np.ndarray | None]) -> np.ndarray:
    """[classes that count, ...]."""
    kept = [part for part in parts if part is not None]
    return np.stack(kept) if kept else np.zeros((0, len(OVERLAPS), 1))


def _average(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else -1.0


def _pairs(truth: Boxes2D, found: Boxes2D, label: int, images: np.ndarray) -> list[tuple]:
    """For each image: labels, best detections in order, and their overlaps."""
    rows = []
    for image in images:
        gt = truth.where((truth.image == image) & (truth.label == label))
        dt = found.where((found.image == image) & (found.label == label))
        dt = dt.where(np.argsort(-dt.score, kind="stable")[:MOST])
        if len(gt.box) or len(dt.box):
            rows.append((gt, dt, iou_2d(dt.box, gt.box, gt.crowd)))
    return rows


def _area(box: np.ndarray) -> np.ndarray:
    return np.prod(box[:, 2:] - box[:, :2], -1)


def _curve(
    group: list[tuple], area: tuple[float, float], most: int
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Precision [overlaps, recalls] and highest recall [overlaps] of one class."""
    scores, hits, ignored, num = [], [], [], 0
    for gt, dt, iou in group:
        skip = gt.crowd | (_area(gt.box) < area[0]) | (_area(gt.box) > area[1])
        order = np.argsort(skip, kind="stable")
        matched, ignore = _match(iou[:most, order], skip[order], gt.crowd[order])
        outside = (_area(dt.box[:most]) < area[0]) | (_area(dt.box[:most]) > area[1])
        scores.append(dt.score[:most])
        hits.append(matched)
        ignored.append(ignore | (~matched & outside[None]))
        num += int((~skip).sum())
    if num == 0:
        return None, None
    order = np.argsort(-np.concatenate(scores), kind="stable")
    matched = np.concatenate(hits, 1)[:, order]
    counts = ~np.concatenate(ignored, 1)[:, order]
    tp, fp = np.cumsum(matched & counts, 1), np.cumsum(~matched & counts, 1)
    recall = tp / num
    precision = tp / (tp + fp + np.spacing(1))
    precision = np.maximum.accumulate(precision[:, ::-1], 1)[:, ::-1]
    at = np.stack([np.searchsorted(r, RECALLS, side="left") for r in recall])
    padded = np.pad(precision, ((0, 0), (0, 1)))
    best = recall[:, -1] if recall.shape[1] else np.zeros(len(OVERLAPS))
    return np.take_along_axis(padded, at, 1), best


def _match(iou: np.ndarray, skip: np.ndarray, crowd: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Greedy matching; labels that do not count stand last. Both [overlaps, detections]."""
    num_dt, num_gt = iou.shape
    matched = np.zeros((len(OVERLAPS), num_dt), bool)
    ignore = np.zeros((len(OVERLAPS), num_dt), bool)
    for t, threshold in enumerate(OVERLAPS):
        free = np.ones(num_gt, bool)
        for d in range(num_dt):
            able = (iou[d] >= min(threshold, 1 - 1e-10)) & (free | crowd)
            able &= ~skip if (able & ~skip).any() else True
            if not able.any():
                continue
            best = num_gt - 1 - int(np.argmax(np.where(able, iou[d], -1)[::-1]))  # last of equals
            free[best], matched[t, d], ignore[t, d] = False, True, skip[best]
    return matched, ignore

"""KITTI's average precision with its rules for what is ignored, at 40 recalls (R40) or 11 (R11).

A label counts if its class is asked for and it is not too small, hidden or cut off for the
difficulty. Labels of a neighbouring class (vans for cars, sitting persons for pedestrians) and too
hard ones may be matched without gain or loss; so may detections lower than the smallest height. In
the image, detections inside a don't-care region are no mistakes.
"""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import jax
import numpy as np

from jaxml.core import check
from jaxml.driving.geometry import rotated_iou
from jaxml.driving.metrics.coco import iou_2d

LEAST_HEIGHT = {"easy": 40, "moderate": 25, "hard": 25}
MOST_OCCLUDED = {"easy": 0, "moderate": 1, "hard": 2}
MOST_TRUNCATED = {"easy": 0.15, "moderate": 0.3, "hard": 0.5}
NEIGHBOUR = {"car": "van", "pedestrian": "person_sitting"}
OVERLAP = {"car": 0.7, "pedestrian": 0.5, "cyclist": 0.5}
type Difficulty = Literal["easy", "moderate", "hard"]
type View = Literal["image", "bev", "3d"]


class KittiFrameBoxes(NamedTuple):
    """Labels or detections of one frame.

    Attributes:
      name: class as KITTI spells it, "DontCare" included, str [n].
      box2d: left, top, right, bottom [n, 4].
      box: [n, 7], z up; of a don't-care region anything.
      score: [n]; not read of labels.
      occluded: [n]; not read of detections.
      truncated: likewise.
    """

    name: np.ndarray
    box2d: np.ndarray
    box: np.ndarray
    score: np.ndarray
    occluded: np.ndarray
    truncated: np.ndarray


class _Pair(NamedTuple):
    """One frame ready to match: state 0 counts, 1 is ignored, -1 is not there."""

    gt_state: np.ndarray
    dt_state: np.ndarray
    score: np.ndarray
    overlap: np.ndarray
    in_region: np.ndarray


def kitti_ap(
    truth: Sequence[KittiFrameBoxes],
    found: Sequence[KittiFrameBoxes],
    name: str,
    *,
    difficulty: Difficulty = "moderate",
    view: View = "3d",
    iou: float | None = None,
    r40: bool = True,
) -> float:
    """Average precision of one class, in per cent.

    Args:
      truth: labels by frame.
      found: detections of the same frames.
      name: class, in lower case.
      difficulty: which labels count.
      view: overlap in the image, from above, or of volumes.
      iou: overlap needed, above; None: KITTI's for the class.
      r40: mean over 40 recalls; False: over 11, the older figure, which is no R40.

    Raises:
      ValueError: unlike numbers of frames, or an unknown word.
    """
    check.one_of(LEAST_HEIGHT, difficulty=difficulty)
    check.one_of(("image", "bev", "3d"), view=view)
    if len(truth) != len(found):
        raise ValueError(f"frames must agree; got {len(truth)} of labels, {len(found)} found.")
    if iou is None:
        check.one_of(OVERLAP, name=name)
        iou = OVERLAP[name]
    pairs = [_pair(a, b, name, difficulty, view) for a, b in zip(truth, found, strict=True)]
    num = sum(int((pair.gt_state == 0).sum()) for pair in pairs)
    if num == 0:
        return 0.0
    hit = np.concatenate([_scores_of_hits(pair, iou) for pair in pairs])
    precision = np.zeros(41)
    for i, threshold in enumerate(_thresholds(hit, num)):
        tp, fp = np.sum([_count(pair, iou, threshold) for pair in pairs], 0)
        precision[i] = tp / max(tp + fp, 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    used = precision[1:] if r40 else precision[::4]
    return float(100 * used.mean())


def _pair(gt: KittiFrameBoxes, dt: KittiFrameBoxes, name: str, difficulty: Difficulty, view: View):
    gt_name, dt_name = (np.char.lower(x.name.astype(np.str_)) for x in (gt, dt))
    low = LEAST_HEIGHT[difficulty]
    hard = (gt.box2d[:, 3] - gt.box2d[:, 1] <= low) | (gt.occluded > MOST_OCCLUDED[difficulty])
    hard |= gt.truncated > MOST_TRUNCATED[difficulty]
    mine, near = gt_name == name, gt_name == NEIGHBOUR.get(name, "")
    gt_state = np.where(mine & ~hard, 0, np.where(near | mine, 1, -1))
    small = np.abs(dt.box2d[:, 3] - dt.box2d[:, 1]) < low
    dt_state = np.where(small, 1, np.where(dt_name == name, 0, -1))
    region = gt.box2d[gt_name == "dontcare"] if view == "image" else np.zeros((0, 4))
    inside = iou_2d(dt.box2d, region, np.ones(len(region), bool))
    overlap = _OVERLAPS[view](dt, gt)
    return _Pair(gt_state, dt_state, np.asarray(dt.score, float), overlap, inside)


def _image(dt: KittiFrameBoxes, gt: KittiFrameBoxes) -> np.ndarray:
    return iou_2d(np.asarray(dt.box2d, float), np.asarray(gt.box2d, float))


def _rotated(function: Callable) -> Callable:
    def overlap(dt: KittiFrameBoxes, gt: KittiFrameBoxes) -> np.ndarray:
        if not len(dt.box) or not len(gt.box):
            return np.zeros((len(dt.box), len(gt.box)))
        known = np.char.lower(gt.name.astype(np.str_))[:, None] != "dontcare"
        a, b = _padded(dt.box), _padded(np.where(known, gt.box, _NOWHERE))
        return np.asarray(pairs(a, b), np.float64)[: len(dt.box), : len(gt.box)]

    pairs = jax.jit(lambda a, b: function(a[:, None], b[None]))
    return overlap


def _padded(box: np.ndarray) -> np.ndarray:
    """Up to a multiple of 32 rows, so that few shapes are compiled."""
    room = -len(box) % 32
    return np.concatenate([box, np.tile(_NOWHERE, (room, 1))]).astype(np.float32)


_NOWHERE = np.array([1e6, 1e6, 0, 1, 1, 1, 0], np.float32)
_OVERLAPS: dict[str, Callable] = {
    "image": _image,
    "bev": _rotated(rotated_iou.rotated_iou_bev),
    "3d": _rotated(rotated_iou.rotated_iou_3d),
}


def _scores_of_hits(pair: _Pair, iou: float) -> np.ndarray:
    """Every label takes the best-scored detection that overlaps it; scores of those that count."""
    free, scores = pair.dt_state >= 0, []
    for g in np.flatnonzero(pair.gt_state >= 0):
        able = free & (pair.overlap[:, g] > iou)
        if not able.any():
            continue
        best = int(np.argmax(np.where(able, pair.score, -np.inf)))
        free[best] = False
        if pair.gt_state[g] == 0 and pair.dt_state[best] == 0:
            scores.append(pair.score[best])
    return np.array(scores)


def _thresholds(scores: np.ndarray, num: int) -> list[float]:
    """The scores at which recall comes closest to 0, 1/40, ..., 1."""
    ordered, wanted, found = np.sort(scores)[::-1], 0.0, []
    for i, score in enumerate(ordered):
        last = i == len(ordered) - 1
        left, right = (i + 1) / num, (i + 1 if last else i + 2) / num
        if right - wanted < wanted - left and not last:
            continue
        found.append(float(score))
        wanted += 1 / 40
    return found[:41]


def _count(pair: _Pair, iou: float, threshold: float) -> tuple[int, int]:
    """True and false positives among detections of at least this score.

    Here every label takes the detection that overlaps it most, one that counts before others.
    """
    free = (pair.dt_state >= 0) & (pair.score >= threshold)
    used, tp = np.zeros(len(free), bool), 0
    for g in np.flatnonzero(pair.gt_state >= 0):
        able = free & ~used & (pair.overlap[:, g] > iou)
        counts = able & (pair.dt_state == 0)
        if counts.any():
            best = int(np.argmax(np.where(counts, pair.overlap[:, g], -1)))
            tp += int(pair.gt_state[g] == 0)
        elif able.any():
            best = int(np.argmax(able))
        else:
            continue
        used[best] = True
    rest = free & ~used & (pair.dt_state == 0)
    excused = (pair.in_region > iou).any(-1) if pair.in_region.shape[1] else np.zeros_like(rest)
    return tp, int((rest & ~excused).sum())

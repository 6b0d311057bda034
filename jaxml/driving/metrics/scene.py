"""Average precision of rotated boxes over whole scenes: one global order of scores, all recalls."""

import numpy as np

from jaxml.core import check


def average_precision(
    overlap: np.ndarray, score: np.ndarray, found: np.ndarray, truth: np.ndarray, *, iou: float
) -> float:
    """Area under the monotone precision-recall curve, in [0, 1].

    Detections of all scenes are ordered together by score (some V2X evaluations append scene by
    scene instead; figures of the two do not compare). Each takes the free label that it overlaps
    most.

    Args:
      overlap: of detections and labels [scenes, n, m].
      score: [scenes, n].
      found: which detections there are, bool [scenes, n].
      truth: which labels there are, bool [scenes, m].
      iou: overlap needed.

    Returns:
      The area; 0 without any label.

    Raises:
      ValueError: shapes that do not fit.

    >>> one = np.ones((1, 1))
    >>> average_precision(one[None], one, one > 0, one > 0, iou=0.5)
    1.0
    """
    sizes = check.shape("overlap", overlap, ["s", "n", "m"])
    check.shape("score", score, [sizes["s"], sizes["n"]])
    check.shape("found", found, [sizes["s"], sizes["n"]])
    check.shape("truth", truth, [sizes["s"], sizes["m"]])
    num = int(truth.sum())
    if num == 0:
        return 0.0
    scene, row = np.nonzero(found)
    order = np.argsort(-score[scene, row], kind="stable")
    free, hit = truth.copy(), np.zeros(len(order), bool)
    for i, at in enumerate(order):
        s, n = scene[at], row[at]
        gain = np.where(free[s], overlap[s, n], -1.0)
        best = int(np.argmax(gain))
        if gain[best] >= iou:
            hit[i], free[s, best] = True, False
    tp = np.cumsum(hit)
    precision = tp / np.arange(1, len(order) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    return float(precision[hit].sum() / num)

"""Errors of depth maps, as Eigen et al. count them."""

import numpy as np

from jaxml.core import check

NAMES = ("abs_rel", "sq_rel", "rmse", "rmse_log", "d1", "d2", "d3")


def garg_crop(height: int, width: int) -> np.ndarray:
    """The part of a KITTI image that is judged, bool [y, x]."""
    mask = np.zeros((height, width), bool)
    top, bottom = int(0.40810811 * height), int(0.99189189 * height)
    left, right = int(0.03594771 * width), int(0.96405229 * width)
    mask[top:bottom, left:right] = True
    return mask


def depth_metrics(
    truth: np.ndarray,
    predicted: np.ndarray,
    mask: np.ndarray | None = None,
    *,
    median_scaling: bool,
    least_m: float = 1e-3,
    cap_m: float = 80.0,
) -> dict[str, float]:
    """AbsRel, SqRel, RMSE, RMSE of logs, and shares within 1.25, 1.25^2, 1.25^3.

    Args:
      truth: metres, any shape; what is not in (least_m, cap_m) does not count.
      predicted: metres, the same shape.
      mask: further pixels that count, e.g. `garg_crop`.
      median_scaling: multiply the prediction by the ratio of medians. Depth that is only known up
        to a scale needs it; metric depth must not have it. There is no default.
      least_m: nearest depth; predictions are clipped to it.
      cap_m: farthest.

    Returns:
      The seven figures and "scale", the ratio used (1 without scaling).

    Raises:
      ValueError: unlike shapes, or no pixel that counts.
    """
    truth, predicted = np.asarray(truth, np.float64), np.asarray(predicted, np.float64)
    if truth.shape != predicted.shape:
        raise ValueError(f"shapes must agree; got {truth.shape} and {predicted.shape}.")
    check.positive(least_m=least_m, cap_m=cap_m)
    good = (truth > least_m) & (truth < cap_m)
    if mask is not None:
        good &= mask
    if not good.any():
        raise ValueError(f"truth must hold a depth between {least_m} and {cap_m} m; got none.")
    t, p = truth[good], predicted[good]
    scale = float(np.median(t) / np.median(p)) if median_scaling else 1.0
    p = np.clip(p * scale, least_m, cap_m)
    ratio = np.maximum(t / p, p / t)
    values = (
        np.mean(np.abs(t - p) / t),
        np.mean((t - p) ** 2 / t),
        np.sqrt(np.mean((t - p) ** 2)),
        np.sqrt(np.mean((np.log(t) - np.log(p)) ** 2)),
        *(np.mean(ratio < 1.25**k) for k in (1, 2, 3)),
    )
    return {**dict(zip(NAMES, map(float, values), strict=True)), "scale": scale}

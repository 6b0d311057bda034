"""Errors of trajectories: KITTI's drift over segments, absolute and relative pose errors."""

from collections.abc import Sequence

import numpy as np

from jaxml.driving.boxes.box3d import check_pose


def path_length(poses: np.ndarray) -> float:
    """Metres along poses [f, 4, 4]."""
    return float(np.linalg.norm(np.diff(np.asarray(poses)[:, :3, 3], axis=0), axis=-1).sum())


def _checked(truth: np.ndarray, found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    truth, found = np.asarray(truth, np.float64), np.asarray(found, np.float64)
    if truth.shape != found.shape:
        raise ValueError(f"paths must be of one length; got {truth.shape} and {found.shape}.")
    check_pose(truth, "truth")
    check_pose(found, "found")
    return truth, found


def ape(truth: np.ndarray, found: np.ndarray) -> dict[str, float]:
    """Absolute errors of positions, both paths starting at the same pose.

    Returns:
      `{"rmse_m", "max_m"}`.

    Raises:
      ValueError: unlike lengths, or no rigid motions.
    """
    truth, found = _checked(truth, found)
    a, b = (np.linalg.inv(path[0]) @ path for path in (truth, found))
    error = np.linalg.norm(a[:, :3, 3] - b[:, :3, 3], axis=-1)
    return {"rmse_m": float(np.sqrt(np.mean(error**2))), "max_m": float(error.max())}


def _angle(rotation: np.ndarray) -> np.ndarray:
    cosine = (np.trace(rotation, axis1=-2, axis2=-1) - 1) / 2
    return np.arccos(np.clip(cosine, -1, 1))


def rpe(truth: np.ndarray, found: np.ndarray, every: int = 1) -> dict[str, float]:
    """Relative errors between poses `every` frames apart.

    Returns:
      `{"rmse_m", "rmse_deg"}`; errors as in `ape`.
    """
    truth, found = _checked(truth, found)
    a, b = (np.linalg.inv(path[:-every]) @ path[every:] for path in (truth, found))
    error = np.linalg.inv(a) @ b
    moved = np.linalg.norm(error[:, :3, 3], axis=-1)
    return {
        "rmse_m": float(np.sqrt(np.mean(moved**2))),
        "rmse_deg": float(np.degrees(np.sqrt(np.mean(_angle(error[:, :3, :3]) ** 2)))),
    }


def segment_drift(
    truth: np.ndarray, found: np.ndarray, lengths_m: Sequence[float] = tuple(range(100, 900, 100))
) -> dict[str, float]:
    """KITTI's odometry score: errors of all segments of these lengths, per metre.

    Segments start at every tenth frame.

    Returns:
      `{"percent", "deg_per_m", "segments"}`; NaN where the path is too short for any.
    """
    truth, found = _checked(truth, found)
    steps = np.linalg.norm(np.diff(truth[:, :3, 3], axis=0), axis=-1)
    along = np.concatenate([[0.0], np.cumsum(steps)])
    moved, turned = [], []
    for begin in range(0, len(truth), 10):
        for length in lengths_m:
            end = int(np.searchsorted(along, along[begin] + length, side="right"))
            if end >= len(truth):
                continue
            a, b = (np.linalg.inv(path[begin]) @ path[end] for path in (truth, found))
            error = np.linalg.inv(b) @ a
            moved.append(np.linalg.norm(error[:3, 3]) / length)
            turned.append(_angle(error[:3, :3]) / length)
    if not moved:
        return {"percent": float("nan"), "deg_per_m": float("nan"), "segments": 0}
    return {
        "percent": 100 * float(np.mean(moved)),
        "deg_per_m": float(np.degrees(np.mean(turned))),
        "segments": len(moved),
    }

"""Quaternions (w, x, y, z) of nuScenes and Argoverse 2, at the edge only."""

from collections.abc import Mapping

import numpy as np


def matrix_of_quaternion(wxyz: np.ndarray) -> np.ndarray:
    """Rotation matrices [..., 3, 3] of unit quaternions [..., 4].

    Raises:
      ValueError: a quaternion that is not of length 1.
    """
    wxyz = np.asarray(wxyz, np.float64)
    length = np.linalg.norm(wxyz, axis=-1)
    if (np.abs(length - 1) > 1e-3).any():
        raise ValueError(f"quaternions must have length 1; got {float(length.max())}.")
    w, x, y, z = np.moveaxis(wxyz / length[..., None], -1, 0)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w),
        2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w),
        2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return np.stack(rows, -1).reshape(*w.shape, 3, 3)


def heading_of_quaternion(wxyz: np.ndarray) -> np.ndarray:
    """Rotation about z [...] of quaternions [..., 4].

    >>> float(heading_of_quaternion(np.array([np.cos(0.2), 0, 0, np.sin(0.2)])).round(6))
    0.4
    """
    rotation = matrix_of_quaternion(wxyz)
    return np.arctan2(rotation[..., 1, 0], rotation[..., 0, 0])


def from_av2(rows: Mapping[str, np.ndarray]) -> np.ndarray:
    """Boxes [n, 7] in the ego vehicle's frame of the columns of an Argoverse 2 annotation table."""
    centre = [rows[name] for name in ("tx_m", "ty_m", "tz_m")]
    size = [rows[name] for name in ("length_m", "width_m", "height_m")]
    wxyz = np.stack([rows[name] for name in ("qw", "qx", "qy", "qz")], -1)
    return np.stack([*centre, *size, heading_of_quaternion(wxyz)], -1).astype(np.float64)

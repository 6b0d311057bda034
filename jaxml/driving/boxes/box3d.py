"""A set of boxes as one tree of arrays with a mask, so that its shape never depends on a scene."""

from collections.abc import Sequence

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from jaxml.core import check
from jaxml.core.types import Array
from jaxml.driving.geometry import se3
from jaxml.driving.geometry.rotated_iou import rotated_iou_bev


@flax.struct.dataclass
class Box3D:
    """Boxes of a scene; every array may have further leading axes.

    Attributes:
      box: x, y, z of the centre, dx, dy, dz, heading [n, 7].
      label: class, int32 [n].
      score: 1 for labels [n].
      mask: True where there is a box, bool [n].
      frame: the name of the coordinate frame; boxes of unlike frames are not compared.
    """

    box: Array
    label: Array
    score: Array
    mask: Array
    frame: str = flax.struct.field(pytree_node=False, default="lidar")

    def to(self, pose: Array, frame: str) -> "Box3D":
        """The same boxes in another frame; `pose` [4, 4] maps this one into it."""
        return self.replace(box=se3.boxes_to(pose, self.box), frame=frame)  # pyright: ignore[reportAttributeAccessIssue]


def make(
    box: np.ndarray,
    label: np.ndarray | None = None,
    score: np.ndarray | None = None,
    *,
    frame: str = "lidar",
    room: int | None = None,
) -> Box3D:
    """Boxes [n, 7] as a `Box3D` with `room` places (default: n).

    Raises:
      ValueError: not [n, 7], a side that is not positive, a number that is not finite, or more
        boxes than room.

    >>> make(np.array([[0, 0, 0, 4, 2, -1, 0]]))
    Traceback (most recent call last):
    ...
    ValueError: box must have sides > 0; got box[0, 3:6]=[4.0, 2.0, -1.0].
    """
    box = np.asarray(box, np.float32).reshape(-1, 7) if np.size(box) == 0 else np.asarray(box)
    num = check.shape("box", box, ["n", 7])["n"]
    room = num if room is None else room
    if num > room:
        raise ValueError(f"room must hold every box; got room={room}, n={num}.")
    label = np.zeros(num, np.int32) if label is None else np.asarray(label)
    score = np.ones(num, np.float32) if score is None else np.asarray(score)
    check.shape("label", label, [num])
    check.shape("score", score, [num])
    _check_numbers(np.asarray(box, np.float64))
    empty = room - num
    filler = np.tile(np.array([0, 0, 0, 1, 1, 1, 0], np.float32), (empty, 1))
    return Box3D(
        jnp.asarray(np.concatenate([box, filler]), jnp.float32),
        jnp.asarray(np.pad(label, (0, empty)), jnp.int32),
        jnp.asarray(np.pad(score, (0, empty)), jnp.float32),
        jnp.asarray(np.arange(room) < num),
        frame,
    )


def _check_numbers(box: np.ndarray) -> None:
    finite = np.isfinite(box).all(-1)
    if not finite.all():
        row = int(np.argmin(finite))
        raise ValueError(f"box must be finite; got box[{row}]={box[row].tolist()}.")
    good = (box[:, 3:6] > 0).all(-1)
    if not good.all():
        row = int(np.argmin(good))
        raise ValueError(f"box must have sides > 0; got box[{row}, 3:6]={box[row, 3:6].tolist()}.")


def validate(boxes: Box3D) -> None:
    """Checks the boxes that are there, on the host.

    Raises:
      ValueError: a side that is not positive or a number that is not finite.
    """
    mask = np.asarray(boxes.mask)
    _check_numbers(np.asarray(boxes.box, np.float64)[mask])


def check_pose(pose: Array | np.ndarray, name: str = "pose") -> None:
    """Raises ValueError unless [4, 4] matrices are finite rigid motions."""
    matrix = np.asarray(pose, np.float64)
    if matrix.shape[-2:] != (4, 4) or not np.isfinite(matrix).all():
        raise ValueError(
            f"{name} must be finite matrices [..., 4, 4]; got {name}.shape={matrix.shape}"
            f"{'' if np.isfinite(matrix).all() else ', with NaN or infinity'}."
        )
    rotation = matrix[..., :3, :3]
    error = np.abs(rotation @ np.swapaxes(rotation, -1, -2) - np.eye(3)).max()
    if error > 1e-2:
        raise ValueError(f"{name} must hold rotations; got an R R^T off by {error:.3g}.")


def iou_bev(a: Box3D, b: Box3D) -> Array:
    """Overlap of all pairs from above [n, m]; 0 where either is not there.

    Raises:
      ValueError: boxes of unlike frames.
    """
    if a.frame != b.frame:
        raise ValueError(f"boxes must be in one frame; got {a.frame!r} and {b.frame!r}.")
    both = a.mask[..., :, None] & b.mask[..., None, :]
    return jnp.where(both, rotated_iou_bev(a.box[..., :, None, :], b.box[..., None, :, :]), 0.0)


def stack(scenes: Sequence[Box3D]) -> Box3D:
    """Scenes of equal room as one batch.

    Raises:
      ValueError: none, or unlike frames.
    """
    frames = {scene.frame for scene in scenes}
    if len(frames) != 1:
        raise ValueError(f"scenes must share one frame; got {sorted(frames)}.")
    return jax.tree.map(lambda *x: jnp.stack(x), *scenes)

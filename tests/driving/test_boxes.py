"""Boxes and converters: round trips, point counts of real frames, errors."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxml.driving import boxes, data
from jaxml.driving.boxes import kitti
from jaxml.driving.boxes.box3d import check_pose
from jaxml.driving.geometry import planar


def _camera_corners(h, w, length, place, turn):
    """The eight corners as KITTI's own kit puts them, in the camera's frame."""
    c, s = np.cos(turn), np.sin(turn)
    x = np.array([1, 1, -1, -1, 1, 1, -1, -1]) * length / 2
    y = np.array([0, 0, 0, 0, -1, -1, -1, -1]) * h
    z = np.array([1, -1, -1, 1, 1, -1, -1, 1]) * w / 2
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]) @ np.stack([x, y, z]) + place[:, None]


def test_a_kitti_box_has_its_own_corners():
    size, place, turn = np.array([1.5, 1.8, 4.0]), np.array([2.0, 1.6, 15.0]), 0.7
    one = kitti.KittiObjects(
        np.array(["Car"]), *[np.zeros(1)] * 3, np.zeros((1, 4)), size[None], place[None],
        np.array([turn]), np.ones(1),
    )  # fmt: skip
    box = boxes.upright_boxes(one)[0]
    want = _camera_corners(*size, place, turn)
    want = np.stack([want[2], -want[0], -want[1]], -1)  # the upright camera's axes
    local = want - box[:3]
    c, s = np.cos(box[6]), np.sin(box[6])
    local = np.stack(
        [c * local[:, 0] + s * local[:, 1], c * local[:, 1] - s * local[:, 0], local[:, 2]]
    )
    np.testing.assert_allclose(np.abs(local), np.tile(box[3:6, None] / 2, 8), atol=1e-9)


def test_kitti_there_and_back(real_data):
    for frame in data.labelled_frames():
        real = frame.objects.name != "DontCare"
        size, place, turn = boxes.to_kitti(frame.boxes, frame.calibration)
        np.testing.assert_allclose(size, frame.objects.size_hwl[real])
        np.testing.assert_allclose(place, frame.objects.location[real], atol=1e-9)
        gap = (turn - frame.objects.rotation_y[real] + np.pi) % (2 * np.pi) - np.pi
        np.testing.assert_allclose(gap, 0, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "counts"), [("000134", [518, 160, 80, 92]), ("000002", [1350, 67])]
)
def test_points_inside_the_boxes_of_kitti(real_data, name, counts):
    (frame,) = (f for f in data.labelled_frames() if f.name == name)
    real = kitti.KittiObjects(*(c[frame.objects.name != "DontCare"] for c in frame.objects))
    pose = frame.calibration.velo_to_upright
    points = frame.points[:, :3] @ pose[:3, :3].T + pose[:3, 3]
    box = jnp.asarray(boxes.upright_boxes(real), jnp.float32)
    got = boxes.count_points(jnp.asarray(points, jnp.float32), box)
    assert got.tolist()[: len(counts)] == counts


def test_points_inside_the_boxes_of_argoverse(real_data):
    pytest.importorskip("pyarrow")
    for sweep in data.sweeps():
        box = jnp.asarray(sweep.boxes, jnp.float32)
        assert (
            boxes.count_points(jnp.asarray(sweep.points), box).tolist() == sweep.num_inside.tolist()
        )


def test_points_inside_the_boxes_of_nuscenes(real_data):
    """Points are kept to the centimetre, so a few at the faces change sides."""
    frame = data.nuscenes_frame()
    got = boxes.count_points(jnp.asarray(frame.points), jnp.asarray(frame.boxes, jnp.float32))
    assert np.abs(np.asarray(got) - frame.num_points).sum() <= 0.03 * frame.num_points.sum()
    assert len(frame.cameras) == 6


def test_boxes_of_unlike_frames_are_not_compared():
    one = boxes.make(np.array([[0, 0, 0, 4, 2, 1.5, 0.0]]), room=3)
    pose = planar(jnp.float32(1.0), jnp.float32(0.0), jnp.float32(0.0))
    with pytest.raises(ValueError, match="one frame; got 'lidar' and 'world'"):
        boxes.iou_bev(one, one.to(pose, "world"))
    with pytest.raises(ValueError, match="scenes must share one frame"):
        boxes.stack([one, one.to(pose, "world")])
    got = boxes.iou_bev(one, one)
    assert got.shape == (3, 3)
    assert float(got.sum()) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ([0, 0, 0, 4, 0, 1, 0], "sides > 0"),
        ([0, 0, np.nan, 4, 2, 1, 0], "must be finite"),
        ([0, 0, 0, 4, 2, 1], r"box must have shape \[n, 7\]"),
    ],
)
def test_bad_boxes_are_named(box, message):
    with pytest.raises(ValueError, match=message):
        boxes.make(np.array([box], float))


def test_bad_poses_and_texts_are_named():
    with pytest.raises(ValueError, match="NaN"):
        check_pose(np.full((4, 4), np.nan))
    with pytest.raises(ValueError, match="rotations"):
        check_pose(np.diag([2.0, 1, 1, 1]))
    with pytest.raises(ValueError, match="a line P2"):
        boxes.parse_calibration("P0: 1 2 3")
    with pytest.raises(ValueError, match="15 or 16 words"):
        boxes.parse_objects("Car 0 0")
    with pytest.raises(ValueError, match="length 1"):
        boxes.heading_of_quaternion(np.array([2.0, 0, 0, 0]))


def test_points_need_an_intensity():
    from jaxml.driving.data.archive import cloud

    with pytest.raises(ValueError, match="intensity"):
        cloud({"xyz_cm": np.zeros((2, 3), np.int16)})


def test_a_machine_without_the_frames_says_how_to_get_them(no_data):
    with pytest.raises(FileNotFoundError, match="kitti_object"):
        data.labelled_frames()

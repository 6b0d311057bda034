"""Metrics against the development kits: pycocotools here, the others through their answers."""

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest

from jaxml.driving import metrics
from tests.driving import oracle

GOLDEN = json.loads((Path(__file__).parent / "golden/devkits.json").read_text())


def _reference_coco(gt, dt):
    coco = pytest.importorskip("pycocotools.coco")
    from pycocotools.cocoeval import COCOeval

    def rows(part):
        for i, (image, label, x1, y1, x2, y2, score, crowd) in enumerate(part):
            yield {
                "id": i + 1, "image_id": int(image), "category_id": int(label) + 1,
                "bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1),
                "iscrowd": int(crowd), "score": float(score),
            }  # fmt: skip

    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco.COCO()
        truth.dataset = {
            "images": [{"id": i} for i in range(int(gt[:, 0].max()) + 1)],
            "categories": [{"id": c + 1} for c in range(3)],
            "annotations": list(rows(gt)),
        }
        truth.createIndex()
        run = COCOeval(truth, truth.loadRes(list(rows(dt))), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    return run.stats


@pytest.mark.parametrize("seed", range(4))
def test_coco_is_pycocotools(seed):
    gt, dt = oracle.coco_scene(seed)
    want = _reference_coco(gt, dt)
    boxes = [metrics.Boxes2D.of(x[:, 0], x[:, 1], x[:, 2:6], x[:, 6], x[:, 7]) for x in (gt, dt)]
    got = metrics.coco_ap(*boxes)
    names = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
    np.testing.assert_allclose([got[name] for name in names], want, atol=1e-12)


def _kitti_frames():
    truth, found = [], []
    for gt, dt in oracle.kitti_scene(0):
        truth.append(
            metrics.KittiFrameBoxes(
                gt["name"],
                gt["box2d"],
                gt["box"],
                np.ones(len(gt["name"])),
                gt["occluded"],
                gt["truncated"],
            )  # fmt: skip
        )
        zero = np.zeros(len(dt["name"]))
        found.append(
            metrics.KittiFrameBoxes(dt["name"], dt["box2d"], dt["box"], dt["score"], zero, zero)
        )
    return truth, found


def test_kitti_is_the_reference_and_r11_is_not_r40():
    truth, found = _kitti_frames()
    differ = 0
    for case, want in GOLDEN["kitti"].items():
        name, view, level, recalls, least = case.split()
        got = metrics.kitti_ap(
            truth, found, name, difficulty=level, view=view, iou=float(least), r40=recalls == "40"
        )
        assert got == pytest.approx(want, abs=1e-9), case
        other = GOLDEN["kitti"][f"{name} {view} {level} 11 {least}"]
        differ += abs(other - want) > 1
    assert differ > 5


def test_kitti_without_the_rules_would_differ():
    """Leaving out what is to be ignored changes the figure, so the rules are at work."""
    truth, found = _kitti_frames()
    plain = [t._replace(occluded=0 * t.occluded, truncated=0 * t.truncated) for t in truth]
    with_rules = metrics.kitti_ap(truth, found, "car", difficulty="easy", view="bev", iou=0.5)
    without = metrics.kitti_ap(plain, found, "car", difficulty="easy", view="bev", iou=0.5)
    assert abs(with_rules - without) > 0.5


def test_nuscenes_is_the_devkit():
    parts = [metrics.SceneBoxes(**part) for part in oracle.nuscenes_scene(0)]
    got = metrics.nuscenes_nds(*parts, classes=oracle.NUSCENES_NAMES)
    want = GOLDEN["nuscenes"]
    assert got["NDS"] == pytest.approx(want["NDS"], abs=1e-9)
    assert got["mAP"] == pytest.approx(want["mAP"], abs=1e-9)
    assert got["AP"] == pytest.approx(want["AP"], abs=1e-9)
    names = {"trans": "mATE", "scale": "mASE", "orient": "mAOE", "vel": "mAVE", "attr": "mAAE"}
    for error, value in want["errors"].items():
        assert got[names[error]] == pytest.approx(value, abs=1e-9), error


@pytest.mark.parametrize("seed", [0, 1])
def test_tracking_is_trackeval(seed):
    frames = metrics.TrackFrames(*oracle.track_scene(seed))
    got = metrics.hota(frames) | metrics.clear_mot(frames)
    assert got == pytest.approx(GOLDEN["tracks"][seed], abs=1e-9)


def test_perfect_tracks_score_one():
    ids = [np.arange(3)] * 4
    frames = metrics.TrackFrames(ids, ids, [np.eye(3)] * 4)
    assert metrics.hota(frames)["HOTA"] == pytest.approx(1.0)
    assert metrics.clear_mot(frames)["MOTA"] == 1.0
    empty = metrics.TrackFrames([np.arange(2)], [np.zeros(0, int)], [np.zeros((2, 0))])
    assert metrics.hota(empty)["HOTA"] == 0.0


def test_depth_by_hand_and_scaling_is_asked_for():
    truth, found = np.array([10.0, 20.0, 90.0, 0.0]), np.array([11.0, 15.0, 1.0, 1.0])
    got = metrics.depth_metrics(truth, found, median_scaling=False)
    assert got["abs_rel"] == pytest.approx((0.1 + 0.25) / 2)
    assert got["sq_rel"] == pytest.approx((0.1 + 1.25) / 2)
    assert got["rmse"] == pytest.approx(np.sqrt((1 + 25) / 2))
    assert (got["d1"], got["d2"], got["scale"]) == (0.5, 1.0, 1.0)
    half = metrics.depth_metrics(truth, truth / 2, median_scaling=True)
    assert half["scale"] == pytest.approx(2.0)
    assert half["abs_rel"] == pytest.approx(0.0)
    assert metrics.depth_metrics(truth, truth / 2, median_scaling=False)["abs_rel"] == 0.5
    with pytest.raises(TypeError, match="median_scaling"):
        metrics.depth_metrics(truth, found)  # pyright: ignore[reportCallIssue]
    with pytest.raises(ValueError, match="got none"):
        metrics.depth_metrics(np.zeros(2), np.ones(2), median_scaling=False)
    crop = metrics.garg_crop(375, 1242)
    assert (crop.any(1).argmax(), crop.any(0).argmax()) == (153, 44)


def test_scene_precision_orders_all_scenes_together():
    overlap = np.array([[[0.9, 0.0], [0.0, 0.1]], [[0.0, 0.0], [0.8, 0.0]]])
    score = np.array([[0.5, 0.9], [0.7, 0.6]])
    there, truth = np.ones((2, 2), bool), np.array([[True, True], [True, False]])
    got = metrics.average_precision(overlap, score, there, truth, iou=0.7)
    # order: miss (0.9), miss (0.7), hit (0.6), hit (0.5): precision 1/3 then 1/2; three labels
    assert got == pytest.approx((0.5 + 0.5) / 3)
    with pytest.raises(ValueError, match="score must have shape"):
        metrics.average_precision(overlap, score[:1], there, truth, iou=0.7)

"""Fusion: painted points, lifted features, candidates."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxml.core import param
from jaxml.driving import data, fusion, sim

CFG = fusion.PRESETS["tiny"]


def test_points_take_the_colour_of_their_pixel():
    k = jnp.array([[10.0, 0, 4], [0, 10, 3], [0, 0, 1]])
    pose = jnp.array([[0.0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
    scores = jnp.arange(7 * 9 * 2.0).reshape(7, 9, 2)
    points = jnp.array([[10.0, 0, 0, 0.5], [10, -2, 1, 0.1], [-5, 0, 0, 0], [10, 30, 0, 0]])
    got, seen = fusion.paint(points, scores, k, pose)
    assert seen.tolist() == [True, True, False, False]
    np.testing.assert_allclose(got[0], [10, 0, 0, 0.5, *scores[3, 4]])
    np.testing.assert_allclose(got[1, 4:], scores[2, 6])
    np.testing.assert_allclose(got[2:, 4:], 0)


def test_boxes_of_real_frames_hold_the_paint_of_their_pixels(real_data):
    """Points inside a labelled car fall inside its labelled rectangle in the image."""
    (frame,) = (f for f in data.labelled_frames() if f.name == "000134")
    left, top, right, bottom = frame.objects.box2d[0]
    scores = np.zeros((*frame.image.shape[:2], 1), np.float32)
    scores[int(top) - 2 : int(bottom) + 3, int(left) - 2 : int(right) + 3] = 1
    from jaxml.driving import boxes

    inside = boxes.points_in_boxes(jnp.asarray(frame.points), jnp.asarray(frame.boxes[:1]))[0]
    painted, _ = fusion.paint(
        jnp.asarray(frame.points), jnp.asarray(scores),
        jnp.asarray(frame.calibration.projection, jnp.float32),
        jnp.asarray(frame.calibration.velo_to_camera, jnp.float32),
    )  # fmt: skip
    assert float(painted[inside, 4].mean()) > 0.95
    assert float(painted[:, 4].mean()) < 0.3


def test_splatting_is_a_loop():
    rng = np.random.default_rng(0)
    points, values = rng.uniform(-1, 5, (50, 3)), rng.normal(size=(50, 2))
    want = np.zeros((3, 4, 2))
    for p, v in zip(points, values, strict=True):
        x, y = int(np.floor(p[0])), int(np.floor(p[1]))
        if 0 <= x < 4 and 0 <= y < 3:
            want[y, x] += v
    got = fusion.splat(jnp.asarray(points), jnp.asarray(values), jnp.zeros(2), 1.0, (3, 4))
    np.testing.assert_allclose(got, want, atol=1e-5)


def test_a_sure_depth_lands_where_the_pixel_points():
    k = jnp.array([[8.0, 0, 1], [0, 8, 1], [0, 0, 1]])
    back = jnp.linalg.inv(sim.camera.LIDAR_TO_CAMERA)
    depths = jnp.array([2.0, 4.0, 8.0])
    logits = jnp.full((3, 3, 3), -50.0).at[..., 2].set(50.0)
    context = jnp.zeros((3, 3, 1)).at[1, 0, 0].set(7.0)
    got = fusion.lift_splat(logits, context, k, back, depths, jnp.array([0.0, -4]), 1.0, (8, 10))
    assert float(got[5, 8, 0]) == pytest.approx(7.0)  # x = 8, y = 1
    assert float(jnp.abs(got).sum()) == pytest.approx(7.0)


def test_candidates_without_partner_keep_one_entry():
    iou = jnp.array([[0.5, 0.0], [0.0, 0.0]])
    feature, mask = fusion.clocs_features(
        iou, jnp.array([0.9, 0.4]), jnp.array([0.7, 0.6]), jnp.array([41.0, 8.2])
    )
    assert mask.tolist() == [[True, False, False], [False, False, True]]
    np.testing.assert_allclose(feature[0, 0], [0.5, 0.9, 0.7, 0.5])
    np.testing.assert_allclose(feature[1, 2], [-10, 0.4, -10, 0.1], rtol=1e-6)
    p = param.init(jax.random.key(0), fusion.clocs_params())
    got = fusion.clocs_apply(p, feature, mask)
    x = np.asarray(feature)[[0, 1], [0, 2]]
    for i in range(4):
        x = x @ np.asarray(p[f"layer{i}"]["kernel"]) + np.asarray(p[f"layer{i}"]["bias"])
        x = np.maximum(x, 0) if i < 3 else x
    np.testing.assert_allclose(got, x[:, 0], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("sensors", fusion.SENSORS)
def test_every_choice_of_sensors_trains_and_is_judged(sensors, tmp_path):
    from jaxml.driving.fusion import train as training

    cfg = dataclasses.replace(CFG, sensors=sensors)
    layouts = sim.generated(8, 16)
    trained = training.train(cfg, layouts, tmp_path)
    scores = training.evaluate(trained, cfg, layouts, num=4)
    assert 0 <= scores["AP@0.7"] <= scores["AP@0.5"] <= 1


def test_settings_are_checked():
    with pytest.raises(ValueError, match="did you mean 'fused'"):
        fusion.FusionConfig("fuse")
    with pytest.raises(ValueError, match="farthest_m must be above"):
        fusion.LiftConfig(nearest_m=5.0, farthest_m=4.0)

"""Tracking: the filter against a float64 transcription, crossing cars, false alarms."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxml.driving import metrics, tracking
from jaxml.driving.tracking import TrackerConfig

CFG = TrackerConfig()


def _filter(boxes, cfg):
    """A Kalman filter in float64, number by number of the textbook."""
    f, h = np.eye(10), np.eye(7, 10)
    f[:3, 7:] = np.eye(3)
    q = np.diag([0.01 * cfg.process_var] * 7 + [cfg.process_var] * 3)
    x = np.concatenate([boxes[0], np.zeros(3)])
    p = np.diag([10 * cfg.measurement_var] * 7 + [cfg.initial_velocity_var] * 3)
    for z in boxes[1:]:
        x, p = f @ x, f @ p @ f.T + q
        k = p @ h.T @ np.linalg.inv(h @ p @ h.T + cfg.measurement_var * np.eye(7))
        x, p = x + k @ (z - h @ x), (np.eye(10) - k @ h) @ p
    return x


def test_the_filter_is_the_textbooks():
    rng = np.random.default_rng(0)
    boxes = np.array([0, 0, 0, 4, 2, 1.5, 0.2]) + rng.normal(size=(8, 7)) * 0.05
    boxes[:, 0] += 1.3 * np.arange(8)
    belief = tracking.begin(jnp.asarray(boxes[:1], jnp.float32), CFG)
    for z in boxes[1:]:
        belief = tracking.predict(belief, CFG)
        belief = tracking.update(belief, jnp.asarray(z[None], jnp.float32), jnp.ones(1, bool), CFG)
    np.testing.assert_allclose(belief.mean[0], _filter(boxes, CFG), atol=2e-3)
    turned = jnp.asarray(boxes[-1:], jnp.float32).at[:, 6].add(jnp.pi)
    after = tracking.update(belief, turned, jnp.ones(1, bool), CFG)
    assert abs(float(after.mean[0, 6]) - 0.2) < 0.2


def _cars(frames):
    """Two cars that pass each other, with a gap in the first one's detections."""
    rng = np.random.default_rng(1)
    out, truth = [], []
    for t in range(frames):
        a = np.array([-10 + t, 1.6, 0, 4, 1.8, 1.5, 0.0])
        b = np.array([10 - t, -1.6, 0, 4, 1.8, 1.5, np.pi])
        both = np.stack([a, b])
        truth.append(both)
        seen = both + rng.normal(size=both.shape) * 0.03
        out.append(seen[1:] if t == 12 else seen)
    return out, truth


def test_cars_that_pass_keep_their_names():
    found, truth = _cars(22)
    tracks = tracking.track(found, CFG, room=8)
    similarity = [tracking.overlaps(t, b, 8) for t, b in zip(truth, tracks.box, strict=True)]
    ids = [np.arange(2)] * len(truth)
    frames = metrics.TrackFrames(ids, tracks.identity, similarity)
    scores = metrics.clear_mot(frames)
    assert scores["IDSW"] == 0
    assert scores["FN"] == 1
    assert scores["FP"] == 0
    assert metrics.hota(frames)["HOTA"] > 0.8


def test_a_single_false_alarm_is_not_shown():
    found, _ = _cars(12)
    found[8] = np.concatenate([found[8], [[30.0, 30, 0, 4, 2, 1.5, 0]]])
    tracks = tracking.track(found, CFG, room=8)
    assert all(len(ids) == 2 for ids in tracks.identity)
    with pytest.raises(ValueError, match="room must hold all tracks"):
        tracking.track(found, CFG, room=2)
    with pytest.raises(ValueError, match=r"frames\[0\] must have shape"):
        tracking.track([np.zeros((2, 6))], CFG)

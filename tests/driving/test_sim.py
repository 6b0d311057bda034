"""The simulator: rays against a brute march, labels against points, made-up and real layouts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxml.driving import boxes, geometry, sim
from tests.driving import oracle

CFG = sim.PRESETS["tiny"]


def _march(way, box, ground, step=0.01, far=30.0):
    """First place along a ray that lies in a box or below the ground."""
    for t in np.arange(step, far, step):
        p = t * way
        for i, b in enumerate(box):
            d = p - b[:3]
            c, s = np.cos(b[6]), np.sin(b[6])
            local = np.array([c * d[0] + s * d[1], c * d[1] - s * d[0], d[2]])
            if (np.abs(local) <= b[3:6] / 2).all():
                return t, i
        if p[2] < ground:
            return t, -1
    return np.inf, -2


def test_rays_end_where_a_march_ends():
    rng = np.random.default_rng(0)
    box = oracle.boxes(rng, 6, 8.0)
    box = box[np.linalg.norm(box[:, :2], axis=1) > 4]
    ways = rng.normal(size=(16, 3)) * [1, 1, 0.15]
    ways /= np.linalg.norm(ways, axis=1, keepdims=True)
    hits = jax.jit(sim.cast)(
        jnp.zeros(3), jnp.asarray(ways, jnp.float32), jnp.asarray(box, jnp.float32),
        jnp.ones(len(box), bool), jnp.float32(-1.7),
    )  # fmt: skip
    seen = 0
    for i, way in enumerate(ways):
        distance, index = _march(way, box, -1.7)
        if np.isinf(distance):
            assert hits.distance[i] > 29.9
            continue
        np.testing.assert_allclose(hits.distance[i], distance, atol=0.03)
        assert int(hits.box[i]) == index
        seen += index >= 0
    assert seen > 2


@pytest.fixture(scope="module")
def scene():
    every = sim.generated(2, CFG.room)
    cfg = sim.SimConfig(CFG.lidar, CFG.camera, CFG.room, 3, CFG.reach_m, 3)
    arrays = [jnp.asarray(x[0]) for x in (every.boxes, every.label, every.mask)]
    observe = jax.jit(lambda key: sim.observe(key, cfg, *arrays))
    return cfg, observe(jax.random.key(0)), observe


def test_returns_lie_on_the_boxes_they_name(scene):
    cfg, found, _ = scene
    grown = found.truth.box.at[:, 3:6].add(0.2)
    for agent in range(cfg.agents):
        points = geometry.transform(found.pose[agent], found.points[agent])
        inside = boxes.points_in_boxes(points, grown) & found.seen[agent][None]
        assert bool((jnp.sum(inside, -1) >= found.hits[agent]).all())
    assert bool((found.hits.max(0)[found.truth.mask] >= cfg.least_points).all())
    assert int(found.truth.mask.sum()) > 0


def test_the_same_key_senses_the_same_scene(scene):
    _, found, observe = scene
    again, other = observe(jax.random.key(0)), observe(jax.random.key(1))
    np.testing.assert_array_equal(found.points, again.points)
    assert float(jnp.abs(found.points - other.points).max()) > 0.1


def test_the_ego_is_no_label_and_not_seen(scene):
    _, found, _ = scene
    near = jnp.linalg.norm(found.truth.box[:, :2], axis=-1) < 0.5
    assert not bool((near & found.truth.mask).any())
    np.testing.assert_allclose(found.pose[0], np.eye(4), atol=1e-6)


def test_the_camera_sees_what_the_lidar_sees():
    box = jnp.array([[8.0, 0, -1, 4, 2, 1.5, 0.4]])
    args = (box, jnp.ones(1, bool), jnp.zeros(1, jnp.int32), jnp.eye(4), -1.73)
    seen = sim.look(sim.CameraConfig(32, 64), *args)
    ways, along = sim.camera_rays(sim.CameraConfig(32, 64))
    hits = sim.cast(jnp.zeros(3), ways, box, jnp.ones(1, bool), jnp.float32(-1.73))
    want = np.minimum(hits.distance * along, 80.0).reshape(32, 64)
    np.testing.assert_allclose(seen.depth, want, rtol=1e-5)
    assert 0.02 < float((seen.box == 0).mean()) < 0.5
    assert float(seen.colour.min()) >= 0
    assert float(seen.colour.max()) <= 1


def test_sequences_are_not_split():
    train, held = sim.split(sim.generated(60, 16))
    assert not set(train.sequence) & set(held.sequence)
    assert len(train.mask) + len(held.mask) == 60
    assert len(sim.crowded(train, 5).mask) > 0
    with pytest.raises(ValueError, match="none left"):
        sim.crowded(train, 99)
    with pytest.raises(ValueError, match="room"):
        sim.generated(2, 3)


def test_real_layouts_hold_the_labels(real_data):
    every = sim.real(room=24)
    assert len(set(every.sequence.tolist())) == 21
    assert 1000 < len(every.mask) < 2000
    assert every.mask[:, 0].all()
    np.testing.assert_allclose(every.boxes[..., 2], every.boxes[..., 5] / 2, atol=1e-6)
    moved = np.linalg.norm(every.pose[:, :2, 3], axis=-1)
    assert 100 < moved.max() < 2000
    det = np.linalg.det(every.pose[:, :3, :3])
    np.testing.assert_allclose(det, 1, atol=1e-5)
    speed = np.linalg.norm(every.velocity, axis=-1)
    walking = np.median(speed[every.mask & (every.label == 1)])
    assert 1.2 < walking < 1.8  # metres per second, whatever the recording car does
    assert 5 < np.median(speed[:, 0]) < 9 < speed[:, 0].max() < 20


def test_made_up_layouts_stand_in(no_data):
    assert sim.layouts(16).source == "generated"

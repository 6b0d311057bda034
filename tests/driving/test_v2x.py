"""Sharing between vehicles: warps, orders, poses, bytes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxml.core import param
from jaxml.driving import boxes, geometry, sim, v2x

CFG = v2x.PRESETS["tiny"]
MODEL = CFG.model


def _pose(x, y, yaw):
    return geometry.planar(jnp.float32(x), jnp.float32(y), jnp.float32(yaw))


def test_the_identity_warps_to_the_same_and_a_shift_to_a_shift():
    x = jax.random.normal(jax.random.key(0), (*MODEL.map_shape, 2))
    np.testing.assert_allclose(v2x.warp_bev(x, jnp.eye(4), MODEL), x, atol=1e-5)
    moved = v2x.warp_bev(x, _pose(2 * MODEL.cell_m, 0, 0), MODEL)
    np.testing.assert_allclose(moved[:, 2:], x[:, :-2], atol=1e-4)
    np.testing.assert_allclose(moved[:, :2], 0, atol=1e-5)
    turned = v2x.warp_bev(x, _pose(0, 0, np.pi / 2), MODEL)
    np.testing.assert_allclose(turned, jnp.rot90(x, -1), atol=1e-3)
    assert float(v2x.visible(_pose(1e3, 0, 0), MODEL).sum()) == 0


def test_the_maximum_does_not_see_the_order_nor_who_is_not_there():
    x = jax.random.normal(jax.random.key(0), (4, 3, 3, 2))
    there = jnp.array([True, False, True, True])
    want = np.asarray(x)[[0, 2, 3]].max(0)
    np.testing.assert_allclose(v2x.fcooper(x, there), want)
    order = jnp.array([3, 1, 0, 2])
    np.testing.assert_allclose(v2x.fcooper(x[order], there[order]), want)


def test_messages_do_not_see_the_order_of_the_others():
    width = MODEL.bev_width
    p = param.init(jax.random.key(0), v2x.v2vnet_params(width))
    x = jax.random.normal(jax.random.key(1), (3, *MODEL.map_shape, width))
    poses = jnp.stack([jnp.eye(4), _pose(3, 1, 0.3), _pose(-4, 2, 2.0)])
    run = jax.jit(lambda f, q, t: v2x.v2vnet(p, f, q, t, MODEL, 1))
    there = jnp.ones(3, bool)
    order = jnp.array([0, 2, 1])
    got = run(x, poses, there)
    np.testing.assert_allclose(run(x[order], poses[order], there), got, atol=1e-4)
    alone = run(x, poses, jnp.array([True, False, False]))
    other = run(x.at[1:].add(5.0), poses, jnp.array([True, False, False]))
    np.testing.assert_allclose(alone, other, atol=1e-5)
    assert float(jnp.abs(alone - got).max()) > 1e-3


def test_late_boxes_of_one_car_become_one():
    car = np.array([[5.0, 2, 0, 4, 2, 1.5, 0.3]])
    pose = _pose(3.0, -2.0, 1.0)
    theirs = geometry.boxes_to(geometry.inverse(pose), jnp.asarray(car, jnp.float32))
    found = boxes.stack([boxes.make(car, score=[0.5]), boxes.make(np.asarray(theirs), score=[0.9])])
    poses = jnp.stack([jnp.eye(4), pose])
    got = v2x.late(found, poses, jnp.ones(2, bool), 0.2)
    assert got.mask.tolist() == [False, True]
    np.testing.assert_allclose(got.box[1], car[0], atol=1e-4)
    alone = v2x.late(found, poses, jnp.array([True, False]), 0.2)
    assert alone.mask.tolist() == [True, False]


def test_early_points_of_agents_meet_on_the_same_boxes():
    every = sim.generated(1, 16)
    arrays = [jnp.asarray(x[0]) for x in (every.boxes, every.label, every.mask)]
    cfg = dataclasses.replace(CFG.sim, lidar=dataclasses.replace(CFG.sim.lidar, noise_m=0.0))
    scene = sim.observe(jax.random.key(0), cfg, *arrays)
    points, seen = v2x.early(scene.points, scene.seen, scene.pose)
    grown = scene.truth.box.at[:, 3:6].add(0.02)
    inside = (boxes.points_in_boxes(points, grown) & seen[None]).sum(-1)
    assert bool((inside >= scene.hits.sum(0))[scene.truth.mask].all())


def test_noise_leaves_the_ego_alone():
    poses = jnp.stack([jnp.eye(4)] * 3)
    got = v2x.noisy_poses(jax.random.key(0), poses, v2x.NoiseConfig(0.5, 2.0))
    np.testing.assert_array_equal(got[0], np.eye(4))
    assert float(jnp.abs(got[1:, :2, 3]).max()) > 0.1
    same = v2x.noisy_poses(jax.random.key(0), poses, v2x.NoiseConfig())
    np.testing.assert_allclose(same, poses, atol=1e-7)
    with pytest.raises(ValueError, match="position_m must be >= 0"):
        v2x.NoiseConfig(-1.0)


def test_what_others_send_may_be_old():
    """The ego's own cloud is of now; another's moving cars are where they were."""
    every = sim.generated(1, 16)
    arrays = [jnp.asarray(x[0]) for x in (every.boxes, every.label, every.mask)]
    velocity = jnp.asarray(every.velocity[0])
    lidar = dataclasses.replace(CFG.sim.lidar, noise_m=0.0, dropout=0.0)
    cfg = dataclasses.replace(CFG.sim, lidar=lidar)
    key = jax.random.key(0)
    views = sim.viewpoints(key, cfg, *arrays)
    ego, other = (int(i) for i in views.index)
    now = sim.observe(key, cfg, *arrays)
    same = sim.delayed(key, cfg, *arrays, jnp.zeros_like(velocity), 0.3)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), same, now)
    scene = sim.delayed(key, cfg, *arrays, velocity, 0.3)
    np.testing.assert_array_equal(scene.points[0], now.points[0])
    jax.tree.map(np.testing.assert_array_equal, scene.truth, now.truth)
    yaw = float(arrays[0][ego, 6])
    turn = jnp.array([[np.cos(yaw), np.sin(yaw)], [-np.sin(yaw), np.cos(yaw)]])
    shift = -0.3 * velocity @ turn.T  # of every box, along the ego's axes
    assert float(jnp.abs(shift).max()) > 1
    there = np.asarray(scene.pose[1] - now.pose[1])
    np.testing.assert_allclose(there[:2, 3], shift[other], atol=1e-4)
    was = now.truth.box.at[:, :2].add(shift).at[:, 3:6].add(0.02)
    moved = geometry.transform(scene.pose, scene.points)[1]
    on_some = boxes.points_in_boxes(moved, was)[np.asarray(arrays[2])].any(0)
    above = np.asarray(scene.seen[1] & (moved[:, 2] > 0.05 - cfg.lidar.height_m))
    assert above.sum() > 10
    assert np.asarray(on_some)[above].all()
    with pytest.raises(ValueError, match="delay_s must be >= 0"):
        v2x.NoiseConfig(delay_s=-0.1)


def test_bytes_and_methods():
    count = {m: v2x.bytes_per_agent(m, MODEL, points=1000, boxes=5) for m in v2x.METHODS}
    assert count["none"] == 0 < count["late"] < count["early"]
    rows, columns = MODEL.map_shape
    assert count["fcooper"] == count["v2vnet"] == 24 + 2 * rows * columns * MODEL.bev_width
    with pytest.raises(ValueError, match="did you mean 'v2vnet'"):
        v2x.V2XConfig("v2vnt")


@pytest.mark.slow
@pytest.mark.parametrize("method", v2x.METHODS)
def test_every_method_trains_and_is_judged(method, tmp_path):
    from jaxml.driving.v2x import train as training

    cfg = dataclasses.replace(CFG, method=method)
    layouts = sim.generated(8, 16)
    trained = training.train(cfg, layouts, tmp_path)
    noise = v2x.NoiseConfig(0.2, 0.2, 0.1)
    scores = training.evaluate(trained, cfg, layouts, noise, num=4)
    assert 0 <= scores["AP@0.7"] <= scores["AP@0.5"] <= 1

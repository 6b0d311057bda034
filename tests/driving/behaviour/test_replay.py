"""Drives replayed with a planner in the recording car's place."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxml.driving.planning import planners, replay
from jaxml.driving.planning.planners import PlannerConfig
from jaxml.driving.safety import monitor
from jaxml.driving.sim.config import LidarConfig
from jaxml.driving.tracks import kitti

CFG = replay.ReplayConfig(3.0, 3.0, 2, 10.0, lidar=LidarConfig(8, 128))
RADIUS_M, SPEED = 60.0, 8.0


def arc(frames):
    """x, y, heading of a car on a circle."""
    angle = SPEED * 0.1 * np.arange(frames) / RADIUS_M
    place = RADIUS_M * np.stack([np.sin(angle), 1 - np.cos(angle)], -1)
    return np.column_stack([place, angle])


def made(*boxes, frames=70):
    place = arc(frames)
    return kitti.Layout("made", boxes, place, place)


def standing(at_m, across_m=0.0, frames=70):
    """A car that stands so far along the circle."""
    angle = at_m / RADIUS_M
    radius = RADIUS_M - across_m
    x, y = radius * np.sin(angle), RADIUS_M - radius * np.cos(angle)
    return [kitti.Box(f, 7, "Car", x, y, angle, 4.0, 1.8, 1.5) for f in range(frames)]


@pytest.fixture(scope="module")
def driver():
    return planners.keep_lane(PlannerConfig())


@pytest.fixture(scope="module")
def drives(driver):
    """A free way, a car that stands in it, and the same car beside it; one piece each."""
    found = [
        replay.pieces(CFG, {0: made(*boxes)}) for boxes in ((), standing(22.0), standing(22.0, 3.5))
    ]
    one = [p._replace(**{n: x[:1] for n, x in p._asdict().items()}) for p in found]
    every = replay.Pieces(
        *(np.concatenate(x) for x in zip(*(p[:-1] for p in one), strict=True)),
        tuple(p.name[0] for p in one),
    )
    return every, replay.drive(jax.random.key(0), CFG, driver, every)


def test_pieces_hold_the_log():
    found = replay.pieces(CFG, {0: made(*standing(22.0))})
    assert found.name == ("made/0", "made/30")
    np.testing.assert_allclose(found.logged[0, 0, :2], 0.0, atol=1e-9)
    np.testing.assert_allclose(found.logged[..., 3], SPEED, rtol=0.01)
    gap = np.linalg.norm(found.others[0, 0, 0, :2])
    want = 2 * RADIUS_M * np.sin(22.0 / RADIUS_M / 2)
    assert gap == pytest.approx(want, abs=0.6)  # the middle is half a metre behind the LiDAR
    assert not found.mask[:, :, 1].any()


def test_the_route_is_straightened():
    found = replay.pieces(CFG, {0: made()})
    place, curvature = replay.straightened(
        jnp.float32(found.route[0]), jnp.float32(found.logged[0, ::5, :3])
    )
    np.testing.assert_allclose(place[:, 0], SPEED * 0.5 * np.arange(7), atol=0.1)
    np.testing.assert_allclose(place[:, 1:], 0.0, atol=0.02)
    np.testing.assert_allclose(curvature, 1 / RADIUS_M, rtol=0.02)


def test_a_free_way_is_driven_at_the_logged_speed(drives):
    pieces, found = drives
    np.testing.assert_allclose(found.ego[0, -1, 5], SPEED, rtol=0.02)
    off = np.linalg.norm(found.ego[0, :, :2] - pieces.logged[0, :, :2], axis=-1)
    assert off.max() < 0.6


def test_who_stands_in_the_way_is_not_hit_and_who_stands_beside_does_not_stop(drives):
    _, found = drives
    verdict = monitor.judge_all(found.ego, found.others, found.mask, 0.1)
    assert np.asarray(verdict.collided).tolist() == [0.0, 0.0, 0.0]
    assert verdict.progress_m[1] < 18 < 23 < verdict.progress_m[2]
    assert found.seen[1, 0, 0]


def test_nobody_knows_what_the_lidar_does_not_hit(drives, driver):
    pieces, _ = drives
    hidden = dataclasses.replace(CFG, least_points=10_000)
    found = replay.drive(jax.random.key(0), hidden, driver, pieces)
    assert not found.seen.any()
    verdict = monitor.judge_all(found.ego, found.others, found.mask, 0.1)
    assert verdict.collided[1] == 1.0


def test_a_log_without_a_way_is_refused():
    place = np.zeros((70, 3))
    with pytest.raises(ValueError, match="piece of least_m"):
        replay.pieces(CFG, {0: kitti.Layout("still", (), place, place)})

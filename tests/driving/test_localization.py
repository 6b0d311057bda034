"""Registration and odometry: brute force, known motions, the real drive."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxml.driving import data, geometry
from jaxml.driving import localization as loc

CFG = loc.PRESETS["tiny"]


@pytest.fixture(scope="module")
def room():
    """A made-up place: ground, two walls, poles; and its map."""
    rng = np.random.default_rng(0)
    ground = np.concatenate([rng.uniform(-8, 8, (500, 2)), 0.02 * rng.normal(size=(500, 1))], 1)
    wall = np.stack([rng.uniform(-8, 8, 250), np.full(250, 6.0), rng.uniform(0, 3, 250)], 1)
    other = np.stack([np.full(250, 7.0), rng.uniform(-8, 8, 250), rng.uniform(0, 3, 250)], 1)
    points = jnp.asarray(np.concatenate([ground, wall, other]), jnp.float32)
    world = loc.empty_map(CFG.map_room, CFG.buckets, 1.0, 16)
    return points, loc.insert(world, points, jnp.ones(len(points), bool))


def test_the_map_finds_the_nearest_point(room):
    points, world = room
    asked = points[::7] + 0.2 * jax.random.normal(jax.random.key(0), points[::7].shape)
    found, squared = loc.nearest(loc.around(world, asked, 64), asked)
    kept = np.asarray(world.points)[np.asarray(world.mask)]
    every = ((kept[None] - np.asarray(asked)[:, None]) ** 2).sum(-1)
    near = every.min(1) < 0.24  # half a voxel
    assert near.sum() > 100
    np.testing.assert_allclose(squared[near], every.min(1)[near], atol=1e-5)
    np.testing.assert_allclose(found[near], kept[every.argmin(1)][near], atol=1e-5)


def test_thinning_keeps_the_first_point_of_each_voxel():
    points = jnp.array([[0.1, 0.1, 0.1], [0.2, 0.2, 0.2], [1.1, 0, 0], [5, 5, 5], [-0.1, 0, 0]])
    mask = jnp.array([True, True, True, False, True])
    got, there = loc.thin(points, mask, voxel_m=1.0, room=5)
    want = np.asarray(points)[[0, 2, 4]]
    assert sorted(map(tuple, np.asarray(got)[np.asarray(there)])) == sorted(map(tuple, want))


@pytest.mark.parametrize(
    "residual", [pytest.param(loc.point_to_plane, marks=pytest.mark.slow), loc.point_to_point]
)
def test_a_known_motion_is_found(room, residual):
    points, world = room
    twist = jnp.array([0.01, -0.02, 0.03, 0.2, -0.15, 0.05])
    moved = geometry.transform(geometry.inverse(geometry.exp(twist)), points)
    found = loc.align(
        world, moved, jnp.ones(len(moved), bool), jnp.eye(4), limit_m=1.0, kernel_m=0.1,
        residual=residual, max_iterations=60, tolerance=1e-6, cell_room=32,
    )  # fmt: skip
    off = geometry.log(geometry.inverse(geometry.exp(twist)) @ found.pose)
    assert float(jnp.linalg.norm(off[3:])) < 0.01
    assert float(jnp.degrees(jnp.linalg.norm(off[:3]))) < 0.1
    assert float(found.inliers) > 0.95


def test_normals_are_numpys():
    rng = np.random.default_rng(3)
    a = rng.normal(size=(20, 3, 3))
    matrix = a @ np.swapaxes(a, 1, 2)
    from jaxml.driving.localization.icp import smallest_direction

    values, normal = smallest_direction(jnp.asarray(matrix, jnp.float32))
    want, vectors = np.linalg.eigh(matrix)
    np.testing.assert_allclose(values, want, atol=2e-4 * want.max())
    np.testing.assert_allclose(
        np.abs((np.asarray(normal) * vectors[:, :, 0]).sum(-1)), 1, atol=1e-3
    )


@pytest.mark.slow
def test_real_clouds_of_a_car_give_back_an_extra_motion(real_data):
    a, b = data.car_clouds()
    world = loc.empty_map(32_768, 1 << 15, 0.4, 8)
    world = loc.insert(world, jnp.asarray(a), jnp.ones(len(a), bool))
    extra = geometry.exp(jnp.array([0.01, 0.01, -0.03, 0.1, -0.05, 0.04]))

    def register(cloud):
        return loc.align_narrowing(
            world, cloud, jnp.ones(len(cloud), bool), jnp.eye(4), limit_m=0.4,
            residual=loc.point_to_plane, max_iterations=80, tolerance=1e-6, cell_room=48,
        ).pose  # fmt: skip

    source = jnp.asarray(b[::6])
    once = register(source)
    again = register(geometry.transform(geometry.inverse(extra), source))
    off = geometry.log(geometry.inverse(once @ extra) @ again)
    assert float(jnp.linalg.norm(off[3:])) < 0.01
    assert float(jnp.degrees(jnp.linalg.norm(off[:3]))) < 0.1


@pytest.mark.slow
def test_the_real_drive_follows_kiss_icp(real_data):
    drive = data.drive(with_images=False)
    cfg = loc.PRESETS["laptop"]
    poses, _ = loc.run(*loc.pad_clouds(drive.clouds, cfg.cloud_room), cfg, loc.point_to_point)
    off = loc.ape(drive.poses, np.asarray(poses))["max_m"]
    assert off <= 0.02 * loc.path_length(drive.poses)


def test_errors_of_paths_by_hand():
    truth = np.tile(np.eye(4), (301, 1, 1))
    truth[:, 0, 3] = np.arange(301.0)
    found = truth.copy()
    found[:, 0, 3] *= 1.01
    assert loc.segment_drift(truth, found)["percent"] == pytest.approx(1.0, abs=0.02)
    assert loc.ape(truth, found)["max_m"] == pytest.approx(3.0)
    assert loc.rpe(truth, found)["rmse_m"] == pytest.approx(0.01)
    assert np.isnan(loc.segment_drift(truth[:50], found[:50])["percent"])
    with pytest.raises(ValueError, match="one length"):
        loc.ape(truth, found[:5])
    with pytest.raises(ValueError, match="room must hold"):
        loc.pad_clouds([np.zeros((5, 3))], 4)
    with pytest.raises(ValueError, match="power of two"):
        loc.OdometryConfig(buckets=1000)
    world, cloud = loc.empty_map(64, 64, 0.4, 8), jnp.zeros((4, 3))
    with pytest.raises(ValueError, match="kernels_m must fall"):
        loc.align_narrowing(
            world, cloud, jnp.ones(4, bool), jnp.eye(4), limit_m=0.4, kernels_m=(0.1, 0.2)
        )

"""Depth: warps and errors against loops, exact depth explains the frames, a learnt run."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxml.core import rng
from jaxml.driving import depth, geometry, sim
from jaxml.driving.depth import frames
from jaxml.driving.depth import train as training

CFG = depth.PRESETS["tiny"]


@pytest.fixture(scope="module")
def made():
    every = sim.generated(1, 16)
    cfg = sim.SimConfig(camera=sim.CameraConfig(48, 96), room=16)
    batch = {n: x for n, x in sim.scenes_of(every).items()}
    return jax.tree.map(lambda x: x[0], jax.jit(lambda k: frames.sense(k, cfg, batch))(KEY))


KEY = jax.random.key(3)


def test_ssim_is_a_loop():
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 5, 6, 1))
    pad = [np.pad(x[..., 0], 1, mode="reflect") for x in (a, b)]
    want = np.zeros((5, 6))
    for y in range(5):
        for x in range(6):
            p, q = (z[y : y + 3, x : x + 3].ravel() for z in pad)
            cov = (p * q).mean() - p.mean() * q.mean()
            top = (2 * p.mean() * q.mean() + 1e-4) * (2 * cov + 9e-4)
            bottom = (p.mean() ** 2 + q.mean() ** 2 + 1e-4) * (p.var() + q.var() + 9e-4)
            want[y, x] = np.clip((1 - top / bottom) / 2, 0, 1)
    got = depth.ssim(jnp.asarray(a, jnp.float32)[None], jnp.asarray(b, jnp.float32)[None])
    np.testing.assert_allclose(got[0, ..., 0], want, atol=2e-4)
    same = depth.photometric_error(jnp.asarray(a)[None], jnp.asarray(a)[None])
    np.testing.assert_allclose(same, 0, atol=1e-5)


def test_a_warp_without_motion_reads_half_a_pixel_off_at_the_ends():
    """The published normalisation: pixel u is read at u W / (W - 1) - 1/2."""
    image = jnp.tile(jnp.arange(9.0)[None, :, None], (5, 1, 3))
    k = jnp.array([[8.0, 0, 4], [0, 8, 2], [0, 0, 1]])
    got = depth.warp_to_target(image, jnp.full((5, 9), 3.0), jnp.eye(4), k)
    want = np.clip(np.arange(9.0) * 9 / 8 - 0.5, 0, 8)
    np.testing.assert_allclose(got[2, :, 0], want, atol=1e-4)


def test_exact_depth_and_motion_explain_the_next_frame(made):
    """Away from borders and edges, the warped next frame is the present one; others are not."""
    pose = geometry.inverse(_motion())
    warp = jax.jit(depth.warp_to_target)
    exact = warp(made["after"], made["depth"], pose, made["intrinsics"])
    wrong = warp(made["after"], made["depth"] * 1.5, pose, made["intrinsics"])
    area = (slice(26, 46), slice(20, 76))
    errors = [float(jnp.mean(jnp.abs(x - made["image"])[area])) for x in (exact, wrong)]
    still = float(jnp.mean(jnp.abs(made["after"] - made["image"])[area]))
    assert errors[0] < 0.8 * min(errors[1], still)


def _motion():
    key = jax.random.split(rng.fold(KEY, "scene"), 1)[0]
    step = jax.random.uniform(rng.fold(key, "step"), (), minval=0.3, maxval=0.9)
    turn = jax.random.uniform(rng.fold(key, "turn"), (), minval=-0.01, maxval=0.01)
    body = geometry.planar(step, jnp.zeros(()), turn)
    axes = sim.camera.LIDAR_TO_CAMERA
    return axes @ body @ geometry.inverse(axes)


def test_pixels_that_stand_still_are_masked():
    warped = jnp.array([[[[0.1, 0.5]]], [[[0.3, 0.4]]]])
    still = jnp.array([[[[0.2, 0.2]]], [[[0.9, 0.6]]]])
    least, mask = depth.auto_masked(jax.random.key(0), warped, still)
    np.testing.assert_allclose(least[0, 0], [0.1, 0.2], atol=1e-4)
    assert mask[0, 0].tolist() == [True, False]


def test_smoothness_forgives_edges_of_the_image():
    disparity = jnp.ones((1, 4, 6)).at[:, :, 3:].set(2.0)
    flat, edge = jnp.zeros((1, 4, 6, 3)), jnp.zeros((1, 4, 6, 3)).at[:, :, 3:].set(1.0)
    want = (1 / 1.5) / 5
    np.testing.assert_allclose(depth.smoothness(disparity, flat), want, rtol=1e-5)
    np.testing.assert_allclose(depth.smoothness(disparity, edge), want / np.e, rtol=1e-5)


def test_disparities_have_their_sizes_and_depths_their_range():
    p, s = depth.init(jax.random.key(0), CFG), depth.init_state(CFG)
    image = jax.random.uniform(jax.random.key(1), (1, 16, 24, 3))
    found, _ = jax.jit(lambda x: depth.apply(p, CFG, x, s))(image)
    assert [x.shape for x in found] == [(1, 16, 24), (1, 8, 12)]
    ends = depth.disparity_to_depth(jnp.array([0.0, 1.0]), CFG)
    np.testing.assert_allclose(ends, [100.0, 0.1], rtol=1e-5)
    with pytest.raises(ValueError, match="deepest_stride must divide height"):
        depth.apply(p, CFG, jnp.zeros((1, 20, 24, 3)), s)
    with pytest.raises(ValueError, match="most_m must be above"):
        dataclasses.replace(CFG, most_m=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("supervision", ["self", "lidar"])
def test_a_run_learns(supervision, tmp_path):
    layouts = sim.generated(8, 16)
    cfg = training.plan("tiny", supervision, 30, 2, 0)
    cfg = dataclasses.replace(
        cfg,
        optim=dataclasses.replace(cfg.optim, lr=3e-3),
        run=dataclasses.replace(cfg.run, log_every=1),
    )
    done = training.train(cfg, sim.scenes_of(layouts), tmp_path)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    loss = [json.loads(line)["loss"] for line in lines]
    assert np.mean(loss[-5:]) < np.mean(loss[:5])
    scores = training.evaluate(done, cfg, layouts, 2, median_scaling=True)
    assert 0 < scores["abs_rel"] < 2


def test_points_of_the_real_drive_lie_in_its_images(real_data):
    made = frames.real_frames()
    assert made["image"].shape == (78, 96, 320, 3)
    known = made["depth"] > 0
    assert 0.1 < known.mean() < 0.6
    assert known[:, 60:].mean() > 3 * known[:, :20].mean()

"""Motions, overlaps and suppression against polygons, scipy and finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from jaxml.driving import geometry
from tests.driving import oracle

pairwise = jax.jit(lambda f, a, b: f(a[:, None], b[None]), static_argnums=0)


@pytest.fixture(scope="module")
def pair():
    rng = np.random.default_rng(0)
    return oracle.boxes(rng, 60), oracle.boxes(rng, 60)


def test_exp_is_scipys_and_log_undoes_it():
    rng = np.random.default_rng(1)
    twist = jnp.asarray(rng.normal(size=(40, 6)), jnp.float32)
    twist = twist.at[0].set(0.0).at[1].multiply(1e-5)
    pose = jax.jit(geometry.exp)(twist)
    want = Rotation.from_rotvec(np.asarray(twist[:, :3])).as_matrix()
    np.testing.assert_allclose(pose[:, :3, :3], want, atol=2e-6)
    short = twist * (3.0 / jnp.maximum(3.0, jnp.linalg.norm(twist[:, :3], axis=-1)))[:, None]
    np.testing.assert_allclose(geometry.log(geometry.exp(short)), short, atol=2e-4)
    one = jnp.broadcast_to(jnp.eye(4), pose.shape)
    np.testing.assert_allclose(pose @ geometry.inverse(pose), one, atol=2e-6)
    grad = jax.grad(lambda t: jnp.sum(geometry.log(geometry.exp(t))))(jnp.zeros(6))
    np.testing.assert_allclose(grad, jnp.ones(6), atol=1e-5)


def test_exp_is_the_matrix_exponential():
    from scipy.linalg import expm

    twist = np.array([0.3, -0.7, 0.2, 1.0, -2.0, 0.5])
    x, y, z = twist[:3]
    generator = np.zeros((4, 4))
    generator[:3, :3] = [[0, -z, y], [z, 0, -x], [-y, x, 0]]
    generator[:3, 3] = twist[3:]
    np.testing.assert_allclose(geometry.exp(jnp.asarray(twist)), expm(generator), atol=1e-5)


def test_overlap_is_that_of_polygons(pair):
    a, b = (jnp.asarray(x, jnp.float32) for x in pair)
    want = oracle.iou_bev(*pair)
    assert (want > 0.05).sum() > 100
    np.testing.assert_allclose(pairwise(geometry.rotated_iou_bev, a, b), want, atol=1e-5)
    np.testing.assert_allclose(
        pairwise(geometry.rotated_iou_3d, a, b), oracle.iou_3d(*pair), atol=1e-5
    )


@pytest.mark.parametrize("turn", [0.0, 1e-7, 1e-5, np.pi, -2 * np.pi], ids=str)
def test_a_box_fills_itself_also_nearly_aligned(pair, turn):
    a = jnp.asarray(pair[0], jnp.float32)
    np.testing.assert_allclose(geometry.rotated_iou_bev(a, a.at[:, 6].add(turn)), 1.0, atol=2e-5)
    swapped = a[:, jnp.array([0, 1, 2, 4, 3, 5, 6])].at[:, 6].add(jnp.pi / 2)
    np.testing.assert_allclose(geometry.rotated_iou_bev(a, swapped), 1.0, atol=1e-5)


def test_overlap_does_not_see_a_common_motion(pair):
    a, b = (jnp.asarray(x, jnp.float32) for x in pair)
    pose = geometry.planar(jnp.float32(3.0), jnp.float32(-7.0), jnp.float32(2.1))
    moved = [geometry.boxes_to(pose, x) for x in (a, b)]
    np.testing.assert_allclose(
        pairwise(geometry.rotated_iou_bev, *moved),
        pairwise(geometry.rotated_iou_bev, a, b),
        atol=1e-5,
    )


def test_gradient_is_that_of_finite_differences(pair):
    a, b = (np.asarray(x[:12]) for x in pair)
    want = oracle.iou_bev(a, b)
    rows, cols = np.nonzero(want > 0.1)
    assert len(rows) >= 5
    grad = jax.vmap(jax.grad(geometry.rotated_iou_3d))
    got = grad(jnp.asarray(a[rows], jnp.float32), jnp.asarray(b[cols], jnp.float32))
    for k in range(7):
        step = np.zeros(7)
        step[k] = 1e-5
        up, down = (oracle.iou_3d(a[rows] + s * step, b[cols]).diagonal() for s in (1, -1))
        np.testing.assert_allclose(got[:, k], (up - down) / 2e-5, atol=2e-4, err_msg=str(k))


def test_gradients_of_coinciding_boxes_are_finite(pair):
    a = jnp.asarray(pair[0][:8], jnp.float32).at[:, 6].set(0.0)
    grads = jax.vmap(jax.grad(geometry.rotated_iou_bev))(a, a)
    assert bool(jnp.isfinite(grads).all())


@given(st.integers(0, 10_000))
def test_suppression_is_that_of_a_loop(seed):
    rng = np.random.default_rng(seed)
    overlap = rng.random((12, 12))
    overlap = np.maximum(overlap, overlap.T).astype(np.float32)
    score, mask = np.round(rng.random(12), 1), rng.random(12) < 0.8
    kept = []
    for i in sorted(np.flatnonzero(mask), key=lambda i: -score[i]):
        if all(overlap[i, j] <= 0.8 for j in kept):
            kept.append(i)
    got = _suppress(jnp.asarray(overlap), jnp.asarray(score, jnp.float32), jnp.asarray(mask))
    assert np.flatnonzero(got).tolist() == sorted(kept)


_suppress = jax.jit(lambda o, s, m: geometry.suppress(o, s, m, 0.8))


def test_circle_suppression_keeps_the_best_of_a_crowd():
    centres = jnp.array([[0.0, 0], [1, 0], [2.5, 0]])
    got = geometry.circle_nms(centres, jnp.array([0.5, 0.9, 0.4]), 1.2)
    assert got.tolist() == [False, True, True]


def test_projection_and_back():
    k = jnp.array([[500.0, 0, 320], [0, 510, 200], [0, 0, 1]])
    points = jnp.array([[1.0, 2, 10], [-3, 0.5, 4]])
    uv, depth = geometry.project(k, points)
    np.testing.assert_allclose(geometry.unproject(k, uv, depth), points, rtol=1e-5)
    shifted = jnp.concatenate([k, jnp.array([[5.0], [0], [0]])], 1)
    np.testing.assert_allclose(
        geometry.project(shifted, points)[0][0, 0] - uv[0, 0], 0.5, atol=1e-4
    )


def test_reading_between_pixels_is_scipys():
    from scipy.ndimage import map_coordinates

    rng = np.random.default_rng(0)
    image = rng.normal(size=(6, 9, 2)).astype(np.float32)
    uv = rng.uniform(-0.5, 8.5, (50, 2)).astype(np.float32)
    uv[:, 1] *= 5.5 / 8.5
    for outside, mode in (("zeros", "grid-constant"), ("border", "nearest")):
        got = geometry.bilinear(jnp.asarray(image), jnp.asarray(uv), outside)
        for c in range(2):
            want = map_coordinates(image[..., c], uv[:, ::-1].T, order=1, mode=mode)
            np.testing.assert_allclose(got[:, c], want, atol=1e-5)


def test_shapes_are_checked():
    with pytest.raises(ValueError, match=r"boxes must have shape \[..., 7\]"):
        geometry.rotated_iou_bev(jnp.zeros((3, 5)), jnp.zeros((3, 7)))
    with pytest.raises(ValueError, match="scores_n must have shape"):
        geometry.suppress(jnp.zeros((3, 3)), jnp.zeros(2), jnp.ones(3, bool), 0.5)

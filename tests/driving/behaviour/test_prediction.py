"""Forecasters: spaces, equivariance, and that nothing of the future is seen."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxml.driving.prediction import PRESETS, baselines, eigen, evaluate, social, train
from jaxml.driving.prediction.observed import observe, truth
from jaxml.driving.tracks import toy

CFG = PRESETS["tiny"]


@pytest.fixture(scope="module")
def folds():
    return {name: fold for name, fold in toy.folds().items() if name in ("eth", "hotel")}


@pytest.fixture(scope="module")
def fitted(folds):
    return train.fit(
        jax.random.key(0), CFG, {n: f.train for n, f in folds.items()},
        {n: f.validation for n, f in folds.items()},
    )  # fmt: skip


@pytest.fixture(scope="module")
def one(fitted):
    """Parameters that are not at their start, and a space."""
    params, space = fitted.fold("eth")
    noise = jax.random.normal(jax.random.key(5), params["head"]["kernel"].shape)
    head = {**params["head"], "kernel": params["head"]["kernel"] + 0.1 * noise}
    return {**params, "head": head}, space


def test_bases_are_orthonormal_and_agree_with_numpy(folds):
    space = train.fit_space(jax.random.key(1), CFG.model, folds["eth"].train)
    for basis in (*space.past_basis, *space.future_basis):
        np.testing.assert_allclose(basis.T @ basis, np.eye(6), atol=1e-5)


def test_denormalise_undoes_normalise(folds):
    past = jnp.asarray(folds["eth"].train.past[:64], jnp.float32)
    future = jnp.asarray(folds["eth"].train.future[:64], jnp.float32)
    own = eigen.frame(past, 0.3)
    assert 0 < int(own.moves.sum()) < 64
    back = eigen.denormalise(own, eigen.normalise(own, future))
    np.testing.assert_allclose(back, future, atol=1e-4)


def test_the_frame_looks_along_the_last_two_steps(folds):
    past = jnp.asarray(folds["eth"].train.past[:64], jnp.float32)
    own = eigen.frame(past, 0.3)
    seen = eigen.normalise(own, past)
    np.testing.assert_allclose(seen[:, -1], 0.0, atol=1e-6)
    np.testing.assert_allclose(seen[:, -3, 1], 0.0, atol=1e-4)
    moved = np.asarray(own.moves)
    np.testing.assert_allclose(seen[moved, -3, 0], -2.0, rtol=1e-4)


def test_all_coefficients_give_the_path_back(folds):
    windows = folds["eth"].train
    past, future = (x - windows.past[:, -1:] for x in (windows.past, windows.future))
    space = eigen.EigenSpace.fit(
        jax.random.key(0), past, future, num_vectors=16, num_anchors=4, threshold=0.4
    )
    own = eigen.frame(jnp.asarray(past, jnp.float32), space.threshold)
    seen = jnp.asarray(past, jnp.float32)
    back = eigen.decode(space.past_basis, own, eigen.encode(space.past_basis, own, seen)[:, None])
    np.testing.assert_allclose(back[:, 0], seen, atol=1e-4)


def test_an_untrained_network_is_its_anchors(folds):
    windows = folds["eth"].validation
    space = train.fit_space(jax.random.key(0), CFG.model, folds["eth"].train)
    params = social.init(jax.random.key(1), CFG.model)
    found = train.forecast(CFG.model, params, space, windows, block=256)
    np.testing.assert_allclose(found.paths, train.anchors_only(space, windows), atol=1e-4)


def test_a_future_of_nan_changes_nothing(one, folds):
    params, space = one
    windows = folds["eth"].test
    plain, blind = (
        train.forecast(CFG.model, params, space, w, block=256) for w in (windows, windows.blind())
    )
    for a, b in zip(plain, blind, strict=True):
        assert np.isfinite(a).all()
        np.testing.assert_array_equal(a, b)
    for rows in (baselines.constant_velocity, baselines.least_squares):
        np.testing.assert_array_equal(rows(windows.past, 12), rows(windows.blind().past, 12))


def test_the_forecast_turns_and_moves_with_the_world(one, folds):
    params, space = one
    windows = folds["hotel"].test
    angle = 0.7
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    moved = dataclasses.replace(windows, past=windows.past @ turn + [30.0, -8.0])
    here = train.forecast(CFG.model, params, space, windows, block=256)
    there = train.forecast(CFG.model, params, space, moved, block=256)
    np.testing.assert_allclose(there.paths, here.paths @ turn, atol=2e-3)
    np.testing.assert_allclose(there.log_prob, here.log_prob, atol=2e-3)


def test_masked_neighbours_do_not_matter(one, folds):
    params, space = one
    seen = observe(folds["eth"].test, 2)
    hidden = seen._replace(mask=np.zeros_like(seen.mask))
    other = hidden._replace(others=hidden.others * 0 + 7.0)
    a, b = (train.forecast_seen(CFG.model, params, space, x, block=256) for x in (hidden, other))
    np.testing.assert_array_equal(a.paths, b.paths)
    shown = train.forecast_seen(CFG.model, params, space, seen, block=256)
    assert np.abs(shown.paths - a.paths).max() > 1e-4


@pytest.mark.slow
def test_training_helps_and_is_repeatable(fitted, folds):
    assert fitted.scores.shape == (CFG.num_checks, 2)
    again = train.fit(
        jax.random.key(0), CFG, {n: f.train for n, f in folds.items()},
        {n: f.validation for n, f in folds.items()},
    )  # fmt: skip
    np.testing.assert_array_equal(again.scores, fitted.scores)
    space = train.fit_space(jax.random.key(0), CFG.model, folds["eth"].train)
    start = social.init(jax.random.key(1), CFG.model)
    assert fitted.scores[-1, 0] < train.validate(CFG.model, start, space, folds["eth"].validation)


def test_folds_side_by_side_are_folds_alone(fitted, folds):
    alone = train.fit(
        jax.random.key(0), CFG, {"eth": folds["eth"].train}, {"eth": folds["eth"].validation}
    )
    np.testing.assert_allclose(alone.space.threshold[0], fitted.space.threshold[0])
    np.testing.assert_allclose(alone.space.anchors[0], fitted.space.anchors[0], atol=1e-5)


def test_folds_must_be_the_same(folds):
    with pytest.raises(ValueError, match="validation must hold folds"):
        train.fit(jax.random.key(0), CFG, {"eth": folds["eth"].train}, {})


def test_scores_of_a_perfect_forecast(folds):
    windows = folds["eth"].test
    found = evaluate.single(windows, windows.future, np.full(12, 0.1))
    assert max(found.min_ade, found.ml_fde, found.scene_fde, found.miss) < 1e-5
    assert found.nll == pytest.approx(np.log(2 * np.pi * 0.01), abs=1e-4)
    assert truth(windows).shape == (len(windows), 12, 2)


def test_rotated_samples_keep_the_speed(folds):
    past = jnp.asarray(folds["eth"].test.past[:9], jnp.float32)
    paths = baselines.rotated(jax.random.key(0), past, 12, 20, 25.0)
    speed = jnp.linalg.norm(jnp.diff(paths, axis=2), axis=-1)
    want = jnp.linalg.norm(past[:, -1] - past[:, -2], axis=-1)
    np.testing.assert_allclose(speed, jnp.broadcast_to(want[:, None, None], speed.shape), atol=1e-3)

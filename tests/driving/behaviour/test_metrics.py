"""Metrics against loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxml.driving.metrics import trajectory

from . import oracle


@pytest.fixture(scope="module")
def case():
    random = np.random.default_rng(0)
    paths, truth = random.normal(size=(9, 4, 6, 2)), random.normal(size=(9, 6, 2))
    logits = random.normal(size=(9, 4))
    scale = random.uniform(0.3, 1.5, (9, 4, 6))
    prob = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return *(jnp.asarray(x, jnp.float32) for x in (paths, truth, np.log(prob), scale)), prob


def test_best_per_agent(case):
    paths, truth, *_ = case
    found = trajectory.best_per_agent(paths, truth)
    for got, want in zip(found, oracle.min_errors(paths, truth), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5)


def test_the_scene_minimum_is_another_and_never_better(case):
    paths, truth, *_ = case
    group = np.array([0, 0, 0, 1, 1, 1, 1, 2, 2])
    found = trajectory.best_per_scene(paths, truth, jnp.asarray(group), 3)
    np.testing.assert_allclose(found.ade, oracle.scene_errors(paths, truth, group), rtol=1e-5)
    assert jnp.all(found.ade >= trajectory.best_per_agent(paths, truth).ade)


def test_most_likely_is_the_mode_of_highest_probability(case):
    paths, truth, log_prob, *_ = case
    found = trajectory.most_likely(paths, log_prob, truth)
    for i, k in enumerate(np.argmax(log_prob, 1)):
        want = np.linalg.norm(paths[i, k] - truth[i], axis=-1)
        np.testing.assert_allclose((found.ade[i], found.fde[i]), (want.mean(), want[-1]), rtol=1e-5)


def test_the_single_path_expects_the_least_error(case):
    paths, _, log_prob, *_, prob = case
    want = []
    for p, w in zip(np.asarray(paths), prob, strict=True):
        risk = [
            sum(w[r] * np.linalg.norm(p[s] - p[r], axis=-1).mean() for r in range(4))
            for s in range(4)
        ]
        want.append(int(np.argmin(risk)))
    assert trajectory.least_expected(paths, log_prob).tolist() == want


def test_mixture_density(case):
    paths, truth, log_prob, scale, prob = case
    got = trajectory.mixture_nll(paths, log_prob, scale, truth)
    np.testing.assert_allclose(got, oracle.mixture_nll(paths, prob, scale, truth), rtol=1e-4)


def test_argoverse_variant_takes_both_errors_from_one_sample(case):
    paths, truth, *_ = case
    one, free = trajectory.best_same_sample(paths, truth), trajectory.best_per_agent(paths, truth)
    np.testing.assert_allclose(one.fde, free.fde)
    assert jnp.all(one.ade >= free.ade) and jnp.any(one.ade > free.ade)


def test_collisions_between_steps_count():
    random = np.random.default_rng(1)
    paths = np.cumsum(random.normal(0, 0.5, (40, 5, 2)), 1)
    others = np.cumsum(random.normal(0, 0.5, (40, 1, 5, 2)), 2)
    got = trajectory.collides(jnp.asarray(paths), jnp.asarray(others), jnp.ones((40, 1), bool))
    want = [oracle.collide(a, b[0], 0.2) for a, b in zip(paths, others, strict=True)]
    assert 3 < sum(want) < 37
    assert got.astype(bool).tolist() == want


def test_a_missing_partner_hits_nobody():
    path = jnp.zeros((1, 3, 2))
    hit = trajectory.collides(path, path[:, None], jnp.zeros((1, 1), bool))
    assert hit.tolist() == [0.0]


def test_unlike_horizons_are_refused(case):
    paths, truth, *_ = case
    with pytest.raises(ValueError, match="truth must have shape"):
        trajectory.best_per_agent(paths, truth[:, :-1])


def test_miss_rate(case):
    paths, truth, *_ = case
    fde = oracle.min_errors(paths, truth)[1]
    got = jax.jit(lambda p, y: trajectory.miss(p, y, 1.0))(paths, truth)
    assert got.tolist() == (fde > 1.0).astype(float).tolist()

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import linalg

from jaxml.core import linalg as shared
from jaxml.merge import align
from tests.merge import oracle


def _samples(d=6, n=400, seed=0, noise=0.5):
    random = np.random.default_rng(seed)
    x = random.normal(size=(n, d)) @ random.normal(size=(d, d)) + 3
    y = np.maximum(x @ random.normal(size=(d, d)), 0) + noise * random.normal(size=(n, d))
    return x, y


def _covariances(x, y):
    both = np.cov(x.T, y.T, bias=True)
    d = x.shape[1]
    return both[:d, :d], both[d:, d:], both[:d, d:]


@pytest.mark.parametrize("gamma", [1e-6, 0.1, 10.0])
def test_transform_equals_the_transcription(gamma):
    x, y = _samples()
    got = align.cca_align(*_covariances(x, y), gamma, relative=False)
    t, inverse, s = oracle.cca_transform(x, y, gamma)
    np.testing.assert_allclose(got.matrix, t, atol=1e-10)
    np.testing.assert_allclose(got.inverse, inverse, atol=1e-10)
    np.testing.assert_allclose(got.correlations, s, atol=1e-12)


@given(st.integers(2, 9), st.floats(1e-3, 10.0), st.integers(0, 99))
def test_whitened_covariance_is_carried_over(d, gamma, seed):
    sxx, syy, sxy = _covariances(*_samples(d, 60, seed))
    got = align.cca_align(sxx, syy, sxy, gamma, relative=False)
    eye = np.eye(d)
    want = sxx + gamma * eye
    scale = np.abs(want).max() * max(1.0, got.condition)
    carried = got.matrix @ (syy + gamma * eye) @ got.matrix.T
    np.testing.assert_allclose(carried, want, atol=1e-10 * scale)
    np.testing.assert_allclose(got.matrix @ got.inverse, eye, atol=1e-10 * got.condition)


def test_correlations_are_the_classical_ones():
    x, y = _samples(d=7, n=200)
    got = align.cca_align(*_covariances(x, y), 0.0)
    np.testing.assert_allclose(got.correlations, oracle.canonical_correlations(x, y), atol=1e-12)


@pytest.mark.parametrize("gamma", [0.0, 1e-3, 5.0])
def test_a_permutation_is_undone(gamma):
    x, _ = _samples()
    order = np.array([2, 0, 1, 5, 3, 4])  # two cycles of three: not its own inverse
    got = align.cca_align(*_covariances(x, x[:, order]), gamma)
    np.testing.assert_allclose(got.matrix, np.eye(6)[order].T, atol=1e-10)
    np.testing.assert_allclose(x[:, order] @ got.matrix.T, x, atol=1e-9)
    correlation = align.correlation(*_covariances(x, x[:, order]))
    assert (align.permute_align(correlation).matrix == np.eye(6)[order].T).all()


def test_an_invertible_mixture_is_undone_without_regularisation():
    x, _ = _samples()
    mix = np.random.default_rng(3).normal(size=(6, 6))
    got = align.cca_align(*_covariances(x, x @ mix.T), 0.0)
    np.testing.assert_allclose(got.matrix, np.linalg.inv(mix), atol=1e-9)


def test_large_gamma_is_orthogonal_procrustes():
    x, y = _samples()
    got = align.cca_align(*_covariances(x, y), 1e9, relative=False)
    rotation, _ = linalg.orthogonal_procrustes(y - y.mean(0), x - x.mean(0))
    np.testing.assert_allclose(got.matrix, rotation.T, atol=1e-5)
    ours = shared.procrustes((y - y.mean(0)).astype("f4"), (x - x.mean(0)).astype("f4"))
    np.testing.assert_allclose(ours, rotation, atol=1e-4)


@given(st.integers(0, 10_000))
def test_no_other_matrix_with_this_covariance_correlates_more(seed):
    sxx, syy, sxy = _covariances(*_samples(d=4))
    white = oracle.power(sxx, -0.5)

    def value(t):
        return np.trace(white @ sxy @ t.T @ white)

    got = align.cca_align(sxx, syy, sxy, 0.0)
    assert abs(value(got.matrix) - got.correlations.sum()) < 1e-10
    q = linalg.qr(np.random.default_rng(seed).normal(size=(4, 4)))[0]
    other = oracle.power(sxx, 0.5) @ q @ oracle.power(syy, -0.5)
    np.testing.assert_allclose(other @ syy @ other.T, sxx, atol=1e-9)
    assert value(other) <= got.correlations.sum() + 1e-10


def test_relative_gamma_is_in_units_of_each_networks_variance():
    x, y = _samples()
    sxx, syy, sxy = _covariances(x, y)
    one = align.cca_align(sxx, syy, sxy, 0.3)
    scaled = align.cca_align(100 * sxx, 9 * syy, 30 * sxy, 0.3)
    np.testing.assert_allclose(scaled.matrix, one.matrix * 10 / 3, atol=1e-9)


def test_dead_channels_are_matched_with_each_other_and_stay_dead():
    x, _ = _samples()
    x[:, 4] = 0
    order = np.array([3, 4, 0, 5, 1, 2])
    y = x[:, order]
    got = align.cca_align(*_covariances(x, y), 1e-3)
    np.testing.assert_allclose(got.matrix, np.eye(6)[order].T, atol=1e-9)
    assert got.num_dead == 1
    one_sided = align.cca_align(*_covariances(x, _samples(seed=1)[0]), 1e-3)
    assert np.isfinite(one_sided.matrix).all()
    np.testing.assert_allclose(one_sided.matrix @ one_sided.inverse, np.eye(6), atol=1e-8)


def test_more_features_than_samples():
    random = np.random.default_rng(0)
    x = random.normal(size=(5, 12))
    order = np.roll(np.arange(12), 5)
    covariances = _covariances(x, x[:, order])
    with pytest.raises(ValueError, match="gamma must be > 0 where a covariance is singular"):
        align.cca_align(*covariances, 0.0)
    got = align.cca_align(*covariances, 0.1)
    # What the samples say nothing of follows the permutation.
    np.testing.assert_allclose(got.matrix, np.eye(12)[order].T, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: (*a, -1.0), "gamma must be >= 0; got gamma=-1.0"),
        (lambda a: (a[0], a[1][:2, :2], a[2], 0.1), "syy must have shape"),
        (lambda a: (a[0] * np.nan, a[1], a[2], 0.1), "sxx must be finite"),
        (lambda a: (0 * a[0], 0 * a[1], 0 * a[2], 0.1), "features must vary"),
    ],
)
def test_bad_input(change, message):
    with pytest.raises(ValueError, match=message):
        align.cca_align(*change(_covariances(*_samples())))

"""Spec 8(a) and trap 2: projections are judged on rows that they were not fitted to."""

import jax
import numpy as np
import pytest

from jaxml.nfard.contrast import label_contrast, label_distance, output_contrast
from jaxml.nfard.distance import nf_distance
from jaxml.nfard.projection import apply_projection, fit_projection, match_neurons
from tests.nfard import oracle

DRAW = np.random.default_rng(1)
V = DRAW.normal(size=(200, 8))
HALF = 100


def held_out(v, s, **how):
    found = fit_projection(s[:HALF], v[:HALF], **how)
    return nf_distance(v[HALF:], apply_projection(found, s[HALF:])).value


def test_ridge_is_the_stacked_least_squares():
    s = V @ DRAW.normal(size=(8, 5)) + 0.3 * DRAW.normal(size=(200, 5)) + 2
    with jax.enable_x64(True):
        got = fit_projection(s, V, ridge=0.05)
        want, s_mean, v_mean = oracle.ridge(s, V, 0.05)
        np.testing.assert_allclose(got.matrix, want, atol=1e-9)
        moved = apply_projection(got, s)
        np.testing.assert_allclose(moved, (s - s_mean) @ want + v_mean, atol=1e-9)


def test_any_invertible_mix_is_undone_on_held_out_rows():
    mix = DRAW.normal(size=(8, 8)) + 3 * np.eye(8)
    with jax.enable_x64(True):
        assert held_out(V, V @ mix + 1, ridge=0.0) < 1e-12
    assert held_out(V, V @ mix + 1) < 1e-3


def test_procrustes_recovers_rotations_and_permutations():
    rotation = np.linalg.qr(DRAW.normal(size=(8, 8)))[0]
    order = DRAW.permutation(8)
    with jax.enable_x64(True):
        for matrix in (rotation, np.eye(8)[order]):
            found = fit_projection(V[:HALF] @ matrix, V[:HALF], "procrustes")
            np.testing.assert_allclose(found.matrix, matrix.T, atol=1e-9)
            assert held_out(V, V @ matrix, method="procrustes") < 1e-12


def test_procrustes_does_not_see_the_order():
    s = V + DRAW.normal(size=V.shape)
    a, b = (held_out(V, x, method="procrustes") for x in (s, s[:, DRAW.permutation(8)]))
    assert a == pytest.approx(b, abs=1e-5)
    wide = np.concatenate([s, DRAW.normal(size=(200, 4))], 1)
    matrix = np.asarray(fit_projection(wide, V, "procrustes").matrix)
    np.testing.assert_allclose(matrix.T @ matrix, np.eye(8), atol=1e-5)


@pytest.mark.parametrize("method", ["lstsq", "procrustes"])
def test_independent_features_stay_far_on_held_out_rows(method):
    s = DRAW.normal(size=(200, 60))
    assert held_out(V, s, method=method) > 0.8
    found = fit_projection(s[:HALF], V[:HALF], method)
    inside = nf_distance(V[:HALF], apply_projection(found, s[:HALF])).value
    assert inside < 0.6  # scored where it was fitted, the stranger would look like a copy


@pytest.mark.parametrize(
    ("s", "how", "message"),
    [
        (np.ones((5, 5)), {"ridge": 0.0}, "got ridge=0, N=5, d_s=5"),
        (np.ones((5, 2)), {"ridge": -1.0}, "ridge must be >= 0"),
        (np.ones((5, 2)), {"method": "lsq"}, "did you mean 'lstsq'"),
        (np.full((5, 2), np.inf), {}, "s_fit must be finite"),
    ],
)
def test_bad_input(s, how, message):
    with pytest.raises(ValueError, match=message):
        fit_projection(s, np.zeros((5, 3)), **how)


def test_matching_undoes_order_and_scale():
    order, scale = DRAW.permutation(8), DRAW.uniform(0.1, 9, 8)
    shuffled = (V * scale)[:, order]
    found = match_neurons(V, shuffled)
    assert (order[found] == np.arange(8)).all()
    assert nf_distance(V, shuffled).value > 0.5
    assert nf_distance(V, shuffled[:, found]).value < 1e-6
    best, every = -np.inf, []
    small, other = V[:, :4], DRAW.normal(size=(200, 4))
    import itertools

    for p in itertools.permutations(range(4)):
        every.append(1 - oracle.cosine(small, other[:, list(p)]).mean())
        best = max(best, every[-1])
    got = 1 - oracle.cosine(small, other[:, match_neurons(small, other)]).mean()
    assert got == pytest.approx(best)


def test_contrast_is_its_transcription_and_finds_what_is_shared_beyond_the_references():
    common, own = DRAW.normal(size=(200, 6)), DRAW.normal(size=(200, 6))
    noisy = [common + 0.3 * DRAW.normal(size=(200, 6)) for _ in range(3)]
    victim = common + 0.5 * own
    copy = common + 0.5 * own + 0.2 * DRAW.normal(size=(200, 6))
    other = common + 0.5 * DRAW.normal(size=(200, 6))
    near, far = (output_contrast(victim, s, noisy, HALF) for s in (copy, other))
    assert near == pytest.approx(oracle.contrast(victim, copy, noisy, HALF), abs=1e-4)
    assert far == pytest.approx(oracle.contrast(victim, other, noisy, HALF), abs=1e-4)
    assert near < 0.25
    assert far > 0.6
    plain = [nf_distance(victim, s).value for s in (copy, other)]
    assert far - near > 3 * (plain[1] - plain[0])


def test_labels():
    v, s = np.array([0, 1, 2, 2]), np.array([0, 1, 1, 2])
    others = [np.array([0, 1, 1, 1]), np.array([0, 0, 1, 2])]
    assert label_distance(v, s) == 0.25
    # weights 0, 1/2, 1, 1/2; the suspect differs at the third
    assert label_contrast(v, s, others) == pytest.approx(0.5)
    assert label_contrast(v, s, [v, v]) == 0.25

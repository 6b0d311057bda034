"""Spec 8(a): distances, centred log-probabilities, dead neurons, many suspects at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import softmax

from jaxml.nfard import distance, functionality
from jaxml.nfard.distance import METRICS, nf_distance, nf_distances
from jaxml.nfard.functionality import HardLabelsError, clr_logits, nf_matrix
from tests.nfard import oracle

DRAW = np.random.default_rng(0)
V = DRAW.normal(size=(40, 6)) * np.arange(1, 7) + 3
S = V + DRAW.normal(size=V.shape)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_copy_is_at_zero_dead_neurons_or_not(metric, dtype):
    dead = V.copy()
    dead[:, 2], dead[:, 4] = 0.0, 0.3
    for x in (V, dead):
        found = nf_distance(x.astype(dtype), x.astype(dtype), metric)
        assert found.value <= 1e-7
    assert found.n_alive == 4
    assert np.isnan(found.per_neuron[[2, 4]]).all()
    assert (found.per_neuron[[0, 1, 3, 5]] <= 1e-7).all()


def test_against_float64_loops():
    dead = V.copy()
    dead[:, 1] = 7.0
    keep = [0, 2, 3, 4, 5]
    with jax.enable_x64(True):
        for metric, want in {
            "cosine": oracle.cosine(dead, S),
            "euclidean": oracle.euclidean(dead, S),
            "euclidean_z": np.sqrt(2 * oracle.cosine(dead, S)),
        }.items():
            got = nf_distance(dead, S, metric)
            np.testing.assert_allclose(got.per_neuron[keep], want[keep], rtol=0, atol=1e-9)
            assert abs(got.value - want[keep].mean()) < 1e-9
        z = oracle.euclidean(oracle.z_scores(V), oracle.z_scores(S))
        np.testing.assert_allclose(nf_distance(V, S, "euclidean_z").per_neuron, z, atol=1e-9)
        plain = 1 - (V * S).sum(0) / np.linalg.norm(V, axis=0) / np.linalg.norm(S, axis=0)
        got = nf_distance(V, S, center=False).per_neuron
        np.testing.assert_allclose(got, plain, atol=1e-9)


def test_cosine_forgets_scale_and_bias_and_euclidean_does_not():
    scale, bias = np.array([0.1, 5, 2, 1, 30, 0.5]), np.arange(6.0)
    moved = S * scale + bias
    assert abs(nf_distance(V, moved).value - nf_distance(V, S).value) < 1e-6
    z = [nf_distance(V, x, "euclidean_z").value for x in (S, moved)]
    assert abs(z[0] - z[1]) < 1e-6
    assert nf_distance(V, moved, "euclidean").value > 2 * nf_distance(V, S, "euclidean").value


def test_a_constant_neuron_of_the_suspect_is_at_one():
    flat = S.copy()
    flat[:, 3] = -2.5
    assert nf_distance(V, flat).per_neuron[3] == 1
    assert nf_distance(V, flat, "euclidean_z").per_neuron[3] == pytest.approx(2**0.5)


def test_many_at_once_are_one_by_one_and_sharded_alike():
    many = np.stack([S, V, V + 1, -V, S[::-1], 2 * S, S**2, V**3]).astype(np.float32)
    v = V.astype(np.float32)
    for metric in METRICS:
        want = [nf_distance(v, s, metric).value for s in many]
        got = nf_distances(jnp.asarray(v), jnp.asarray(many), metric)
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    place = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    split = nf_distances(jnp.asarray(v), jax.device_put(many, place), "euclidean_z")
    np.testing.assert_allclose(split, got, rtol=1e-6)


@pytest.mark.parametrize(
    ("v", "s", "message"),
    [
        (V, S[:-1], "the same samples; got N=40 for the victim, N=39"),
        (V, S[:, :-1], r"got d=6 and 5 \(use a projection\)"),
        (V, np.where(S > 9, np.nan, S), "s must be finite"),
        (np.ones((9, 3)), np.ones((9, 3)), "all 3 are dead"),
    ],
)
def test_bad_pairs(v, s, message):
    with pytest.raises(ValueError, match=message):
        nf_distance(v, s)
    with pytest.raises(ValueError, match="metric must be one of"):
        nf_distance(V, S, "cosin")  # pyright: ignore


def test_centred_logs_are_centred_logits():
    logits = DRAW.normal(size=(30, 10)) * 3
    probs = softmax(logits, axis=1)
    with jax.enable_x64(True):
        got = np.asarray(clr_logits(probs))
        np.testing.assert_allclose(got, logits - logits.mean(1, keepdims=True), atol=1e-9)
    single = np.asarray(clr_logits(probs.astype(np.float32)))
    np.testing.assert_allclose(single, logits - logits.mean(1, keepdims=True), atol=2e-5)
    some = np.array([[1.0, 0.0, 0.0], [0.25, 0.25, 0.5]])
    assert np.isfinite(clr_logits(some)).all()
    np.testing.assert_allclose(clr_logits(some), oracle.clr(some), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("probs", "message"),
    [
        ([[0.5, 0.6]], "row 0 sums to 1.1"),
        ([[0.5, 0.5], [1.2, -0.2]], "row 1 has -0.2"),
        ([[np.nan, 1.0]], "row 0 is not"),
        ([0.5, 0.5], r"shape \[N, C\]"),
    ],
)
def test_what_are_no_probabilities(probs, message):
    with pytest.raises(ValueError, match=message):
        clr_logits(np.array(probs))


def test_labels_are_refused_as_probabilities():
    with pytest.raises(HardLabelsError, match="only the agreement test, which is weaker"):
        clr_logits(np.eye(4))


def test_feature_maps_become_their_spatial_mean():
    maps = DRAW.normal(size=(3, 4, 5, 2))
    np.testing.assert_allclose(nf_matrix(jnp.asarray(maps)), maps.mean((1, 2)), atol=1e-6)
    with pytest.raises(ValueError, match=r"acts must have shape \[N, d\]"):
        nf_matrix(jnp.ones((2, 3, 4)))


def test_one_compilation_serves_equal_shapes():
    before = distance._both._cache_size()
    for i in range(3):
        nf_distance(V + i, S, "cosine", alive_tol=1e-5 * (i + 1))
    assert distance._both._cache_size() <= before + 1
    assert functionality.is_hard(np.eye(3))

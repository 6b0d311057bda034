import chex
import jax
import numpy as np
import pytest

from jaxml.inputs import synthetic

DRAWS = {
    "copy": lambda key: synthetic.copy_task(key, 4, 6, 9),
    "recall": lambda key: synthetic.associative_recall(key, 4, 3, 2, 12),
    "clusters": lambda key: synthetic.gaussian_clusters(key, 50, 3, 2),
    "moons": lambda key: synthetic.two_moons(key, 50),
    "chain": lambda key: synthetic.markov_chain(key, 5),
}


def compiled(draw, key):
    """The arrays of one draw; compiled whole, which is far faster than op by op."""
    return map(np.asarray, jax.jit(draw)(key))


@pytest.mark.parametrize("name", DRAWS)
def test_the_key_decides(name, key):
    draw = jax.jit(DRAWS[name])
    chex.assert_trees_all_equal(draw(key), draw(key))
    one, other = draw(key), draw(jax.random.key(1))
    assert (np.asarray(one[0]) != np.asarray(other[0])).any()


def test_copying(key):
    inputs, targets, mask = compiled(lambda k: synthetic.copy_task(k, 16, 5, 7), key)
    assert inputs.shape == targets.shape == mask.shape == (16, 10)
    np.testing.assert_array_equal(inputs[:, 1:], targets[:, :-1])
    assert (inputs[:, 5] == 0).all()
    assert set(inputs[:, :5].ravel()) == set(range(1, 7))
    np.testing.assert_array_equal(targets[mask].reshape(16, 5), inputs[:, :5])


def test_recall(key):
    inputs, targets, mask = compiled(lambda k: synthetic.associative_recall(k, 32, 4, 3, 20), key)
    assert inputs.shape == (32, 14)
    for row, want, keep in zip(inputs, targets, mask, strict=True):
        pairs = dict(zip(row[:8:2].tolist(), row[1:8:2].tolist(), strict=True))
        assert len(pairs) == 4
        assert all(name < 10 <= value < 20 for name, value in pairs.items())
        assert np.flatnonzero(keep).tolist() == [8, 10, 12]
        assert [pairs[name] for name in row[keep].tolist()] == want[keep].tolist()


def test_clusters_lie_about_their_centres(key):
    points, labels = compiled(lambda k: synthetic.gaussian_clusters(k, 6000, 3, 4, spread=0.5), key)
    assert (np.bincount(labels, minlength=3) > 1800).all()
    for label in range(3):
        inside = points[labels == label].astype(np.float64)
        np.testing.assert_allclose(inside.std(0), 0.5, atol=0.05)


def test_moons_without_noise_are_half_circles(key):
    points, labels = compiled(lambda k: synthetic.two_moons(k, 500, noise=0.0), key)
    upper, lower = points[labels == 0], points[labels == 1]
    assert min(len(upper), len(lower)) > 200
    np.testing.assert_allclose(np.hypot(*upper.T), 1.0, atol=1e-6)
    np.testing.assert_allclose(np.hypot(*(lower - [1.0, 0.5]).T), 1.0, atol=1e-6)
    assert (upper[:, 1] >= -1e-6).all() and (lower[:, 1] <= 0.5 + 1e-6).all()


@pytest.mark.parametrize("sharpness", [0.0, 1.0, 3.0])
def test_stationary_distribution_and_entropy(key, sharpness):
    chain = jax.jit(lambda k: synthetic.markov_chain(k, 6, sharpness))(key)
    rows = np.asarray(chain.transition, np.float64)
    np.testing.assert_allclose(rows.sum(1), 1.0, atol=1e-6)
    values, vectors = np.linalg.eig(rows.T)
    vector = np.real(vectors[:, np.argmin(np.abs(values - 1))])
    want = vector / vector.sum()
    np.testing.assert_allclose(np.asarray(chain.stationary), want, atol=1e-4)
    entropy = -(want[:, None] * rows * np.log(rows)).sum()
    np.testing.assert_allclose(float(chain.entropy), entropy, rtol=1e-3)


def test_the_stream_follows_the_chain(key):
    chain = synthetic.markov_chain(key, 4)
    stream = jax.jit(lambda k: synthetic.markov_stream(k, chain, 64, 2000))
    tokens = np.asarray(stream(jax.random.key(1)))
    assert tokens.shape == (64, 2000) and tokens.dtype == np.int32
    counts = np.zeros((4, 4))
    np.add.at(counts, (tokens[:, :-1].ravel(), tokens[:, 1:].ravel()), 1)
    np.testing.assert_allclose(counts.sum(1) / counts.sum(), chain.stationary, atol=0.02)
    np.testing.assert_allclose(counts / counts.sum(1, keepdims=True), chain.transition, atol=0.02)
    loss = -np.log(np.asarray(chain.transition))[tokens[:, :-1], tokens[:, 1:]].mean()
    np.testing.assert_allclose(loss, float(chain.entropy), rtol=0.02)


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda k: synthetic.copy_task(k, 0, 3, 5), "batch_size must be > 0"),
        (lambda k: synthetic.copy_task(k, 1, 3, 1), "vocab_size must be >= 2"),
        (lambda k: synthetic.associative_recall(k, 1, 5, 1, 8), r"num_pairs must lie in \[1, 4\]"),
        (lambda k: synthetic.gaussian_clusters(k, 3, 2, 2, spread=0.0), "spread must be > 0"),
        (lambda k: synthetic.two_moons(k, 3, noise=-1.0), "noise must be >= 0"),
        (lambda k: synthetic.markov_chain(k, 1), "vocab_size must be >= 2"),
        (lambda k: synthetic.markov_chain(k, 2, -1.0), "sharpness must be >= 0"),
    ],
)
def test_bad_arguments(draw, message, key):
    with pytest.raises(ValueError, match=message):
        draw(key)

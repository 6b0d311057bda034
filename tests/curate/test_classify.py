import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxml.curate import classify
from jaxml.curate.classify import ClassifierConfig

SMALL = ClassifierConfig(num_buckets=512, width=4, num_features=16, num_epochs=8, batch_size=8)


def drawn(seed, num=80):
    rng = np.random.default_rng(seed)
    sea, land = ["wave", "salt", "boat", "tide"], ["tree", "hill", "road", "barn"]
    shared = ["the", "a", "is", "of"]
    texts = [" ".join(rng.choice([*shared, *(land if i % 2 else sea)], 12)) for i in range(num)]
    return texts, np.arange(num) % 2


def test_the_written_gradient_is_the_gradient(key):
    texts, labels = drawn(0, 6)
    rows = jnp.asarray(classify.features([*texts, ""], SMALL))
    labels = jnp.asarray([*labels, 1])
    params = jax.jit(lambda k: classify.init(k, SMALL, 3))(key)
    params["kernel"] = jax.random.normal(key, params["kernel"].shape)
    weight = jnp.array([1.0, 1, 1, 0, 1, 1, 1])

    def loss(p):
        each = optax.softmax_cross_entropy_with_integer_labels(classify.logits(p, rows), labels)
        return jnp.sum(each * weight) / weight.sum()

    want = jax.tree.map(lambda p, g: p - 0.3 * g, params, jax.jit(jax.grad(loss))(params))
    got = jax.jit(classify.update)(params, rows, labels, weight, jnp.float32(0.3))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), got, want)


def test_it_learns_and_is_stored(key, tmp_path):
    model = classify.fit(*drawn(0), key, SMALL)
    texts, labels = drawn(1)
    p = classify.score(model, texts, batch_size=32)
    assert p.shape == (80, 2)
    np.testing.assert_allclose(p.sum(1), 1, rtol=1e-5)
    assert np.mean(p.argmax(1) == labels) > 0.95
    classify.save(model, tmp_path / "m.npz")
    again = classify.load(tmp_path / "m.npz")
    np.testing.assert_array_equal(classify.score(again, texts, batch_size=32), p)
    np.savez(tmp_path / "other.npz", a=np.ones(2))
    with pytest.raises(ValueError, match="not a saved classifier"):
        classify.load(tmp_path / "other.npz")


def test_features_are_words_and_pairs():
    rows = classify.features(["a b", "b", "", "b a"], SMALL)
    sizes = (rows >= 0).sum(1)
    assert sizes.tolist() == [3, 2, 0, 3]
    assert set(rows[0, :2]) == set(rows[3, :2])
    assert rows[0, 2] != rows[3, 2]  # pairs have an order
    long = classify.features([" ".join(map(chr, range(97, 123)))], SMALL)
    assert (long >= 0).all()


def test_pareto_keeps_most_of_the_good(key):
    keep = classify.pareto_keep(key, np.repeat([0.99, 0.1], 2000))
    # P(Pareto(9) > 1 - p) = (2 - p)^-9
    assert abs(keep[:2000].mean() - 1.01**-9) < 0.03
    assert keep[2000:].mean() < 0.02


def test_bad_arguments_are_named(key):
    with pytest.raises(ValueError, match="got 1 labels, 2 texts"):
        classify.fit(["a", "b"], [1], key, SMALL)
    with pytest.raises(ValueError, match="labels must be 0, 1"):
        classify.fit(["a", "b"], [0, 0], key, SMALL)
    with pytest.raises(ValueError, match="width must be > 0"):
        ClassifierConfig(width=0)

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from jaxml.emu import discriminator, objective
from jaxml.emu.discriminator import LanguageDiscriminator
from tests.emu import oracle

B, D, K = 24, 7, 5


@pytest.fixture(scope="module")
def case():
    draw = np.random.default_rng(0)
    f, w = draw.normal(size=(B, D)), draw.normal(size=(D, K))
    labels = draw.integers(0, K - 1, B)  # the last class is absent
    return f, labels, w, draw.normal(size=K), draw.normal(size=(K, D))


def f32(*arrays):
    return [jnp.asarray(x, jnp.float32) if x.dtype.kind == "f" else jnp.asarray(x) for x in arrays]


def test_losses_match_their_transcription(case):
    f, labels, w, b, centers = case
    ours = f32(*case)
    u = oracle.normed(f)
    got = objective.l2_softmax_loss(*ours[:4], 16.0)
    np.testing.assert_allclose(got, oracle.l2_softmax(f, labels, w, b, 16.0), rtol=1e-6)
    u32 = objective.unit(ours[0])
    np.testing.assert_allclose(
        objective.center_loss(u32, ours[1], ours[4]), oracle.center(u, labels, centers), rtol=1e-6
    )
    np.testing.assert_allclose(
        objective.pair_loss(u32, ours[1]), oracle.pairs(u, labels), rtol=1e-6
    )
    got = objective.softmax_loss(*ours[:4])
    want = -np.mean(oracle.log_softmax(f @ w + b)[np.arange(B), labels])
    np.testing.assert_allclose(got, want, rtol=1e-6)


def test_centres_move_by_the_published_rule_and_absent_ones_stay(case):
    f, labels, _, _, centers = case
    u = oracle.normed(f)
    got = objective.update_centers(*f32(u, labels, centers), 0.5)
    np.testing.assert_allclose(got, oracle.moved_centers(u, labels, centers, 0.5), atol=1e-6)
    np.testing.assert_array_equal(got[K - 1], centers[K - 1].astype(np.float32))


def test_centres_are_no_parameters(case):
    f, labels, _, _, centers = f32(*case)
    slope = jax.grad(objective.center_loss, 2)(objective.unit(f), labels, centers)
    assert not slope.any()


def test_centres_of_eight_devices_are_those_of_one(case):
    f, labels, _, _, centers = f32(*case)
    u = objective.unit(f)
    want = objective.update_centers(u, labels, centers)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    rows, whole = PartitionSpec("data"), PartitionSpec()
    update = functools.partial(objective.update_centers, axis_name="data")
    sharded = jax.shard_map(update, mesh=mesh, in_specs=(rows, rows, whole), out_specs=whole)
    np.testing.assert_allclose(sharded(u, labels, centers), want, atol=1e-6)
    placed = [jax.device_put(x, NamedSharding(mesh, rows)) for x in (u, labels)]
    np.testing.assert_allclose(jax.jit(objective.update_centers)(*placed, centers), want, atol=1e-6)
    # what every shard would have done alone is something else
    alone = jax.shard_map(
        lambda *x: jax.lax.pmean(objective.update_centers(*x), "data"),
        mesh=mesh, in_specs=(rows, rows, whole), out_specs=whole,
    )  # fmt: skip
    assert float(jnp.abs(alone(u, labels, centers) - want).max()) > 1e-2


def test_only_the_direction_counts(case):
    f, labels, w, b, _ = f32(*case)
    value, slope = jax.value_and_grad(objective.l2_softmax_loss)(f, labels, w, b, 16.0)
    assert float(jnp.abs(jnp.sum(slope * f, -1)).max()) < 1e-6
    scaled = objective.l2_softmax_loss(f * 37.0, labels, w, b, 16.0)
    np.testing.assert_allclose(scaled, value, rtol=1e-6)
    assert abs(float(objective.softmax_loss(f * 37.0, labels, w, b) - value)) > 1


def test_radius_bound_reaches_its_probability():
    for k in (3, 16, 77):
        alpha = objective.lowest_radius(k, 0.9)
        # Ranjan: K - 2 other classes at cosine 0, one (the opposite) neglected
        assert np.exp(alpha) / (np.exp(alpha) + k - 2) == pytest.approx(0.9)


def test_class_means(case):
    f, labels, *_ = case
    means = objective.class_means(f, labels % 3, 3)
    np.testing.assert_allclose(means, [f[labels % 3 == k].mean(0) for k in range(3)], rtol=1e-5)


@pytest.mark.parametrize("kind", discriminator.KINDS)
def test_discriminators_match_their_transcription(kind):
    cfg = LanguageDiscriminator(kind, 4, D, hidden=6)
    p = discriminator.init(jax.random.key(1), cfg)
    draw = np.random.default_rng(1)
    u, lang = oracle.normed(draw.normal(size=(20, D))), np.arange(20) % 4
    p64 = jax.tree.map(lambda x: np.asarray(x, np.float64), p)
    weight = np.array([1.0, 0.0, 2.0, 0.5])
    ours = f32(u, lang, weight)
    got = discriminator.discriminator_loss(p, cfg, *ours[:2])
    np.testing.assert_allclose(got, oracle.discriminator(p64, kind, u, lang), rtol=2e-5, atol=1e-7)
    got = discriminator.adversarial_loss(p, cfg, *ours)
    np.testing.assert_allclose(
        got, oracle.adversary(p64, kind, u, lang, weight), rtol=2e-5, atol=1e-7
    )


def test_the_flipped_label_is_another_goal():
    cfg = LanguageDiscriminator("binary", 3, D, hidden=6, fool="flip")
    p = discriminator.init(jax.random.key(1), cfg)
    u, lang = oracle.normed(np.random.default_rng(1).normal(size=(12, D))), np.arange(12) % 3
    p64 = jax.tree.map(lambda x: np.asarray(x, np.float64), p)
    want = oracle.adversary(p64, "binary", u, lang, np.ones(3), "flip")
    got = discriminator.adversarial_loss(p, cfg, *f32(u, lang))
    np.testing.assert_allclose(got, want, rtol=2e-5)


def test_confusion_is_least_at_the_uniform_answer(key):
    cfg = LanguageDiscriminator("multiclass", 5, D)
    p = discriminator.init(key, cfg)
    u = objective.unit(jax.random.normal(key, (10, D)))
    lang = jnp.arange(10) % 5
    assert float(discriminator.adversarial_loss(p, cfg, u, lang)) > np.log(5)
    flat = {**p, "answer": jax.tree.map(jnp.zeros_like, p["answer"])}
    assert float(discriminator.adversarial_loss(flat, cfg, u, lang)) == pytest.approx(np.log(5))


def test_each_side_moves_only_itself(key):
    cfg = LanguageDiscriminator("multiclass", 2, D)
    p = discriminator.init(key, cfg)
    u, lang = jax.random.normal(key, (6, D)), jnp.arange(6) % 2

    @jax.jit
    def slopes(p, u):
        mine = jax.grad(discriminator.discriminator_loss, 2)(p, cfg, u, lang)
        return mine, jax.grad(discriminator.adversarial_loss, (0, 2))(p, cfg, u, lang)

    of_loss, (of_fooling, of_encoder) = slopes(p, u)
    assert not of_loss.any() and of_encoder.any()
    assert not any(x.any() for x in jax.tree.leaves(of_fooling))


def test_a_critic_stays_in_its_clip(key):
    cfg = LanguageDiscriminator("wasserstein", 2, D, clip=0.01)
    p = discriminator.clipped(jax.tree.map(lambda x: x + 1.0, discriminator.init(key, cfg)), cfg)
    assert max(float(jnp.abs(x).max()) for x in jax.tree.leaves(p)) <= 0.01


BAD = {
    "alpha must be > 0": lambda f, y, w, b: objective.l2_softmax_loss(f, y, w, b, 0.0),
    r"labels must lie in \[0, 5\)": lambda f, y, w, b: objective.l2_softmax_loss(
        f, y + 3, w, b, 1.0
    ),
    "w_dk must have shape": lambda f, y, w, b: objective.l2_softmax_loss(f, y, w.T, b, 1.0),
    "eta must lie": lambda f, y, w, b: objective.update_centers(f, y, w.T, 0.0),
    r"classes \[4\] have none": lambda f, y, w, b: objective.class_means(
        np.asarray(f), np.asarray(y), 5
    ),
    "num_languages must be >= 2": lambda f, y, w, b: LanguageDiscriminator("binary", 1, 3),
    r"lang must lie in \[0, 2\)": lambda f, y, w, b: discriminator.discriminator_loss(
        {}, LanguageDiscriminator("binary", 2, D), f, y
    ),
    "did you mean 'multiclass'": lambda f, y, w, b: LanguageDiscriminator("multclass", 2, D),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input_is_named(case, message):
    with pytest.raises(ValueError, match=message):
        BAD[message](*f32(*case[:4]))

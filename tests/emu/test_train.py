import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from jaxml.core import tree
from jaxml.emu import discriminator, loss, objective, pool, train
from jaxml.emu.config import PRESETS, EmuConfig, arms
from jaxml.emu.discriminator import LanguageDiscriminator
from jaxml.train import state, step
from tests.emu import oracle
from tests.emu.conftest import pool_of


def begun(encoder, cfg, prepared):
    params, extra, disc = train.start(encoder, cfg, prepared, jax.random.key(0))
    made = train.optimizer(encoder, cfg)
    now = state.create(jax.random.key(0), params, made, extra=extra)
    update = step.make_step(loss.make_loss(encoder, cfg, disc), made, donate=False)
    return now, update


@pytest.fixture(scope="module")
def one_step(small, tiny, prepared):
    """State before, batch, state after and metrics of one step with every term."""
    cfg = dataclasses.replace(tiny, anchor=0.5, lambda_guess=0.7, n_disc=2)
    guess = np.where(np.arange(20) % 3, np.arange(20) % 4, -1).astype(np.int32)
    prepared = prepared._replace(guess={"de": guess})
    now, update = begun(small, cfg, prepared)
    batch = next(pool.Batches(prepared, cfg))
    after, metrics = update(now, batch)
    return cfg, now, batch, after, metrics, update


def test_the_loss_of_a_step_is_the_sum_of_its_terms(small, one_step):
    cfg, now, batch, after, got, _ = one_step
    head = jax.tree.map(lambda x: np.asarray(x, np.float64), now.params["encoder"]["head"])
    f = np.asarray(batch["x"], np.float64) @ head["kernel"] + head["bias"]
    kernel, bias = (np.asarray(now.params["classifier"][k], np.float64) for k in ("kernel", "bias"))
    centers = np.asarray(now.extra["centers"], np.float64)
    want = oracle.l2_softmax(f, batch["label"], kernel, bias, cfg.alpha)
    np.testing.assert_allclose(got["semantic"], want, rtol=1e-5)
    pull = oracle.center(oracle.normed(f), batch["label"], centers)
    half = len(batch["lang"]) // 2
    u = np.asarray(batch["unlabelled"][half:], np.float64) @ head["kernel"] + head["bias"]
    u = oracle.normed(u)
    disc = jax.tree.map(lambda x: np.asarray(x, np.float64), after.extra["disc"])
    fooled = oracle.adversary(disc, "multiclass", u, batch["lang"][half:], np.ones(2))
    held = np.mean(((u - batch["original"][half:]) ** 2).sum(-1))
    total = want + cfg.lambda_center * pull + cfg.lambda_adv * fooled
    known = batch["guess"][half:] >= 0
    assert 0 < known.sum() < len(known) and not known[batch["lang"][half:] == 0].any()
    guess = batch["guess"][half:][known]
    total += cfg.lambda_guess * oracle.l2_softmax(u[known], guess, kernel, bias, cfg.alpha)
    total += cfg.anchor * held
    np.testing.assert_allclose(got["loss"], total, rtol=1e-5)
    # centres move by the embeddings that the loss saw
    moved = oracle.moved_centers(oracle.normed(f), batch["label"], centers, cfg.eta)
    np.testing.assert_allclose(after.extra["centers"], moved, atol=1e-5)


def test_the_discriminator_moves_before_the_encoder_and_alone(small, one_step):
    cfg, now, batch, after, *_ = one_step
    disc = LanguageDiscriminator("multiclass", 2, 8, cfg.hidden)
    u = objective.unit(small.head(now.params["encoder"]["head"], jnp.asarray(batch["unlabelled"])))
    p, opt = now.extra["disc"], optax.adam(cfg.lr_disc).init(now.extra["disc"])

    @jax.jit
    def move(p, opt, u, lang):
        slope = jax.grad(discriminator.discriminator_loss)(p, disc, u, lang)
        moves, opt = optax.adam(cfg.lr_disc).update(slope, opt)
        return optax.apply_updates(p, moves), opt

    for part in jnp.split(jnp.arange(len(u)), 2):
        p, opt = move(p, opt, u[part], batch["lang"][part])
    for got, want in zip(jax.tree.leaves(after.extra["disc"]), jax.tree.leaves(p), strict=True):
        np.testing.assert_allclose(got, want, atol=2e-6)


def test_eight_devices_step_as_one(one_step):
    _, now, batch, after, metrics, update = one_step
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    placed = jax.device_put(batch, NamedSharding(mesh, PartitionSpec("data")))
    got, found = update(now, placed)
    np.testing.assert_allclose(found["loss"], metrics["loss"], rtol=1e-5)
    np.testing.assert_allclose(got.extra["centers"], after.extra["centers"], atol=1e-6)


def test_batches_are_balanced_over_languages_and_keep_their_place(tiny, prepared):
    cfg = dataclasses.replace(tiny, n_disc=3)
    first = pool.Batches(prepared, cfg)
    batches = [next(first) for _ in range(3)]
    assert (np.bincount(batches[0]["lang"]) == 3 * cfg.per_language).all()
    again = pool.Batches(prepared, cfg)
    again.set_state({"position": 2})
    np.testing.assert_array_equal(next(again)["unlabelled"], batches[2]["unlabelled"])
    # unlabelled source sentences come from the pool, not from the class-balanced labelled batch
    source = batches[0]["unlabelled"][batches[0]["lang"] == 0]
    assert all((row == prepared.others["en"]).all(1).any() for row in source)


@pytest.mark.parametrize("part", ["head", "top"])
def test_only_what_is_trainable_moves(small, tiny, toy, prepared, part):
    cfg, encoder, many = dataclasses.replace(tiny, trainable=part, steps=1), small, prepared
    if part == "top":
        encoder = dataclasses.replace(small, top=lambda path, leaf: float(path.endswith("upper")))
        many = pool_of(encoder, cfg, toy)
    found = train.fit(encoder, cfg, many)
    before, after = tree.flatten(encoder.params), tree.flatten(found.params)
    moved = {path for path in before if (np.asarray(before[path] != after[path])).any()}
    head = {"head/kernel", "head/bias"}
    want = {
        "head": head,
        "top": head | {"body/upper"},
    }
    assert moved == want[part]


def test_a_stopped_run_goes_on_to_the_same_end(small, tiny, prepared, tmp_path):
    cfg = dataclasses.replace(tiny, steps=4)
    whole = train.fit(small, cfg, prepared)

    def stop(event):
        return event.step == 2

    train.fit(small, cfg, prepared, tmp_path, watch=[stop])
    again = train.fit(small, cfg, prepared, tmp_path)
    for got, want in zip(
        jax.tree.leaves((again.params, again.disc)),
        jax.tree.leaves((whole.params, whole.disc)),
        strict=True,
    ):
        np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(again.centers, whole.centers)
    assert again.curve[-1]["step"] == 4


def test_a_discriminator_of_one_language_sits_at_chance():
    """What is told apart must be language: the same sentences under two names give nothing."""
    draw = np.random.default_rng(0)
    u = objective.unit(jnp.asarray(draw.normal(size=(600, 6)), jnp.float32))
    lang = jnp.asarray(np.arange(600) % 3)
    disc, cfg = LanguageDiscriminator("multiclass", 3, 6, 16), EmuConfig(n_disc=100)
    p = discriminator.init(jax.random.key(0), disc)
    fit = jax.jit(loss.update_discriminator, static_argnums=(2, 3))
    p, *_ = fit(p, optax.adam(1e-3).init(p), disc, cfg, u[:300], lang[:300])
    assert abs(float(discriminator.accuracy(p, disc, u[300:], lang[300:])) - 1 / 3) < 0.12
    # what a pool of other intents would do: language 0 has its own prior, and is found
    skew = u.at[:, 0].add(2.0 * (lang == 0))
    p, *_ = fit(p, optax.adam(1e-3).init(p), disc, cfg, skew[:300], lang[:300])
    assert float(discriminator.accuracy(p, disc, skew[300:], lang[300:])) > 0.45


def test_a_learnt_radius_stays_above_its_bound(tiny):
    cfg = dataclasses.replace(tiny, alpha=None)
    p = {"radius": jnp.float32(0.1), "bias": jnp.zeros(16)}
    assert float(loss.radius(cfg, p)) == pytest.approx(objective.lowest_radius(16))
    assert loss.radius(tiny, p) == 16.0


@pytest.mark.parametrize("name", ["softmax", "contrastive"])
def test_every_arm_learns(small, name):
    draw = np.random.default_rng(0)
    x, label = draw.normal(size=(20, 32)).astype(np.float32), np.arange(20) % 4
    head = {"kernel": jnp.asarray(draw.normal(size=(32, 8)), jnp.float32), "bias": jnp.zeros(8)}
    encoder = dataclasses.replace(small, params={**small.params, "head": head})
    means = objective.class_means(pool.head_only(encoder, x), label, 4)
    many = pool.Pool(x, label, {}, {}, 4, means)
    cfg = dataclasses.replace(PRESETS["tiny"], lr=1e-2, steps=40, batch_size=20)
    found = train.fit(encoder, arms(cfg)[name], many)
    assert found.curve[-1]["loss"] < 0.5 * found.curve[0]["loss"]


def test_arms_have_the_same_budget():
    made = arms(PRESETS["laptop"])
    budget = {(c.steps, c.lr, c.batch_size, c.trainable, c.seed) for c in made.values()}
    assert len(budget) == 1 and made["emu"].lambda_adv > 0 == made["l2+center"].lambda_adv


BAD = {
    "alpha must be > 0": {"alpha": -1.0},
    "lambda_adv must be >= 0": {"lambda_adv": -0.1},
    "EmuConfig.disc must be": {"disc": "waserstein"},
    "eta must lie": {"eta": 2.0},
}


@pytest.mark.parametrize("message", BAD)
def test_a_bad_configuration_is_named(message):
    with pytest.raises((ValueError, TypeError), match=message):
        EmuConfig(**BAD[message])


def test_bad_pools_are_named(small, tiny, prepared):
    one = prepared._replace(others={"en": prepared.others["en"]})
    with pytest.raises(ValueError, match="num_languages must be >= 2"):
        train.fit(small, tiny, one)
    cfg = dataclasses.replace(tiny, adversary_weights=(1.0, 2.0, 3.0))
    with pytest.raises(ValueError, match="one value for each of 2 languages; got 3"):
        train.fit(small, cfg, prepared)

import collections
import hashlib
import math
import os
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxml.curate import mix
from jaxml.curate.mix import DoremiConfig, DsirConfig

DATA = Path(os.environ.get("JAXML_DATA", "nowhere")) / "curate"

RAW = ["Alice went home, then Bob went too!", "stocks fell 3% on Monday", "the the the the"]
TARGET = ["alice went home"]


def slow_log_weight(text, raw, target, smoothing):
    """The formulas once more, with dictionaries."""

    def counts(texts):
        out = collections.Counter()
        for one in texts:
            w = re.findall(r"\w+|[^\w\s]+", one.lower())
            for g in w + [f"{a} {b}" for a, b in zip(w, w[1:], strict=False)]:
                out[int(hashlib.sha256(g.encode()).hexdigest(), 16) % 10_000] += 1
        return out

    p, q = counts(raw), counts(target)
    q = {b: q[b] + smoothing for b in range(10_000)}
    n_p, n_q = sum(p.values()), sum(q.values())
    return sum(
        n * (math.log(q[b] / n_q + 1e-8) - math.log(p[b] / n_p + 1e-8))
        for b, n in counts([text]).items()
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.5])
def test_dsir_weights_are_the_formula(smoothing):
    model = mix.dsir_fit(RAW, TARGET, DsirConfig(min_tokens=0, smoothing=smoothing))
    texts = [*RAW, "home went alice", ""]
    want = [slow_log_weight(t, RAW, TARGET, smoothing) for t in texts]
    np.testing.assert_allclose(mix.dsir_weights(model, texts), want, rtol=0, atol=1e-9)


def test_buckets_are_not_pythons_hash():
    assert (mix.bucket("alice"), mix.bucket("alice went")) == (6720, 114)


def test_short_examples_are_never_chosen(key):
    model = mix.dsir_fit(RAW, TARGET, DsirConfig(min_tokens=6))
    logw = mix.dsir_weights(model, RAW)
    assert np.isinf(logw).tolist() == [False, False, True]
    assert sorted(mix.gumbel_top_k(key, logw, 2).tolist()) == [0, 1]
    with pytest.raises(ValueError, match="got k=3, eligible=2"):
        mix.gumbel_top_k(key, logw, 3)


def test_gumbel_draws_in_proportion_and_repeats(key):
    logw = np.log(np.array([1.0, 2.0, 5.0]))
    first = [int(mix.gumbel_top_k(k, logw, 1)[0]) for k in jax.random.split(key, 300)]
    np.testing.assert_allclose(np.bincount(first) / 300, [1 / 8, 2 / 8, 5 / 8], atol=0.08)
    np.testing.assert_array_equal(mix.gumbel_top_k(key, logw, 3), mix.gumbel_top_k(key, logw, 3))


def test_noise_belongs_to_the_example(key):
    ids = np.random.default_rng(0).integers(0, 2**63, 50).astype(np.uint64)
    logw = np.random.default_rng(1).normal(size=50)
    order = np.random.default_rng(2).permutation(50)
    straight = ids[mix.gumbel_top_k(key, logw, 10, ids)]
    shuffled = ids[order][mix.gumbel_top_k(key, logw[order], 10, ids[order])]
    np.testing.assert_array_equal(straight, shuffled)


def test_targets_never_share_an_example_nor_noise(key):
    logw = {"a": np.zeros(30), "b": np.zeros(30)}
    got = mix.resample(key, logw, {"a": 15, "b": 15})
    assert sorted([*got["a"], *got["b"]]) == list(range(30))
    again = mix.resample(key, logw, {"b": 15, "a": 15})
    assert set(again["b"]) != set(got["a"])
    with pytest.raises(ValueError, match="num must be one of a, b"):
        mix.resample(key, logw, {"c": 1})


def test_an_empty_target_is_an_error():
    with pytest.raises(ValueError, match="target must hold words"):
        mix.dsir_fit(RAW, [" "])


def slow_update(alpha, lam, excess, mask, domain, eta, c):
    lam = list(lam)
    for k in range(len(alpha)):
        tokens = [
            max(e, 0)
            for i, row in enumerate(excess)
            for e, m in zip(row, mask[i], strict=True)
            if m and domain[i] == k
        ]
        if tokens:
            lam[k] = sum(tokens) / len(tokens)
    raised = [a * math.exp(eta * x) for a, x in zip(alpha, lam, strict=True)]
    return [(1 - c) * r / sum(raised) + c / len(alpha) for r in raised], lam


def test_doremi_update_is_the_algorithm():
    rng = np.random.default_rng(0)
    excess, mask = rng.normal(size=(5, 4)), rng.random((5, 4)) > 0.3
    domain = np.array([0, 2, 2, 0, 3])
    alpha, lam = np.array([0.1, 0.2, 0.3, 0.4]), np.array([9.0, 0.7, 9.0, 9.0])
    want = slow_update(alpha, lam, excess, mask, domain, 0.8, 0.01)
    got = mix.doremi_update(*map(jnp.asarray, (alpha, lam, excess, mask, domain)), 0.8, 0.01)
    np.testing.assert_allclose(got[0], want[0], rtol=1e-5)
    np.testing.assert_allclose(got[1], want[1], rtol=1e-5)
    assert got[1][1] == pytest.approx(0.7)  # absent: the last value stays
    assert float(jnp.sum(got[0])) == pytest.approx(1, abs=1e-6)


@pytest.fixture(scope="module")
def planted():
    """Noise, a constant and one learnable domain of bytes; an MLP on the last bytes."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 16, (400, 9))
    constant = np.full((400, 9), 7)
    step = rng.integers(0, 16, (400, 1))
    counting = (step + np.arange(9) * (1 + step % 3)) % 16

    def loss(params, rows):
        before = jax.nn.one_hot(jnp.stack([rows[:, :-2], rows[:, 1:-1]], -1), 16)
        hidden = jax.nn.relu(before.reshape(*before.shape[:2], -1) @ params["a"])
        return optax.softmax_cross_entropy_with_integer_labels(hidden @ params["b"], rows[:, 2:])

    keys = jax.random.split(jax.random.key(1))
    params = {
        "a": 0.2 * jax.random.normal(keys[0], (32, 32)),
        "b": 0.2 * jax.random.normal(keys[1], (32, 16)),
    }
    domains = [d.astype(np.int32) for d in (noise, constant, counting)]
    cfg = DoremiConfig(num_steps=200, batch_size=32)
    skewed = mix.train_on_mixture(
        jax.random.key(2), params, loss, domains, [0.5, 0.4, 0.1], optax.adam(1e-2), 200, 32
    )
    result = mix.doremi(jax.random.key(3), params, skewed, loss, domains, optax.adam(1e-2), cfg)
    return params, skewed, loss, domains, result


def test_doremi_answers_with_the_mean(planted):
    result = planted[-1]
    np.testing.assert_allclose(result.alpha, result.history.mean(0), rtol=1e-5)
    assert not np.allclose(result.alpha, result.history[-1], atol=1e-3)
    np.testing.assert_allclose(result.history.sum(1), 1, atol=1e-5)


def test_doremi_leaves_the_domain_without_excess(planted):
    alpha = planted[-1].alpha
    assert alpha[1] < 1 / 3  # the constant is learned by both
    assert alpha[2] > alpha[1]


def test_training_on_the_mixture_learns(planted):
    params, skewed, loss, domains, _ = planted
    before, after = (float(jnp.mean(loss(p, domains[1]))) for p in (params, skewed))
    assert after < 0.1 < before


def test_temperature_runs_from_uniform_to_proportional():
    np.testing.assert_allclose(mix.temperature([1, 3], 0), [0.5, 0.5])
    np.testing.assert_allclose(mix.temperature([1, 3], 1), [0.25, 0.75])
    with pytest.raises(ValueError, match="smallest_size must be > 0"):
        mix.temperature([0, 1], 1)


@pytest.fixture(scope="module")
def law():
    rng = np.random.default_rng(0)
    t = rng.normal(0, 1, (2, 3))
    true = mix.MixingLaw(np.array([1.5, 2.0]), np.array([0.1, -0.4]), t - t.mean(1, keepdims=True))
    mixtures = rng.dirichlet(np.ones(3), 24)
    fitted = mix.fit_mixing_law(mixtures, true.losses(mixtures), ridge=0.0, num_starts=24)
    return true, fitted, mixtures


def test_a_noiseless_mixing_law_is_recovered_in_its_gauge(law):
    true, fitted, _ = law
    np.testing.assert_allclose(fitted.t, true.t, atol=1e-3)
    np.testing.assert_allclose(fitted.t.sum(1), 0, atol=1e-9)
    np.testing.assert_allclose(fitted.c, true.c, atol=1e-3)
    fresh = np.random.default_rng(9).dirichlet(np.ones(3), 50)
    np.testing.assert_allclose(fitted.losses(fresh), true.losses(fresh), atol=1e-4)


def test_the_best_mixture_beats_a_fine_grid(law):
    true = law[0]
    share = np.array([0.6, 0.4])
    best, value = mix.minimise_mixture(true, share)
    grid = np.array(
        [(a, b, 1 - a - b) for a in np.linspace(0, 1, 101) for b in np.linspace(0, 1 - a, 101)]
    )
    assert value <= true.overall(grid, share).min() + 1e-9
    assert best.sum() == pytest.approx(1)
    capped, _ = mix.minimise_mixture(true, share, upper=[0.4, 0.4, 0.4])
    assert capped.max() <= 0.4 + 1e-9


def test_bad_mixtures_are_named(law):
    with pytest.raises(ValueError, match="got row 1"):
        mix.fit_mixing_law(np.array([[0.5, 0.5], [0.5, 0.6]]), np.ones((2, 1)))
    with pytest.raises(ValueError, match="upper must sum to at least 1"):
        mix.minimise_mixture(law[0], [1, 0], upper=[0.1, 0.1, 0.1])
    with pytest.raises(ValueError, match="alpha must be >= 0 and sum to 1"):
        rows = [np.zeros((1, 2)), np.zeros((1, 2))]
        mix.train_on_mixture(jax.random.key(0), {}, None, rows, [0.5, 0.6], optax.sgd(1), 1, 1)


def test_power_law_reads_off_a_larger_scale():
    x = np.array([1e3, 2e3, 4e3, 8e3, 16e3])
    got = mix.power_law(x, 2 + 30 * x**-0.5, 1e5)
    assert got == pytest.approx(2 + 30 * 1e5**-0.5, abs=1e-3)


@pytest.mark.slow
@pytest.mark.skipif(not DATA.exists(), reason="needs JAXML_DATA/curate")
def test_published_mixtures_are_predicted():
    import pyarrow.parquet as pq

    rows = pq.read_table(DATA / "mixing_law_runs.parquet").to_pylist()
    for family in ("5Mix", "RedPajama"):
        some = [
            r for r in rows if r["family"] == family and r["size"] == "70M" and r["step"] == 30_000
        ]
        table = collections.defaultdict(dict)
        for r in some:
            table[r["mixture"]][r["domain"]] = r["loss"]
        names = sorted({r["domain"] for r in some})
        full = [m for m in sorted(table) if len(table[m]) == len(names)]
        mixtures = np.array([[float(p) for p in m.split("-")] for m in full])
        mixtures /= mixtures.sum(1, keepdims=True)
        losses = np.array([[table[m][n] for n in names] for m in full])
        held = np.random.default_rng(0).permutation(len(full)) < 6
        fit = mix.fit_mixing_law(mixtures[~held], losses[~held], num_starts=32)
        error = np.abs((fit.losses(mixtures[held]) - losses[held]).mean(1)).mean()
        print(family, len(full), error)
        assert np.all(np.isfinite(fit.losses(np.eye(mixtures.shape[1]))))
        assert error < 0.1

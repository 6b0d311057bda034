"""Training: the trajectory, the noise added once, resuming, meshes, grids."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxml.dist import mesh as meshes
from jaxml.dp import (
    ConvexReLUConfig,
    NoisyCGDConfig,
    audit,
    descent,
    gating,
    train,
    train_grid,
    train_noisy_cgd,
)
from tests.dp import oracle

N, D, P, K = 60, 6, 8, 3
MODEL = ConvexReLUConfig(D, K, P)
CFG = NoisyCGDConfig(batch_size=10, epochs=4)


@pytest.fixture(scope="module")
def data():
    r = np.random.default_rng(0)
    x = r.normal(size=(N, D)).astype(np.float32)
    x[:, 0] = 0  # a coordinate no example touches
    return x, r.integers(0, K, N)


@pytest.fixture(scope="module")
def straight(data):
    return train_noisy_cgd(jax.random.key(3), *data, MODEL, CFG)


def test_without_noise_it_is_gradient_descent_on_bounded_gradients(data):
    x, y = data
    with jax.enable_x64(True):
        u = jnp.asarray(np.random.default_rng(1).normal(size=(D, P)))
        x64 = jnp.asarray(x, jnp.float64)
        batches = descent.Batches(
            x64.reshape(6, 10, D),
            gating.gates(x64, u).reshape(6, 10, P),
            jnp.asarray(y).reshape(6, 10),
        )
        rate = descent.Rates(1.5, 0.01, 0.4, 0.0)
        v = descent.fold_updates(
            jnp.zeros((P, D, K)), batches, jax.random.key(0), rate, jnp.int32(0), count=12,
            model=MODEL, mode="flat",
        )  # fmt: skip
    want = np.zeros((P, D, K))
    for t in range(12):
        at = slice(10 * (t % 6), 10 * (t % 6) + 10)
        grad = oracle.clipped_mean(
            want, x[at].astype(np.float64), np.asarray(u), y[at], 0.4, "flat", "softmax_ce"
        )
        want = want - 1.5 * (grad + 0.01 * want)
    np.testing.assert_allclose(v, want, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("loss", ["softmax_ce", "squared"])
def test_descent_without_noise_reaches_the_optimum(data, loss):
    """Ridge in closed form; cross-entropy where its gradient vanishes."""
    x, y = data
    model = ConvexReLUConfig(D, K, P, loss=loss)
    l2 = 0.1
    with jax.enable_x64(True):
        u = jnp.asarray(np.random.default_rng(1).normal(size=(D, P)))
        x64 = jnp.asarray(x, jnp.float64)
        g = gating.gates(x64, u)
        batch = descent.Batches(x64[None], g[None], jnp.asarray(y)[None])
        v = descent.fold_updates(
            jnp.zeros((P, D, K)), batch, jax.random.key(0), descent.Rates(1.5, l2, 1e9, 0.0),
            jnp.int32(0), count=300, model=model, mode="flat",
        )  # fmt: skip
        phi = np.asarray(gating.features(x64, g, model))
    flat = np.asarray(v).reshape(P * D, K)
    if loss == "squared":
        want = np.linalg.solve(phi.T @ phi / N + l2 * np.eye(P * D), phi.T @ np.eye(K)[y] / N)
        np.testing.assert_allclose(flat, want, atol=1e-8)
    residual = np.stack([oracle.residual(p @ flat, c, loss) for p, c in zip(phi, y, strict=True)])
    assert np.abs(phi.T @ residual / N + l2 * flat).max() < 1e-8


def test_a_stopped_run_goes_on_to_the_same_bits(data, straight, tmp_path):
    """Six batches, four updates a call: the stop is in the middle of a cycle."""
    key = jax.random.key(3)
    how = {"folder": tmp_path, "updates_per_call": 4}
    half = train_noisy_cgd(key, *data, MODEL, CFG, max_calls=1, **how)
    assert half.report is None  # an earlier iterate has no report
    assert (tmp_path / "checkpoints").exists()
    with pytest.raises(ValueError, match="other settings"):
        train_noisy_cgd(key, *data, MODEL, dataclasses.replace(CFG, epochs=8), **how)
    with pytest.raises(ValueError, match="key must be that of the training"):
        train_noisy_cgd(jax.random.key(4), *data, MODEL, CFG, **how)
    done = train_noisy_cgd(key, *data, MODEL, CFG, **how)
    np.testing.assert_array_equal(done.v, straight.v)
    np.testing.assert_array_equal(done.u, straight.u)
    assert not (tmp_path / "checkpoints").exists()  # earlier iterates and the key are gone


@pytest.mark.parametrize(("over_data", "over_model"), [(2, 4), (5, 1), (1, 8)])
def test_a_mesh_gives_the_same_model_and_noise_once(data, straight, over_data, over_model):
    cfg = meshes.MeshConfig(data=over_data, model=over_model)
    mesh = meshes.make(cfg, jax.devices()[: over_data * over_model])
    got = train_noisy_cgd(jax.random.key(3), *data, MODEL, CFG, mesh)
    np.testing.assert_allclose(got.v, straight.v, atol=1e-5)
    # Coordinate 0 is zero in all examples, so there is noise alone: the same numbers.
    np.testing.assert_allclose(got.v[:, 0], straight.v[:, 0], rtol=1e-6)


def test_gates_of_a_part_draw_the_noise_of_the_whole():
    key = jax.random.key(0)
    whole = descent.gate_noise(key, (8, 5, 2))
    np.testing.assert_array_equal(descent.gate_noise(key, (4, 5, 2), 4), whole[4:])
    assert len(np.unique(np.asarray(whole))) == whole.size


def test_a_grid_is_its_trainings(data, straight):
    other = dataclasses.replace(CFG, learning_rate=1.0, noise_multiplier=2.0)
    v, u = train_grid([jax.random.key(3)] * 2, *data, MODEL, [CFG, other], epochs_per_call=2)
    np.testing.assert_allclose(v[0], straight.v, atol=1e-5)
    np.testing.assert_array_equal(u[0], straight.u)
    assert float(jnp.abs(v[1] - v[0]).max()) > 0.01
    with pytest.raises(ValueError, match="may differ in learning_rate"):
        train_grid([jax.random.key(3)] * 2, *data, MODEL, [CFG, dataclasses.replace(CFG, epochs=8)])


def test_noise_has_the_stated_law_where_no_example_reaches(data):
    x, y = data
    cfg = dataclasses.replace(CFG, epochs=20, noise_multiplier=3.0, l2=0.05, learning_rate=3.0)
    keys = [jax.random.key(i) for i in range(30)]
    v, _ = train_grid(keys, x, y, MODEL, [cfg] * 30, epochs_per_call=20)
    untouched = np.arange(D) == 0
    stacked = (
        np.asarray(v).transpose(2, 0, 1, 3).reshape(D, -1).T[:, :, None]
    )  # [30 P, D, K] -> rows
    law = audit.noise_law(jnp.asarray(stacked), untouched, cfg, MODEL, 120)
    assert law.count == 30 * P * K
    assert law.p_value > 1e-3
    for wrong in (2.0, 0.1, np.sqrt(2)):  # per shard, divided twice, two draws
        assert (
            audit.noise_law(wrong * jnp.asarray(stacked), untouched, cfg, MODEL, 120).p_value < 1e-6
        )


def test_expected_variance_is_the_sum_of_the_draws():
    cfg = dataclasses.replace(CFG, l2=0.05, learning_rate=1.5)
    total, keep = 0.0, 1 - 1.5 * 0.05
    for _ in range(24):
        total = keep**2 * total + (1.5 * 5 / 10) ** 2
    assert audit.expected_variance(cfg, MODEL, 24) == pytest.approx(total, rel=1e-9)


def test_gates_at_test_time_are_those_of_training(data, straight):
    x, y = data
    right = gating.accuracy(straight.v, straight.u, x, y)
    z = gating.logits(straight.v, jnp.asarray(x), gating.gates(jnp.asarray(x), straight.u), MODEL)
    assert right == pytest.approx(100 * float(np.mean(np.argmax(z, 1) == y)))
    # A positive factor per example, e.g. 0..255 for 0..1, changes nothing: scaling is the model's.
    assert gating.accuracy(straight.v, straight.u, 255 * x, y) == pytest.approx(right)


def test_keys_come_from_the_system_unless_given(data, straight):
    assert "was given" in straight.report.randomness
    two = [jax.random.key_data(train.entropy_key()) for _ in range(2)]
    assert (np.asarray(two[0]) != np.asarray(two[1])).any()
    own = train_noisy_cgd(None, *data, MODEL, CFG)
    assert "operating system" in own.report.randomness


def test_one_compilation_serves_other_rates(data):
    calls = []
    step = descent.fold_updates
    v = jnp.zeros((P, D, K))
    batches = descent.cut(data[0], jnp.ones((D, P)), data[1], 6)

    @jax.jit
    def advance(v, rate):
        calls.append(1)
        return step(
            v, batches, jax.random.key(0), rate, jnp.int32(0), count=2, model=MODEL, mode="flat"
        )

    for lr in (1.0, 2.0, 3.0):
        advance(v, descent.Rates(*map(jnp.float32, (lr, 0.1, 1.0, 0.1))))
    assert len(calls) == 1

"""Bounded gradients against example-by-example ones, and the property that privacy rests on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxml.dp import ConvexReLUConfig, clipped_grad, contraction_factor, gating
from jaxml.dp import clip as clipping
from jaxml.dp.config import CURVATURE, is_proved
from jaxml.dp.envelope import envelope_residual, wright_omega
from tests.dp import oracle

N, D, P, K = 12, 5, 4, 3


@pytest.fixture(scope="module")
def problem():
    r = np.random.default_rng(0)
    x, u = r.normal(size=(N, D)), r.normal(size=(D, P))
    x[3] = 0  # a blank example
    return x, u, r.integers(0, K, N), 3 * r.normal(size=(P, D, K))


@pytest.mark.parametrize(
    ("mode", "loss"),
    [("flat", "softmax_ce"), ("flat", "squared"), ("per_class", "squared"),
     ("per_class", "logistic"), ("flat", "logistic"), ("lipschitz", "softmax_ce"),
     ("envelope", "squared")],
)  # fmt: skip
def test_closed_form_is_the_mean_of_bounded_gradients(problem, mode, loss):
    x, u, y, v = problem
    with jax.enable_x64(True):
        g = gating.gates(jnp.asarray(x), jnp.asarray(u))
        cfg = ConvexReLUConfig(D, K, P, loss=loss)
        got, aux = clipped_grad(jnp.asarray(v), jnp.asarray(x), g, jnp.asarray(y), 0.3, mode, cfg)
        got = np.asarray(got)
    same = {"envelope": "flat"}.get(mode, mode)
    want = oracle.clipped_mean(v, x, u, y, 0.3, same, loss)
    np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-13)
    assert 0 <= float(aux["clipped"]) <= 1


def test_a_public_bound_shrinks_long_features_only(problem):
    x, u, _, _ = problem
    cfg = ConvexReLUConfig(D, K, P, feature_norm="none", norm_bound=2.0)
    x32 = jnp.asarray(x, jnp.float32)
    g = gating.gates(x32, jnp.asarray(u, jnp.float32))
    want = [oracle.features(row, u, unit=False, bound=2.0) for row in x]
    np.testing.assert_allclose(gating.features(x32, g, cfg), want, rtol=1e-4, atol=1e-6)
    norms = gating.feature_norms(x32, g, cfg)
    np.testing.assert_allclose(norms, np.linalg.norm(want, axis=1), rtol=1e-5, atol=1e-6)
    assert float(norms.max()) <= 2.0 + 1e-6
    assert float(norms[3]) == 0.0


def test_features_of_an_example_do_not_depend_on_the_others(problem):
    x, u, _, _ = (jnp.asarray(a, jnp.float32) for a in problem)
    cfg = ConvexReLUConfig(D, K, P)
    other = x.at[1:].multiply(100.0)
    first = [gating.features(a, gating.gates(a, u), cfg)[0] for a in (x, other)]
    np.testing.assert_array_equal(*first)


def test_logits_are_linear_in_gated_features(problem):
    x, u, _, v = (jnp.asarray(a, jnp.float32) for a in problem)
    cfg = ConvexReLUConfig(D, K, P)
    g = gating.gates(x, u)
    want = gating.features(x, g, cfg) @ v.reshape(P * D, K)
    np.testing.assert_allclose(gating.logits(v, x, g, cfg), want, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="x must have shape"):
        gating.logits(v, x[:, :-1], g, cfg)


@pytest.mark.parametrize("radius", [1.0, 0.3, 0.01])
def test_the_envelope_solves_its_problem(radius):
    r = np.random.default_rng(1)
    z, y = 2 * r.normal(size=(12, 4)), r.integers(0, 4, 12)
    with jax.enable_x64(True):
        got = envelope_residual(jnp.asarray(z), jnp.asarray(y), jnp.full((12,), radius))
        got = np.asarray(got)
    want = np.array([oracle.envelope(z[i], y[i], radius) for i in range(12)])
    np.testing.assert_allclose(got, want, atol=1e-5 * radius)
    assert np.linalg.norm(got, axis=1).max() <= radius * (1 + 1e-12)
    assert np.abs(got.sum(1)).max() < 1e-14


def _stationarity(z, y, r):
    """How far `z - log p - nu r` is from a constant, relative to nu, in float64."""
    worst = 0.0
    for zi, yi, ri in zip(z, y, r, strict=True):
        p = ri + np.eye(len(zi))[yi]
        if np.linalg.norm(oracle.softmax(zi) - np.eye(len(zi))[yi]) <= np.linalg.norm(ri) + 1e-9:
            continue  # not bounded
        others = [k for k in range(len(zi)) if k != yi]
        others.sort(key=lambda k: p[k])
        low, high, u = others[0], others[-1], zi - np.log(p)
        nu = (u[high] - u[low]) / (ri[high] - ri[low])
        worst = max(worst, abs(u[yi] - nu * ri[yi] - (u[high] - nu * ri[high])) / (1 + abs(nu)))
    return worst


@pytest.mark.parametrize("classes", [3, 10, 100])
def test_the_envelope_is_stationary_to_machine_precision(classes):
    r = np.random.default_rng(2)
    with jax.enable_x64(True):
        for radius in (1.0, 0.1, 1e-3):
            z, y = 3 * r.normal(size=(500, classes)), r.integers(0, classes, 500)
            got = envelope_residual(jnp.asarray(z), jnp.asarray(y), jnp.full((500,), radius))
            assert _stationarity(z, y, np.asarray(got)) < 1e-8


def test_omega_solves_its_equation():
    with jax.enable_x64(True):
        a = jnp.linspace(-30.0, 60.0, 400)
        w = wright_omega(a)
        np.testing.assert_allclose(w + jnp.log(w), a, atol=1e-12)


bounded = jax.jit(clipping.bounded_residual, static_argnums=(3, 4))


def _pairs(num, classes, scale):
    z = scale * jax.random.normal(jax.random.key(5), (2, num, classes))
    near = z[0] + 1e-2 * jax.random.normal(jax.random.key(6), (num, classes))
    other = jnp.where(jnp.arange(num)[:, None] % 2 == 0, z[1], near)
    return z[0], other, jax.random.randint(jax.random.key(7), (num,), 0, classes)


@pytest.mark.parametrize(
    ("mode", "loss", "classes"),
    [("envelope", "softmax_ce", 3), ("envelope", "softmax_ce", 10), ("lipschitz", "softmax_ce", 10),
     ("per_class", "squared", 10), ("per_class", "logistic", 10), ("flat", "squared", 10),
     ("flat", "softmax_ce", 2)],
)  # fmt: skip
def test_proved_modes_contract_on_ten_thousand_pairs(mode, loss, classes):
    assert is_proved(mode, loss, classes)
    with jax.enable_x64(True):
        for scale, radius in ((1.0, 0.5), (4.0, 0.1)):
            za, zb, y = _pairs(5000, classes, scale)
            l2 = 1e-3
            eta = 2 / (CURVATURE[loss] + 2 * l2)
            c = contraction_factor(eta, l2, CURVATURE[loss])
            assert c == pytest.approx(1 - eta * l2)
            after = [
                z - eta * (bounded(z, y, jnp.full(y.shape, radius), mode, loss) + l2 * z)
                for z in (za, zb)
            ]
            ratio = jnp.linalg.norm(after[0] - after[1], axis=1)
            ratio = ratio / jnp.linalg.norm(za - zb, axis=1)
            assert float(ratio.max()) <= c + 1e-9


def test_flat_clipping_of_three_classes_is_no_contraction():
    """The pair of the issue: phi = 1, R = 0.1, eta = 0.5, lambda = 1e-3."""
    assert not is_proved("flat", "softmax_ce", 3)
    eta, l2, radius = 0.5, 1e-3, jnp.array([0.1])
    with jax.enable_x64(True):
        z, y = jnp.array([-0.139, 1.712, 0.122]), jnp.array([0])

        def lipschitz(mode):
            def update(z):
                r = clipping.bounded_residual(z[None], y, radius, mode, "softmax_ce")[0]
                return z - eta * (r + l2 * z)

            h = 1e-6
            columns = [(update(z + h * e) - update(z - h * e)) / (2 * h) for e in jnp.eye(3)]
            return float(jnp.linalg.norm(jnp.stack(columns, 1), 2))

        claimed = 1 - eta * l2
        assert lipschitz("flat") > claimed + 3e-4
        for mode in ("envelope", "lipschitz"):
            assert lipschitz(mode) <= claimed + 1e-8


def test_no_buffer_holds_a_gradient_of_each_example():
    b, d, p, k = 64, 32, 16, 8
    shapes = [(p, d, k), (b, d), (b, p), (b,)]
    kinds = ["float32", "float32", "bool", "int32"]
    args = [jax.ShapeDtypeStruct(s, t) for s, t in zip(shapes, kinds, strict=True)]
    grad = jax.jit(lambda *a: clipped_grad(*a, 1.0, "envelope")[0])
    used = grad.lower(*args).compile().memory_analysis().temp_size_in_bytes
    assert used < 4 * (6 * b * p * k + 4 * p * d * k + 64 * b * k)
    assert used < 4 * b * d * p * k / 4


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ConvexReLUConfig(0, 3), "in_dim must be > 0"),
        (lambda: ConvexReLUConfig(4, 3, feature_norm="none"), "norm_bound must be given"),
        (lambda: ConvexReLUConfig(4, 3, norm_bound=1.0), "norm_bound must be given"),
        (lambda: _grad("per_class", "softmax_ce"), "per_class' is defined for the losses squared"),
        (lambda: _grad("lipschitz", "squared"), "lipschitz' is defined for the losses softmax_ce"),
        (lambda: _grad("flta", "squared"), "did you mean 'flat'?"),
    ],
)
def test_bad_models_are_named(make, message):
    with pytest.raises(ValueError, match="must|defined") as error:
        make()
    assert message in str(error.value)


def _grad(mode, loss):
    v, x = jnp.zeros((2, 4, 3)), jnp.zeros((1, 4))
    g, y = jnp.ones((1, 2), bool), jnp.zeros((1,), jnp.int32)
    return clipped_grad(v, x, g, y, 1.0, mode, ConvexReLUConfig(4, 3, 2, loss=loss))

"""The accountants against quadrature, printed formulas in 80 bits, and dp-accounting."""

import itertools
import math
import time

import pytest

from jaxml.dp import gdp, poisson
from tests.dp import oracle

SETTING = {"num_batches": 60, "epochs": 400}


@pytest.mark.parametrize(("mu", "eps"), [(0.1, 0.2), (0.5, 2.0), (1.0, 1.0), (2.5, 8.0)])
def test_delta_is_the_hockey_stick_divergence(mu, eps):
    assert gdp.gdp_delta(mu, eps) == pytest.approx(oracle.delta(mu, eps), rel=1e-9)


@pytest.mark.parametrize(("mu", "delta"), [(0.1, 1e-10), (1e-3, 1e-12), (1.0, 1e-5), (30.0, 1e-5)])
def test_epsilon_inverts_delta_without_cancelling(mu, delta):
    eps = gdp.gdp_epsilon(mu, delta)
    assert gdp.gdp_delta(mu, eps) == pytest.approx(delta, rel=1e-9)
    assert gdp.gdp_mu(eps, delta) == pytest.approx(mu, rel=1e-9)
    if mu >= 0.1:
        assert oracle.delta(mu, eps) == pytest.approx(delta, rel=1e-8)


def test_no_epsilon_is_needed_where_delta_is_large():
    assert gdp.gdp_epsilon(0.01, 0.1) == 0.0
    assert gdp.gdp_epsilon(0.0, 1e-5) == 0.0


@pytest.mark.parametrize("decay", [5.4e-5, 1e-4, 2e-4, 1e-3, 0.1])
@pytest.mark.parametrize("sigma", [5.0, 15.0])
def test_cyclic_mu_is_the_printed_theorem(decay, sigma):
    got = gdp.noisy_cgd_mu(1 - decay, **SETTING, sensitivity_ratio=2 / sigma)
    assert got == pytest.approx(oracle.cgd_mu(1 - decay, 60, 400, 2 / sigma), rel=1e-9)


@pytest.mark.parametrize(
    ("decay", "sigma", "eps"),
    [
        (5.4e-5, 5, 4.611),
        (5.4e-5, 15, 1.336),
        (1e-4, 5, 4.108),
        (1e-4, 15, 1.196),
        (2e-4, 5, 3.239),
        (2e-4, 15, 0.953),
        (1e-3, 5, 1.965),
        (1e-3, 15, 0.586),
    ],
)
def test_known_epsilons_where_one_example_is_replaced(decay, sigma, eps):
    mu = gdp.noisy_cgd_mu(1 - decay, **SETTING, sensitivity_ratio=2 / sigma)
    assert round(gdp.gdp_epsilon(mu, 1e-5), 3) == eps
    half = gdp.gdp_epsilon(mu / 2, 1e-5)  # L = C instead of 2 C would claim this
    assert half < 0.5 * eps


def test_without_contraction_the_limit_is_met():
    limit = math.sqrt(1 + 399 / 60) * 0.4
    assert gdp.noisy_cgd_mu(1.0, **SETTING, sensitivity_ratio=0.4) == pytest.approx(limit)
    near = gdp.noisy_cgd_mu(1 - 1e-13, **SETTING, sensitivity_ratio=0.4)
    assert near == pytest.approx(limit, rel=1e-9)
    assert gdp.gdp_epsilon(limit, 1e-5) == pytest.approx(4.923, abs=5e-4)


@pytest.mark.parametrize(
    ("c", "num_batches", "epochs"),
    list(itertools.product([0.5, 0.99, 1 - 1e-4, 1.0], [1, 2, 60], [1, 2, 40])),
)
def test_between_the_linear_example_and_composition(c, num_batches, epochs):
    args = (c, num_batches, epochs, 0.4)
    mu, low = gdp.noisy_cgd_mu(*args), gdp.noisy_cgd_lower_mu(*args)
    assert low == pytest.approx(oracle.linear_mu(*args), rel=1e-9)
    assert low <= mu * (1 + 1e-12)
    assert mu <= gdp.composition_mu(epochs, 0.4) * (1 + 1e-12)


def test_one_batch_is_full_batch_descent_and_one_epoch_is_one_release():
    for c, epochs in itertools.product([0.3, 0.999], [1, 3, 200]):
        one = gdp.noisy_cgd_mu(c, 1, epochs, 0.4)
        assert one == gdp.noisy_gd_mu(c, epochs, 0.4)
        assert one == pytest.approx(oracle.gd_mu(c, epochs, 0.4), rel=1e-9)
        # The cyclic theorem itself is looser with one batch: it is not what is given.
        assert one <= oracle.cgd_mu(c, 1, epochs, 0.4) * (1 + 1e-12)
    assert gdp.noisy_cgd_mu(0.9, 7, 1, 2 / 5) == 2 / 5


def test_mu_grows_with_epochs_and_c_and_falls_with_noise():
    mu = gdp.noisy_cgd_mu
    epochs = [mu(0.9995, 60, e, 0.4) for e in (1, 2, 10, 100, 1000)]
    factors = [mu(c, 60, 400, 0.4) for c in (0.9, 0.999, 0.9999, 1.0)]
    noise = [mu(0.9995, 60, 400, 2 / s) for s in (1, 5, 15)]
    assert epochs == sorted(epochs)
    assert factors == sorted(factors)
    assert noise == sorted(noise, reverse=True)


def test_projected_descent_does_not_depend_on_epochs():
    mu = gdp.noisy_cgd_projected_mu(
        diameter=1.0,
        learning_rate=0.5,
        sensitivity=2.0,
        batch_size=10,
        num_batches=4,
        noise_std=1.0,
    )
    by_hand = math.sqrt(3 * 2 * 1 / (0.5 * 10 * 4) + 0.2**2 + 0.2**2 / 4 * 10)
    assert mu == pytest.approx(by_hand, rel=1e-12)


def test_composition_is_pythagorean():
    assert gdp.compose([0.3, 0.4]) == pytest.approx(0.5)


def test_accounting_takes_less_than_a_millisecond():
    def once():
        start = time.perf_counter()
        gdp.gdp_epsilon(gdp.noisy_cgd_mu(1 - 5.4e-5, 60, 400, 0.4), 1e-5)
        return time.perf_counter() - start

    assert min(once() for _ in range(20)) < 1e-3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gdp.gdp_epsilon(1.0, 0.0), "delta must lie in (0, 1); got delta=0.0."),
        (lambda: gdp.gdp_epsilon(1.0, 1.0), "delta must lie in (0, 1); got delta=1.0."),
        (lambda: gdp.gdp_epsilon(-1.0, 0.1), "mu must be >= 0"),
        (lambda: gdp.noisy_cgd_mu(1.1, 2, 2, 1.0), "c must lie in (0, 1]; got c=1.1."),
        (lambda: gdp.noisy_cgd_mu(0.9, 0, 2, 1.0), "num_batches must be > 0"),
        (lambda: gdp.noisy_cgd_mu(0.9, 2, 2, 0.0), "sensitivity_ratio must be > 0"),
    ],
)
def test_bad_values_are_named(call, message):
    with pytest.raises(ValueError, match="must") as error:
        call()
    assert message in str(error.value)


def test_dpsgd_is_accounted_by_dp_accounting():
    pytest.importorskip("dp_accounting")
    setting = {"sampling_rate": 1 / 60, "steps": 24_000, "delta": 1e-5}
    tight = poisson.dpsgd_epsilon(noise_multiplier=5, **setting)
    assert tight == pytest.approx(4.543, abs=2e-3)
    weaker = poisson.dpsgd_epsilon(noise_multiplier=5, adjacency="add_remove", **setting)
    proxy = poisson.dpsgd_epsilon(noise_multiplier=2.5, adjacency="add_remove", **setting)
    assert weaker < tight < proxy
    assert proxy == pytest.approx(4.785, abs=5e-3)
    rdp = poisson.dpsgd_epsilon(
        noise_multiplier=5, adjacency="add_remove", accountant="rdp", **setting
    )
    assert weaker < rdp < 1.2 * weaker
    sigma = poisson.calibrate_dpsgd(target_eps=4.0, delta=1e-5, sampling_rate=1 / 60, steps=24_000)
    found = poisson.dpsgd_epsilon(noise_multiplier=sigma, **setting)
    assert 4.0 * (1 - 2e-3) <= found <= 4.0


def test_choosing_among_trials_costs_more_than_one_and_less_than_all():
    pytest.importorskip("dp_accounting")
    one, all_nine = gdp.gdp_epsilon(0.5, 1e-5), gdp.gdp_epsilon(1.5, 1e-5)
    assert one < poisson.tuning_epsilon(0.5, 1e-5, mean_trials=9) < all_nine

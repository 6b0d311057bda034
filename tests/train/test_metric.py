import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxml.train import metric


def test_mean_over_parts_inside_scan():
    rng = np.random.default_rng(0)
    means, weights = rng.normal(size=7), rng.integers(1, 9, size=7)
    total, _ = jax.lax.scan(
        lambda mean, part: (mean.add(part[0], part[1]), None),
        metric.Mean.empty(),
        (jnp.float32(means), jnp.float32(weights)),
    )
    np.testing.assert_allclose(total.value, np.average(means, weights=weights), rtol=1e-5)


def test_parts_of_no_weight_add_nothing():
    mean = metric.Mean.empty().add(jnp.float32(jnp.nan), 0.0)
    assert math.isnan(float(mean.value))
    assert float(mean.add(jnp.float32(2.0)).value) == 2.0


def test_perplexity_of_a_uniform_guess_is_the_number_of_choices():
    np.testing.assert_allclose(metric.perplexity(math.log(50)), 50.0, rtol=1e-5)


@pytest.mark.parametrize(
    ("kind", "peak"),
    [
        ("NVIDIA H200", 989e12),
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA GeForce RTX 9999", None),
        ("cpu", None),
    ],
)
def test_peaks_by_device_kind(kind, peak):
    assert metric.peak_flops(kind) == peak


def test_utilisation():
    half = metric.mfu(989e12 / 2 / 6e9 * 4, 6e9, num_devices=4, device_kind="NVIDIA H200")
    assert half == pytest.approx(0.5)
    assert metric.mfu(100.0, 6e9) is None  # These devices are CPUs.
    with pytest.raises(ValueError, match="flops_per_item must be > 0"):
        metric.mfu(100.0, 0.0)


def test_no_rate_from_a_clock_that_stands_still():
    meter = metric.Throughput(clock=lambda: 1.0)
    assert meter.rate(0) is None and meter.rate(10) is None

"""Every way to a wrong privacy claim raises, or is marked in the report."""

import dataclasses

import numpy as np
import pytest

from jaxml.dp import (
    ConvexReLUConfig,
    Ledger,
    LedgerError,
    NoisyCGDConfig,
    PrivacyReport,
    calibrate_noise,
    composition,
    dpsgd_epsilon,
    gdp_epsilon,
    hidden_state,
    poisson_report,
    privacy,
    train_noisy_cgd,
)  # fmt: skip
from jaxml.dp import ledger as ledgers

MODEL = ConvexReLUConfig(4, 10, 2)
CFG = NoisyCGDConfig(batch_size=1000, epochs=400)
N = 60_000


def assert_refused(call, *words):
    with pytest.raises(ValueError) as error:
        call()
    for word in words:
        assert word in str(error.value)


def test_a_ragged_last_batch():
    message = "batch_size must divide num_examples; got batch_size=1024, num_examples=60000."
    assert_refused(
        lambda: hidden_state(dataclasses.replace(CFG, batch_size=1024), MODEL, N), message
    )
    x, y = np.ones((10, 4), np.float32), np.zeros(10, int)
    ragged = NoisyCGDConfig(batch_size=3, epochs=1)
    assert_refused(lambda: train_noisy_cgd(None, x, y, MODEL, ragged), "batch_size must divide")


def test_too_high_a_learning_rate():
    for rate, good in ((3.9, True), (4.0, False)):
        cfg = dataclasses.replace(CFG, learning_rate=rate, l2=5.4e-5 / rate)
        if good:
            assert hidden_state(cfg, MODEL, N).contraction == pytest.approx(1 - 5.4e-5)
        else:
            assert_refused(
                lambda cfg=cfg: hidden_state(cfg, MODEL, N), "must be <= 2", "learning_rate=4.0"
            )
    raw = ConvexReLUConfig(784, 10, 100, feature_norm="none", norm_bound=3.3e4)  # pixels 0..255
    published = dataclasses.replace(CFG, learning_rate=3.1e-4, l2=0.01)
    assert_refused(lambda: hidden_state(published, raw, N), "no contraction")


def test_flat_clipping_of_many_classes_is_marked():
    flat = dataclasses.replace(CFG, clip_mode="flat")
    report = hidden_state(flat, MODEL, N)
    assert not report.proved
    assert "heuristic (flat clip, K>=3)" in report.text()
    assert report.epsilon_composition > 10 * report.epsilon  # what is proved for it
    assert hidden_state(flat, ConvexReLUConfig(4, 2, 2), N).proved
    for mode in ("envelope", "lipschitz"):
        assert hidden_state(dataclasses.replace(CFG, clip_mode=mode), MODEL, N).proved


@pytest.mark.parametrize(
    "facts",
    [{"order": "reshuffled"}, {"order": "poisson"}, {"momentum": 0.9}, {"adaptive": True},
     {"released": "best"}, {"released": "all"}],
)  # fmt: skip
def test_trainings_the_theorem_does_not_cover(facts):
    assert_refused(lambda: hidden_state(CFG, MODEL, N, **facts), "hidden-state accounting needs")
    assert composition(CFG, MODEL, N).proved


def test_poisson_accounting_of_fixed_batches():
    setting = {"sampling_rate": 1 / 60, "noise_multiplier": 5.0, "steps": 60, "delta": 1e-5}
    for order in ("cyclic", "reshuffled"):
        assert_refused(
            lambda order=order: dpsgd_epsilon(**setting, order=order), "order must be 'poisson'"
        )
        assert_refused(
            lambda order=order: poisson_report(**setting, clip_norm=1.0, order=order),
            "order must be 'poisson'",
        )


def test_no_noise_no_report():
    quiet = dataclasses.replace(CFG, noise_multiplier=0.0)
    assert_refused(
        lambda: hidden_state(quiet, MODEL, N), "noise_multiplier must be > 0 for a report"
    )
    x, y = np.ones((10, 4), np.float32), np.zeros(10, int)
    small = NoisyCGDConfig(batch_size=5, epochs=1, noise_multiplier=0.0)
    assert_refused(
        lambda: train_noisy_cgd(None, x, y, MODEL, small), "noise_multiplier must be > 0"
    )
    assert train_noisy_cgd(None, x, y, MODEL, small, private=False).report is None


def test_bad_data():
    x, y = np.ones((10, 4), np.float32), np.zeros(10, int)
    cfg = NoisyCGDConfig(batch_size=5, epochs=1)
    assert_refused(
        lambda: train_noisy_cgd(None, x, y + 10, MODEL, cfg), "label must lie in [0, 10)"
    )
    assert_refused(lambda: train_noisy_cgd(None, x, y - 1, MODEL, cfg), "got labels from -1 to -1")
    bad = x.copy()
    bad[3, 1] = np.nan
    assert_refused(lambda: train_noisy_cgd(None, bad, y, MODEL, cfg), "x must be finite")
    assert_refused(lambda: train_noisy_cgd(None, x[:, :3], y, MODEL, cfg), "x must have shape")
    assert_refused(lambda: NoisyCGDConfig(delta=1.0), "delta must lie in (0, 1)")
    assert_refused(lambda: NoisyCGDConfig(noise_multiplier=-1.0), "noise_multiplier must be >= 0")


def test_replacing_one_costs_twice_blanking_one():
    report = hidden_state(CFG, MODEL, N)
    assert report.epsilon == pytest.approx(4.611, abs=5e-4)
    assert report.sensitivity == pytest.approx(2.0)
    blank = hidden_state(dataclasses.replace(CFG, adjacency="zero_out"), MODEL, N)
    assert blank.mu == pytest.approx(report.mu / 2)
    assert blank.sensitivity == pytest.approx(1.0)
    assert "zero_out" in blank.text()


def test_lipschitz_mode_takes_the_bound_of_the_loss():
    free = dataclasses.replace(CFG, clip_mode="lipschitz")
    assert hidden_state(free, MODEL, N).sensitivity == pytest.approx(2 * np.sqrt(2))


def test_the_cost_of_choosing_is_stated():
    report = hidden_state(CFG, MODEL, N)
    assert "choosing settings on these data is not counted" in report.text()
    tuned = report.tuned(9)
    assert tuned.epsilon == report.epsilon
    assert tuned.epsilon_with_tuning == pytest.approx(gdp_epsilon(3 * report.mu, 1e-5))
    assert "chosen among 9 trainings" in tuned.text()


def test_the_report_says_that_the_last_iterate_alone_is_covered():
    assert "any exported checkpoint voids it" in hidden_state(CFG, MODEL, N).text()


@pytest.mark.parametrize("eps", [0.5, 1.34, 4.62, 8.0])
def test_calibrated_noise_meets_its_target(eps):
    sigma = calibrate_noise(eps, 1e-5, contraction=1 - 5.4e-5, num_batches=60, epochs=400)
    found = hidden_state(dataclasses.replace(CFG, noise_multiplier=sigma), MODEL, N).epsilon
    assert eps * (1 - 1e-9) <= found <= eps


def test_a_ledger_adds_up_and_refuses_what_does_not_belong(tmp_path):
    report = hidden_state(CFG, MODEL, N)
    book = Ledger().add(report).add(report.tuned(3))
    assert book.mu == pytest.approx(2 * report.mu)
    assert book.epsilon(1e-5) == pytest.approx(gdp_epsilon(2 * report.mu, 1e-5))
    book.save(tmp_path / "ledger.json")
    assert ledgers.load(tmp_path / "ledger.json") == book
    assert ledgers.load(tmp_path / "none.json") == Ledger()
    heuristic = hidden_state(dataclasses.replace(CFG, clip_mode="flat"), MODEL, N)
    blank = hidden_state(dataclasses.replace(CFG, adjacency="zero_out"), MODEL, N)
    for other, word in ((heuristic, "guarantee must be the same"), (blank, "adjacency must be")):
        with pytest.raises(LedgerError, match=word):
            book.add(other)
    without_mu = dataclasses.replace(report, mu=None, accountant="poisson")
    with pytest.raises(LedgerError, match="only releases with mu"):
        book.add(without_mu)
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(LedgerError, match="is not a ledger"):
        ledgers.load(tmp_path / "bad.json")
    with pytest.raises(ValueError, match="tuned needs a report with mu"):
        without_mu.tuned(2)
    assert isinstance(report, PrivacyReport)


def test_calibration_refuses_unknown_neighbours():
    assert_refused(
        lambda: privacy.calibrate_noise(
            1.0, 1e-5, contraction=0.9, num_batches=2, epochs=2, adjacency="replace"
        ),
        "adjacency must be one of",
    )

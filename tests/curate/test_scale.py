import csv
import os
from pathlib import Path

import numpy as np
import pytest

from jaxml.curate import huber, scale
from jaxml.curate.scale import C4_LAW, Law, Repetition

DATA = Path(os.environ.get("JAXML_DATA", "nowhere")) / "curate"
needs_data = pytest.mark.skipif(not DATA.exists(), reason="needs JAXML_DATA/curate")


def table(name):
    with (DATA / name).open() as handle:
        rows = list(csv.DictReader(handle))
    return {k: np.array([float(r[k]) for r in rows]) for k in rows[0] if k != "name"}


def slow_constrained(n, d, u, star, law):
    """The formulas once more."""
    a, b, e = np.exp(law.a), np.exp(law.b), np.exp(law.e)
    g = (law.alpha * a / (law.beta * b)) ** (1 / (law.alpha + law.beta))
    u_n = min(n, (u * g) ** (law.beta / law.alpha) * g)
    r_d, r_n = max(d / u - 1, 0), max(n / u_n - 1, 0)
    n = u_n + u_n * star[1] * (1 - np.exp(-r_n / star[1]))
    d = u + u * star[0] * (1 - np.exp(-r_d / star[0]))
    return e + a / n**law.alpha + b / d**law.beta


@pytest.fixture(scope="module")
def noiseless():
    law = Law(np.log(400.0), np.log(1800.0), np.log(1.7), 0.34, 0.36)
    rng = np.random.default_rng(0)
    n, d = np.exp(rng.uniform(17, 23, 60)), np.exp(rng.uniform(20, 26, 60))
    loss = 1.7 + 400 / n**0.34 + 1800 / d**0.36
    return (
        law,
        scale.fit_chinchilla(n, d, loss, starts=scale.GRID[::37], num_bootstrap=2),
        n,
        d,
        loss,
    )


def test_a_noiseless_law_is_recovered(noiseless):
    law, fit, n, d, loss = noiseless
    np.testing.assert_allclose(fit.law.loss(n, d), loss, rtol=1e-6)
    np.testing.assert_allclose(fit.law, law, rtol=1e-5)
    assert fit.objective < 1e-9
    assert fit.bootstrap.shape == (2, 5)


def test_the_optimum_is_the_least_loss(noiseless):
    law = noiseless[0]
    n, d = law.optimum(1e21)
    assert 6 * n * d == pytest.approx(1e21)
    around = n * np.exp(np.linspace(-0.5, 0.5, 101))
    assert np.argmin(law.loss(around, 1e21 / 6 / around)) == 50


@needs_data
@pytest.mark.slow
def test_the_240_runs_reach_the_published_objective():
    runs = table("chinchilla_runs.csv")
    keep = np.sort(np.argsort(runs["loss"])[:-5])
    args = [runs[name][keep] for name in ("n_params", "n_tokens", "loss")]
    fit = scale.fit_chinchilla(*args)
    assert fit.objective <= 0.0010183
    np.testing.assert_allclose(np.exp(fit.law[:3]), [477.83, 2143.4, 1.81722], rtol=0.02)
    hoffmann = Law(np.log(406.4), np.log(410.7), np.log(1.69), 0.34, 0.28)
    r = np.log(hoffmann.loss(args[0], args[1])) - np.log(args[2])
    assert float(huber.loss(r, 1e-3)) == pytest.approx(0.00412, rel=0.01)
    n, d = fit.law.optimum(5.76e23)
    assert d / n == pytest.approx(17.9, abs=0.3)


@needs_data
@pytest.mark.slow
def test_the_182_runs_have_better_minima_than_the_published_one():
    runs = table("data_constrained_runs.csv")
    args = [runs[name] for name in ("n_params", "n_tokens", "n_unique", "loss")]
    fit = scale.fit_repetition(*args)
    np.testing.assert_allclose(fit.paper.params, [15.37, 5.31], atol=0.05)
    assert fit.paper.objective == pytest.approx(0.01582593, rel=1e-4)
    assert any(m.objective == pytest.approx(0.01580466, rel=1e-5) for m in fit.minima)
    assert fit.best.objective <= 0.0158048
    assert fit.r2[0] == pytest.approx(0.7722, abs=2e-3)
    assert fit.r2[2] == pytest.approx(0.4452, abs=2e-3)


@pytest.mark.parametrize("sizes", [(6.34e9, 242e9, 25e9), (1e9, 1e9, 1e9), (5e10, 9e9, 1e8)])
def test_constrained_loss_is_its_formula(sizes):
    want = slow_constrained(*sizes, scale.PUBLISHED, C4_LAW)
    assert float(scale.constrained_loss(*sizes)) == pytest.approx(want, rel=1e-12)


def test_the_published_value():
    assert float(scale.constrained_loss(6.34e9, 242e9, 25e9)) == pytest.approx(
        2.2256440889984477, rel=1e-9
    )


def test_one_epoch_is_the_plain_law():
    n, d = C4_LAW.optimum(1e20)
    got = scale.constrained_loss(n, d, d)
    assert float(got) == pytest.approx(float(C4_LAW.loss(n, d)), rel=1e-9)


@pytest.mark.slow
def test_a_planted_repetition_is_recovered():
    rng = np.random.default_rng(1)
    u = np.exp(rng.uniform(20, 23, 40))
    d, n = u * rng.uniform(1, 40, 40), np.exp(rng.uniform(18, 23, 40))
    star = Repetition(12.0, 4.0)
    loss = [slow_constrained(*row, star, C4_LAW) for row in zip(n, d, u, strict=True)]
    fit = scale.fit_repetition(n, d, u, loss)
    np.testing.assert_allclose(fit.best.params, star, rtol=1e-4)


def test_the_planner_finds_the_published_plan():
    best = scale.plan(1e22, 25e9)[0]
    assert best.num_tokens == pytest.approx(237.34e9, rel=2e-3)
    assert best.num_params == pytest.approx(7.022e9, rel=2e-3)
    assert best.num_epochs == pytest.approx(9.49, abs=0.02)
    free = scale.plan(1e20, 1e15)
    assert free[0].num_epochs == 1
    assert free[0].num_params == pytest.approx(C4_LAW.optimum(1e20)[0], rel=1e-3)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match=r"loss must be finite and > 0; got loss\[1\]=nan"):
        scale.fit_chinchilla([1, 2], [1, 2], [1, np.nan])
    with pytest.raises(ValueError, match="num_runs must be >= 5"):
        scale.fit_chinchilla([1, 2], [1, 2], [1, 2])
    with pytest.raises(ValueError, match="one length"):
        scale.fit_chinchilla([1, 2], [1, 2, 3], [1, 2])
    with pytest.raises(ValueError, match="num_tokens must be >= unique_tokens; got 1 < 2 in run 1"):
        scale.fit_repetition([1, 1], [1, 1], [1, 2], [1, 1])
    with pytest.raises(ValueError, match="flops must be > 0"):
        scale.plan(0, 1)

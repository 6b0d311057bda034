"""Sweeps, fronts, searches, fits, several packages."""

import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxml.chiplet import measured, presets, search, speed
from jaxml.chiplet.cluster import Cluster, simulate_cluster
from jaxml.chiplet.config import LinkConfig
from jaxml.chiplet.fit import fit, leave_one_out
from jaxml.chiplet.frontier import exhaustive, frontier
from jaxml.chiplet.optimize import ASPECT, Budget, optimize
from jaxml.chiplet.pareto import front_of, pareto
from jaxml.chiplet.simulate import mixed, simulate
from jaxml.chiplet.sweep import place, sweep, sweep_slopes

MODEL, SYSTEM = presets.MODELS["llama2-70b"], presets.paper_v1()


def _dominated(points, i):
    others = np.delete(points, i, 0)
    return ((others <= points[i]).all(1) & (others < points[i]).any(1)).any()


@given(st.integers(1, 40), st.integers(1, 4), st.integers(0, 1000))
def test_pareto_is_the_definition(n, k, seed):
    points = np.random.default_rng(seed).integers(0, 5, (n, k)).astype(float)
    want = [not _dominated(points, i) for i in range(n)]
    assert pareto(points).tolist() == want


def test_pareto_refuses_nonsense():
    with pytest.raises(ValueError, match=r"points must have shape \[n, k\]"):
        pareto([1.0, 2.0])
    with pytest.raises(ValueError, match="must be finite"):
        pareto([[1.0, np.nan]])


AXES = {
    "mesh.rows": [8.0, 16.0, 32.0, 48.0],
    "die.num_arrays": [2.0, 4.0, 8.0, 16.0],
    "mesh.cols": [8.0, 16.0, 32.0],
    "die.clock_hz": [5e8, 1e9, 1.5e9],
    "die.weight_sram_bytes": [4 * 2.0**20, 20 * 2.0**20],
}


@pytest.mark.parametrize("against", ["area_mm2", pytest.param("energy_j", marks=pytest.mark.slow)])
def test_streamed_front_is_that_of_the_whole_grid(against):
    keep = 4 if against == "energy_j" else 64  # with 4, chunks run over and are computed again
    found = frontier(MODEL, SYSTEM, AXES, against=against, chunk=64, rounds=2, keep=keep, sample=50)
    want, report = exhaustive(MODEL, SYSTEM, AXES, against=against)
    assert sorted(found.indices.tolist()) == sorted(want.tolist())
    assert found.num_designs == len(report.time_s) == 288
    assert found.num_feasible == report.feasible.sum() < 288
    np.testing.assert_array_equal(found.time_s, report.time_s[found.indices])


def test_sweep_over_eight_devices_is_the_loop_bit_by_bit(x64):
    values = speed.random_designs(50)
    spread = sweep(MODEL, SYSTEM, values, chunk=7, mesh=speed.device_mesh())
    for i in (0, 7, 13, 49):
        model, system = place(MODEL, SYSTEM, {path: float(v[i]) for path, v in values.items()})
        alone = simulate(model, system)
        for a, b in zip(jax.tree.leaves(alone), jax.tree.leaves(spread), strict=True):
            np.testing.assert_array_equal(a, b[i])
    assert not np.asarray(spread.feasible).all() and np.asarray(spread.feasible).any()


@pytest.mark.slow
def test_slopes_are_differences(x64):
    values = {"link.bandwidth_bytes_s": np.array([16e9, 64e9]), "mesh.rows": np.array([20.0, 50.0])}
    seconds, slopes = sweep_slopes(MODEL, SYSTEM, values, objective="edp_js")
    for path in values:
        moved = [
            sweep_slopes(
                MODEL, SYSTEM, {**values, path: values[path] * np.exp(d)}, objective="edp_js"
            )[0]
            for d in (1e-5, -1e-5)
        ]
        difference = (np.log(moved[0]) - np.log(moved[1])) / 2e-5
        np.testing.assert_allclose(slopes[path], difference, atol=1e-5)
    assert seconds.shape == (2,)


@pytest.mark.slow
def test_gradients_find_the_aspect_of_the_closed_form():
    """Without latency and at many dies the best aspect is row / 10."""
    still = dataclasses.replace(SYSTEM, link=LinkConfig(32e9, 0.0))
    found = optimize(MODEL, still, {ASPECT: (0.05, 20.0)}, steps=150)
    kv, h, f = 1024, 8192, 28672
    row = 5 + 10 * kv / h + 7 * f / h
    assert row == pytest.approx(30.75)
    assert found.values[ASPECT] == pytest.approx(row / 10, rel=0.03)
    assert (np.diff(found.history) <= 0).all()


@pytest.mark.slow
def test_budget_is_kept_and_gradients_beat_random_search():
    found = search.within_budget(steps=60, seeds=2)
    assert found.found.objective < min(found.random)
    report, budget = found.found.report, found.budget
    assert float(report.energy_j / report.time_s) <= budget.power_w * (1 + 1e-5)
    assert float(report.weight_margin) >= -1e-6
    with pytest.raises(ValueError, match="no design within"):
        optimize(MODEL, SYSTEM, search.HARDWARE, budget=Budget(area_mm2=1.0), steps=60)


def test_fit_recovers_constants_and_holds_out():
    x = jnp.arange(1.0, 9.0)

    def predict(p):
        return p["a"] + p["b"] * x

    wanted = (2.0 + 0.5 * np.arange(1.0, 9.0)).tolist()
    found = fit(predict, wanted, {"a": 1.0, "b": 1.0})
    assert found.params == pytest.approx({"a": 2.0, "b": 0.5}, rel=1e-6)
    assert leave_one_out(predict, wanted, list("aabbccdd"), {"a": 1.0, "b": 1.0}).worst < 1e-6
    with pytest.raises(ValueError, match="at least as many points as constants; got 1 points"):
        fit(predict, wanted, {"a": 1.0, "b": 1.0}, weights=[1, 0, 0, 0, 0, 0, 0, 0])
    with pytest.raises(ValueError, match="a must be > 0; got a=-1"):
        fit(predict, wanted, {"a": -1.0, "b": 1.0})


def _iteration_by_hand(h, heads, layers, p, v, batch, mb, selective, eta, nu):
    """The recipe of the GPU mode, written out for tensor degree 8 and length 2,048."""
    s, tp, peak, hbm = 2048, 8, 312e12, 0.8 * 2039e9
    T = mb * s
    gemm, att = 24 * T * h**2 / tp / (eta * peak), 4 * T * s * h / tp / (0.75 * eta * peak)
    last = 22 * T * h / (tp if selective else 1)
    traffic = (8 * T * s * heads / tp + 22 * T / tp * h + last) / hbm
    ar = 2 * (tp - 1) / tp * 2 * T * h / (nu * 300e9) + 20e-6
    f = gemm + att + traffic + 2 * ar
    b = 2 * (gemm + att) + 1.5 * traffic + 2 * ar * (1.5 if selective else 1)
    rec = att + 8 * T * s * heads / tp / hbm if selective else f
    m = batch / mb
    head = m * 6 * T * h * 51200 / tp / (eta * peak)
    return (
        layers / p * (f + b + rec) * (m + (p - 1) / v)
        + head
        + 12 * h**2 * layers / (p * tp) * 28 / hbm
    )


def test_measured_iterations():
    fitted, held = measured.fit_iterations()
    assert fitted.mean < 0.025 and held.mean < 0.05 and held.worst < 0.10
    assert fitted.mean < measured.CALCULON_ERROR["mean"]
    assert fitted.worst < measured.CALCULON_ERROR["worst"]
    shape, plan, _, _ = measured.iterations()
    for i in range(8):
        want = _iteration_by_hand(
            shape.width[i],
            shape.num_heads[i],
            shape.num_layers[i],
            plan.pipeline[i],
            plan.interleave[i],
            plan.global_batch[i],
            plan.micro_batch[i],
            plan.selective[i],
            fitted.params["eta"],
            fitted.params["nu"],
        )
        assert fitted.predicted[i] == pytest.approx(want, rel=1e-9)


def test_embedded_iterations_are_those_of_the_data_set():
    from jaxml.inputs import source

    try:
        located = source.find("chiplet_measured", kind="raw")
    except source.DataNotFoundError as error:
        pytest.skip(str(error))
    rows = measured._table(located, "megatron_a100_iteration_measured.csv")
    columns = ("sec_full_recompute", "sec_seqpar_selective")
    want = [float(row[column]) for row in rows for column in columns]
    _, _, seconds, _ = measured.iterations()
    assert seconds.tolist() == want


@pytest.mark.slow
def test_kernels_are_fitted_and_held_out():
    try:
        fits = [measured.fit_gemm(), measured.fit_all_reduce()]
    except measured.source.DataNotFoundError as error:
        pytest.skip(str(error))
    for fitted, held in fits:
        assert np.isfinite(fitted.error).all() and held.mean >= fitted.mean


@pytest.mark.slow
def test_mixed_is_at_least_as_fast_as_its_parts():
    report, chosen = mixed(MODEL, SYSTEM)
    assert set(chosen) == {"qkv", "out", "up", "down"}
    for method in ("hecaton", "summa_kv"):
        alone = float(simulate(MODEL, SYSTEM, method=method).time_s)
        assert float(report.time_s) <= alone * (1 + 1e-6)


def test_one_package_is_a_cluster(x64):
    with jax.disable_jit():
        alone = simulate(MODEL, SYSTEM)
        one = simulate_cluster(MODEL, SYSTEM, Cluster())
        assert float(one.time_s) == pytest.approx(float(alone.time_s), rel=1e-12)
        assert float(one.energy_j) == pytest.approx(float(alone.energy_j), rel=1e-12)
        assert float(one.network_bytes) == float(one.bubble_s) == 0
        cluster = Cluster(pipeline=4, data=2, micro_batches=8, interleave=2)
        many = simulate_cluster(MODEL, SYSTEM, cluster)
    package = float(many.package.time_s)
    assert float(many.work_s) == pytest.approx(8 * package)
    assert float(many.bubble_s) == pytest.approx(3 / 2 * package)
    tokens, h = 256 * 4096 / 16, 8192
    edges = 2 * (4 * 2 - 1) * tokens * h * 2 * 8 * 2  # both ways, boundaries, bytes, parts, copies
    gradients = 2 * (2 - 1) * 80 * (2 * h * h + 2 * h * 1024 + 3 * h * 28672) * 4
    assert float(many.network_bytes) == pytest.approx(edges + gradients, rel=1e-9)
    parts = many.work_s + many.bubble_s + many.messages_s + many.gradients_s
    assert float(many.time_s) == pytest.approx(float(parts), rel=1e-12)
    with pytest.raises(ValueError, match="must divide num_layers; got pipeline . interleave=7"):
        simulate_cluster(MODEL, SYSTEM, Cluster(pipeline=7))


def test_front_of_a_report_leaves_out_what_does_not_fit():
    report = types.SimpleNamespace(
        time_s=np.array([1.0, 3.0, 2.0, 4.0]),
        energy_j=np.array([1.0, 2.0, 3.0, 4.0]),
        feasible=np.array([False, True, True, True]),
    )
    assert front_of(report).tolist() == [2, 1]
    with pytest.raises(ValueError, match="objectives must be numbers of a report; got 'speed'"):
        front_of(report, ("speed",))

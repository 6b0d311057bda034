"""The model against a second transcription, its identities, and its gradients."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxml.chiplet import field, presets
from jaxml.chiplet.compute import gemm_cycles
from jaxml.chiplet.config import DieConfig, LinkConfig, Mesh2D, TrainingConfig
from jaxml.chiplet.method import METHODS
from jaxml.chiplet.optimize import elasticity
from jaxml.chiplet.simulate import simulate
from jaxml.chiplet.sweep import sweep
from jaxml.chiplet.workload import num_params
from tests.chiplet import oracle

M = presets.MODELS
FLAT = ("mac_j", "sram_j", "nop_j", "dram_j", "static_j")


@pytest.fixture
def eager():
    """No compilation: a program per method would cost more than it computes."""
    with jax.disable_jit():
        yield


def _stack(records):
    return jax.tree.map(lambda *xs: np.array(xs, np.float64), *records)


def _assert_same(cases, method, training=None, rtol=1e-9):
    """All cases (model, system) in one call, each against the oracle."""
    training = training or TrainingConfig()
    models, systems = zip(*cases, strict=True)
    changed = dataclasses.replace(_stack(systems), training=training)
    batch = np.array([64 * m.seq_len for m in models])
    report = simulate(_stack(models), changed, method=method, batch_tokens=batch)
    for i, (model, system) in enumerate(cases):
        want = oracle.simulate(
            *oracle.plain(model, system),
            method,
            int(batch[i]),
            training.recompute,
            training.fused,
            training.regather,
            training.nop_overlap,
        )
        for name, number in want.items():
            got = getattr(report.energy if name in FLAT else report, name)
            np.testing.assert_allclose(float(got[i]), number, rtol=rtol, err_msg=f"{i} {name}")


SQUARE = [
    (M[name], presets.paper_v1(side, side))
    for side, name in ((4, "bert-large"), (16, "llama2-7b"), (32, "llama2-70b"), (7, "bloom-1.7b"))
]
OBLONG = [
    (M["tinyllama-1.1b"], presets.default(*shape))
    for shape in ((1, 1), (1, 8), (2, 4), (3, 5), (64, 16), (16, 2))
]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_equals_the_second_transcription(x64, eager, method):
    _assert_same(SQUARE if METHODS[method].square else SQUARE + OBLONG, method)


@pytest.mark.parametrize(
    "training",
    [
        TrainingConfig(recompute=True),
        TrainingConfig(fused=False),
        TrainingConfig(regather=False, nop_overlap=0.5),
    ],
    ids=["recompute", "unfused", "overlap"],
)
def test_ablations_equal_the_second_transcription(x64, eager, training):
    for method in ("hecaton", "flat_ring"):
        _assert_same(SQUARE[1:3], method, training)


def test_float32_agrees_with_float64():
    rng = np.random.default_rng(0)
    n = 2000
    values = {
        "link.bandwidth_bytes_s": rng.uniform(8e9, 256e9, n),
        "link.latency_s": rng.uniform(1e-9, 5e-8, n),
        "die.num_arrays": rng.integers(1, 17, n),
        "die.activation_sram_bytes": 2.0**17 * rng.integers(8, 200, n),
        "mesh.rows": 2.0 ** rng.integers(2, 7, n),
        "mesh.cols": 2.0 ** rng.integers(2, 7, n),
    }
    values["link.bandwidth_bytes_s"] = values["link.bandwidth_bytes_s"].astype(np.float32)
    values["link.latency_s"] = values["link.latency_s"].astype(np.float32)
    for method in ("hecaton",):
        low = sweep(M["llama2-70b"], presets.paper_v1(), values, method=method)
        with jax.enable_x64(True):
            high = sweep(M["llama2-70b"], presets.paper_v1(), values, method=method)
        for name in ("time_s", "energy_j", "mfu", "byte_hops", "dram_bytes", "chunk_limit"):
            np.testing.assert_allclose(getattr(low, name), getattr(high, name), rtol=1e-4)
        np.testing.assert_array_equal(low.feasible, high.feasible)


def test_parameter_counts_are_those_of_the_models():
    counts = {"llama2-70b": 68.45, "llama2-7b": 6.476, "llama3.1-405b": 401.65}
    counts["tinyllama-1.1b"] = 0.969
    for name, billions in counts.items():
        assert num_params(M[name]) / 1e9 == pytest.approx(billions, rel=1e-3)


@pytest.mark.parametrize(("t", "k", "m", "cycles"), [(256, 256, 256, 22399), (512, 160, 96, 9089)])
def test_cycles_are_those_of_scale_sim(t, k, m, cycles):
    die = DieConfig(num_arrays=1, array_rows=32, array_cols=32)
    assert float(gemm_cycles((t, 1), (k, 1), (m, 1), die, max_arrays=1)) - 1 == cycles


def test_one_die_moves_nothing_and_methods_agree(x64, eager):
    reports = {
        m: simulate(M["bert-large"], presets.default(1, 1), method=m, batch_tokens=1024)
        for m in METHODS
    }
    for report in reports.values():
        assert float(report.byte_hops) == float(report.nop_s) == float(report.sent_bytes) == 0
    times = {float(r.time_s) for m, r in reports.items() if not METHODS[m].square}
    assert max(times) == pytest.approx(min(times), rel=1e-12)


def test_energy_terms_sum_to_the_total(x64, eager):
    report = simulate(M["llama2-7b"], presets.default())
    assert float(sum(report.energy)) == pytest.approx(float(report.energy_j), rel=1e-12)
    phases = sum(float(p.total_s) for p in report.phases.values())
    assert phases == pytest.approx(float(report.time_s), rel=1e-12)


@pytest.mark.parametrize(
    "method",
    ["hecaton", *(pytest.param(m, marks=pytest.mark.slow) for m in ("flat_ring", "optimus"))],
)
def test_time_is_homogeneous_in_clock_bandwidths_and_latency(x64, eager, method):
    el = elasticity(M["llama2-70b"], presets.paper_v1(), method=method)
    names = ("die.clock_hz", "link.bandwidth_bytes_s", "dram.channel_bytes_s")
    total = -sum(el[name] for name in names) + el["link.latency_s"]
    assert total == pytest.approx(1, abs=1e-6)


SMOOTH_FIELDS = (
    "die.clock_hz",
    "die.activation_sram_bytes",
    "die.vector_lanes",
    "link.bandwidth_bytes_s",
    "link.latency_s",
    "mesh.rows",
    "energy.static_w",
)


@pytest.mark.parametrize("objective", ["energy", pytest.param("time", marks=pytest.mark.slow)])
def test_gradients_are_differences_and_not_zero(x64, eager, objective):
    model, system = M["llama2-70b"], presets.paper_v1()
    slopes = elasticity(model, system, objective=objective, method="dual")
    moved = [
        field.put(system, path, float(field.get(system, path) * np.exp(sign * 1e-5)))
        for path in SMOOTH_FIELDS
        for sign in (1, -1)
    ]
    report = simulate(model, _stack(moved), method="dual", smooth=True)
    logs = np.log(np.asarray(report.time_s if objective == "time" else report.energy_j))
    for i, path in enumerate(SMOOTH_FIELDS):
        assert slopes[path] == pytest.approx((logs[2 * i] - logs[2 * i + 1]) / 2e-5, abs=1e-5), path
        assert abs(slopes[path]) > 1e-4 or (path, objective) == ("energy.static_w", "time"), path


def test_gradients_are_finite_where_the_design_is_infeasible(x64, eager):
    system = presets.paper_v1(2, 2)
    report = simulate(M["llama3.1-405b"], system, method="flat_ring")
    assert not bool(report.feasible) and float(report.weight_margin) < 0
    assert all(np.isfinite(x) for x in jax.tree.leaves(report))
    slopes = elasticity(M["llama3.1-405b"], system, method="flat_ring", objective="energy")
    assert all(np.isfinite(list(slopes.values())))


def _no_latency(system):
    return dataclasses.replace(system, link=dataclasses.replace(system.link, latency_s=0.0))


def test_weak_scaling_family(x64, eager):
    base = dataclasses.replace(M["bert-large"], num_heads=16, num_kv_heads=16)
    chunk, nop = {}, {}
    for k in (1, 2, 4, 8):
        model = dataclasses.replace(
            base, width=1024 * k, num_heads=16 * k, num_kv_heads=16 * k, ffn_width=4096 * k
        )
        system = _no_latency(presets.paper_v1(4 * k, 4 * k))
        for method in ("hecaton", "flat_ring"):
            report = simulate(model, system, method=method, batch_tokens=2**17, smooth=True)
            chunk[method, k], nop[method, k] = float(report.chunk_tokens), float(report.nop_s)
    for k in (2, 4, 8):
        assert chunk["hecaton", k] == pytest.approx(chunk["hecaton", 1], rel=1e-12)
        grown = nop["hecaton", k] / nop["hecaton", 1]
        assert grown == pytest.approx((1 - 1 / (4 * k)) / (1 - 1 / 4), rel=1e-12)
        flat = nop["flat_ring", k] / nop["flat_ring", 1]
        assert flat == pytest.approx(k * (1 - 1 / (16 * k**2)) / (1 - 1 / 16), rel=1e-12)


def test_traffic_per_token_has_the_coefficients_of_the_paper_scheme(x64, eager):
    model = M["bert-large"]  # plain attention, f = 4 h, no gate: 10 along columns, 35 along rows
    system = _no_latency(presets.default(4, 4))
    report = simulate(model, system, batch_tokens=2**15)
    width, fill, tokens = model.width, 3 / 4, 2**15
    sent = (10 * width + 35 * width) / 4 * fill * 2 * tokens * model.num_layers
    assert float(report.sent_bytes) == pytest.approx(sent, rel=1e-12)


def test_lora_trains_faster_and_touches_less_memory(x64, eager):
    model, system = M["llama2-70b"], presets.paper_v1()
    full = simulate(model, system)
    for method in ("hecaton", "flat_ring", "summa"):
        whole = full if method == "hecaton" else simulate(model, system, method=method)
        tuned = dataclasses.replace(system, training=TrainingConfig(lora_rank=16))
        small = simulate(model, tuned, method=method)
        # Thin all-reduces through a ring of 1,024 dies are all latency: there tuning is no faster.
        assert (float(small.time_s) < float(whole.time_s)) == (method != "flat_ring")
        assert float(small.flop) < 0.75 * float(whole.flop)
        assert float(small.weight_margin) > float(whole.weight_margin)
    assert float(full.flop) / float(small.flop) < 1.6


def test_mesh_sides_that_are_fractions_are_for_the_smooth_model():
    odd = dataclasses.replace(presets.default(), mesh=Mesh2D(2.5, 4.0))
    with pytest.raises(ValueError, match="mesh.rows must be a whole number >= 1 dies; got"):
        simulate(M["llama2-7b"], odd)
    assert np.isfinite(float(simulate(M["llama2-7b"], odd, smooth=True).time_s))


def test_inside_jit_and_grad():
    def seconds(bandwidth):
        system = dataclasses.replace(presets.default(), link=LinkConfig(bandwidth))
        return simulate(M["llama2-7b"], system, smooth=True).time_s

    assert float(jax.jit(jax.grad(seconds))(jnp.float32(32e9))) < 0

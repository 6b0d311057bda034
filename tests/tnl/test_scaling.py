"""Measuring over several devices: rows from programs, whole runs on eight host devices (slow)."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from jaxml.tnl import elastic, program, scaling
from jaxml.tnl.config import TNLConfig

ROOT = Path(__file__).resolve().parents[2]
SMALL = TNLConfig(64, 16, 1, 2, 16, lrpe_layers=())


def _rows(rows):
    return {(row.case, row.metric): row for row in rows}


@pytest.fixture
def made():
    """One device and eight, planned; as if they were compiled."""
    plans = [program.planned(SMALL, {"seq": n}, jax.devices()) for n in (1, 8)]
    one = program.program("one", plans[0], 1, 128)
    many = [program.program(f"N{n}", plans[1], 1, n) for n in (128, 1024)]
    one.bytes, one.sent = 100, 0
    for found, size in zip(many, (200, 5000), strict=True):
        found.bytes, found.sent = size, 640
    return one, many


def test_planned_programs_hold_no_arrays(made):
    one, many = made
    assert all(isinstance(x, jax.ShapeDtypeStruct) for x in jax.tree.leaves(one.trainee.now))
    assert (one.num_devices, many[0].num_devices, many[1].tokens) == (1, 8, 1024)
    params = one.trainee.lm.num_params()
    counters = 4 * 3  # steps of Adam and of the schedule, the highest rate
    assert program.state_bytes(one.trainee) == 3 * 4 * params + counters


def test_speed_is_per_device(made):
    one, many = made
    row = scaling._beside(many[1], one, (2.0, 0.5), 0.9)
    assert row.jaxml == 1024 / 2 / 8
    assert row.peer_value == 128 / 0.5
    assert row.ratio == pytest.approx(64 / 256)
    assert row.goal == 0.9


def test_what_does_not_fit_is_told_beside_what_there_is(made, monkeypatch):
    monkeypatch.setattr(program, "memory_limit", lambda: 1000)
    monkeypatch.setattr(scaling, "memory_limit", lambda: 1000)
    _, (fits, large) = made
    assert fits.fits and not large.fits
    row = _rows(scaling._about(large))["N1024", "step_bytes"]
    assert (row.jaxml, row.peer_value, row.ratio) == (5000, 1000, 0.2)


def test_a_program_that_cannot_be_compiled_is_a_row(made):
    _, (found, _) = made
    found.bytes, found.problem = 0, "ValueError: no"
    assert not found.fits
    assert [row.metric for row in scaling._about(found)] == ["compile_s", "problem"]


def test_collectives_must_not_grow_with_the_length(made):
    _, many = made
    how = scaling.How("x", SMALL, jax.devices())
    assert scaling._payload(how, many)[0].ratio == 1.0
    many[1].sent = 1280
    assert scaling._payload(how, many)[0].ratio == 0.5


def test_curves_are_compared_as_a_share_of_the_loss():
    row = elastic.differs("x", [4.0, 2.0], [4.0, 2.5], 0.1)
    assert row.jaxml == pytest.approx(0.2)
    assert row.ratio == pytest.approx(0.5)
    with pytest.raises(RuntimeError, match="x: 1 updates beside 2"):
        elastic.differs("x", [4.0], [4.0, 2.5], 0.1)


def test_studies_of_a_machine_without_grain():
    code = "import sys; sys.modules['grain'] = sys.modules['tyro'] = None\n"
    code += "from jaxml.tnl import decoding, elastic, h100, scaling, throughput"
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'kernels'}"}
    run = [sys.executable, "-c", code]
    done = subprocess.run(run, env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_all_sections_on_eight_devices(tmp_path):
    flags = "--preset tiny --seq-len 64 --rows 1 --lengths 128 256 --repeats 1 --threads 2"
    out, outline = tmp_path / "found.json", tmp_path / "outline.txt"
    words = [str(out), *flags.split(), "--only", "weak", "time", "--outline", str(outline)]
    found = _rows(scaling.measure(scaling.parser().parse_args(words)))
    assert len(json.loads(out.read_text())["rows"]) == len(found)
    assert found["tiny N64 B8, fsdp=8", "tokens_s_device"].peer == "tiny N64 B1, one device"
    assert found["tiny seq=8, 128 to 256 tokens", "collectives_most_over_least"].ratio == 1.0
    assert found["tiny N128 B1, one device", "collective_bytes"].jaxml == 0
    assert "all-reduce" in outline.read_text()


@pytest.mark.slow
@pytest.mark.parametrize(("devices", "only"), [(8, "killed"), (2, "processes")])
def test_a_run_goes_on_elsewhere_with_the_same_losses(tmp_path, monkeypatch, devices, only):
    kernels = f"{ROOT}{os.pathsep}{ROOT / 'kernels'}"
    monkeypatch.setenv("PYTHONPATH", kernels)
    plan = elastic.Plan("tiny", rows=16, seq_len=32, steps=12, save_every=2)
    rows = elastic.measure(plan, devices, tmp_path / "found.json", [only])
    assert rows[0].metric == "loss_fall"
    assert rows[0].jaxml > 0.01
    assert rows[1].metric == "loss_difference"
    assert rows[1].jaxml <= 1e-5, rows

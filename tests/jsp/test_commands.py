"""`jaxml jsp`: solving a file, re-planning it, and messages about bad input."""

import json

import jax
import numpy as np
import pytest

from jaxml import cli
from jaxml.core import config, tree
from jaxml.jsp import commands, parsing, policy, schedule
from jaxml.jsp.config import PRESETS, SPNConfig

from .conftest import shop


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(commands, "_remember_compiled_code", lambda: None)
    path = tmp_path / "mine.txt"
    path.write_text(parsing.to_text(shop(0, 5, 5)))
    return path


def test_solve_then_replan(file, tmp_path, capsys):
    out, chart = tmp_path / "plan.json", tmp_path / "plan.svg"
    flags = ["--samples", "6", "--polish", "100ms", "--no-mirror"]
    assert (
        cli.run(["jsp", "solve", str(file), *flags, "--out", str(out), "--gantt", str(chart)]) == 0
    )
    said = capsys.readouterr().out
    plan, one = json.loads(out.read_text()), parsing.read_jsp(file)
    starts = commands.starts_of(one, plan)
    assert schedule.validate_schedule(one, starts) == plan["makespan"]
    assert schedule.makespan(one, plan["sequence"]) == plan["makespan"]
    assert f"makespan {plan['makespan']}" in said
    assert plan["makespan"] >= plan["lower_bound"] == one.trivial_bound
    assert [s["stage"] for s in plan["stages"]] == ["policy", "tabu search"]
    assert chart.read_text().count("<title>job") == 25
    now = plan["makespan"] // 3
    again = tmp_path / "again.json"
    more = ["--plan", str(out), "--now", str(now), "--out", str(again)]
    assert cli.run(["jsp", "solve", str(file), *flags, *more]) == 0
    after = commands.starts_of(one, json.loads(again.read_text()))
    assert (after[starts < now] == starts[starts < now]).all()
    assert (after[starts >= now] >= now).all()


@pytest.mark.parametrize(
    ("text", "flags", "message"),
    [
        ("2 2\n0 1 1 1\n0 1 0 2", [], "line 3, job 1, operation 1: machine 0 is visited twice"),
        ("1 1\n0 1", ["--polish", "soon"], "a duration is like 2s"),
        ("1 1\n0 1", ["--now", "3"], "plan and now belong together"),
        ("1 1\n0 1", ["--samples", "0"], "samples must be > 0"),
        ("1 1\n0 1", ["--weights", "nowhere.safetensors"], "nowhere.safetensors does not exist"),
    ],
)
def test_bad_input_is_one_line(file, text, flags, message, capsys, monkeypatch):
    file.write_text(text)
    monkeypatch.setattr("sys.argv", ["jaxml", "jsp", "solve", str(file), *flags])
    with pytest.raises(SystemExit) as done:
        cli.main()
    assert done.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1


def test_the_package_carries_weights():
    params = policy.shipped()
    assert tree.num_elements(params) == 376_961
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(params))
    assert SPNConfig().feature_version == "paper"


@pytest.mark.parametrize("name", PRESETS)
def test_preset_is_as_reviewed(name):
    from pathlib import Path

    golden = Path(__file__).parent / "golden" / f"{name}.txt"
    assert config.text(PRESETS[name]) == golden.read_text()

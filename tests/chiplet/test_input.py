"""Nonsense is refused with field, value and unit, before anything is traced."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from jaxml.chiplet import field, presets, study_file
from jaxml.chiplet.config import (
    DieConfig,
    DramConfig,
    EnergyConfig,
    FormatConfig,
    LinkConfig,
    Mesh2D,
    ModelShape,
    System,
    TrainingConfig,
)
from jaxml.chiplet.frontier import frontier
from jaxml.chiplet.optimize import optimize
from jaxml.chiplet.simulate import compare, mixed, simulate
from jaxml.chiplet.sweep import grid, sweep, sweep_slopes
from jaxml.core import config

MODEL = presets.MODELS["llama2-7b"]
RECORDS = (DieConfig, LinkConfig, DramConfig, EnergyConfig, FormatConfig, Mesh2D, TrainingConfig)
NUMBERS = [
    (cls, f.name, f.metadata["unit"], f.metadata["rule"])
    for cls in RECORDS
    for f in dataclasses.fields(cls)
    if "rule" in f.metadata
]


@pytest.mark.parametrize(("cls", "name", "unit", "rule"), NUMBERS, ids=lambda x: str(x)[-24:])
@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf"), "fast", None])
def test_every_number_has_a_rule(cls, name, unit, rule, value):
    wrong = TypeError if value in ("fast", None) else ValueError
    with pytest.raises(wrong) as refused:
        cls(**{name: value})
    message = str(refused.value)
    assert message.startswith(f"{name} must be {rule}")
    assert unit in message and f"{name}={value!r}" in message.replace("=nan", "=nan")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 0}, "width must be a whole number >= 1 features; got width=0."),
        ({"width": 10.5}, "width must be a whole number >= 1 features; got width=10.5."),
        ({"gated": 2}, "gated must be 0 or 1; got gated=2."),
        ({"num_heads": 24}, "num_heads must divide width; got num_heads=24"),
        ({"num_kv_heads": 5}, "num_kv_heads must divide num_heads; got num_kv_heads=5"),
    ],
)
def test_models(change, message):
    with pytest.raises(ValueError) as refused:
        simulate(dataclasses.replace(MODEL, **change), presets.default())
    assert message in str(refused.value)


def test_arrays_are_checked_where_they_enter():
    bad = dataclasses.replace(presets.default(), link=LinkConfig(np.array([1e9, -2e9])))
    with pytest.raises(ValueError, match="bandwidth_bytes_s must be > 0 bytes/s; got .*=-2"):
        simulate(MODEL, bad)
    with pytest.raises(ValueError, match="die.clock_hz must be > 0 Hz; got clock_hz=0.0"):
        sweep(MODEL, presets.default(), {"die.clock_hz": [1e9, 0.0]})
    with pytest.raises(ValueError, match="mesh.rows must be a whole number >= 1 dies; got"):
        sweep(MODEL, presets.default(), {"mesh.rows": [4.0, 4.5]})
    with pytest.raises(ValueError, match="field must be one of .*did you mean 'die.clock_hz'"):
        sweep(MODEL, presets.default(), {"die.clock": [1e9]})
    with pytest.raises(ValueError, match="arrays .n. of one length"):
        sweep(MODEL, presets.default(), {"die.clock_hz": [1e9], "mesh.rows": [4, 8]})
    with pytest.raises(ValueError, match="at least one number to sweep"):
        sweep(MODEL, presets.default(), {})
    with pytest.raises(ValueError, match="objective must be one of"):
        sweep_slopes(MODEL, presets.default(), {"die.clock_hz": [1e9]}, objective="speed")


def test_methods_and_batches():
    with pytest.raises(ValueError, match="did you mean 'hecaton'"):
        simulate(MODEL, presets.default(), method="hecatom")
    with pytest.raises(ValueError, match="'summa' needs a square mesh; got mesh.rows=4"):
        simulate(MODEL, presets.default(4, 8), method="summa")
    with pytest.raises(ValueError, match="needs a square mesh"):
        mixed(MODEL, presets.default(4, 8))
    with pytest.raises(ValueError, match="batch_tokens must be a whole number >= 1 tokens"):
        compare(MODEL, presets.default(), batch_tokens=0)
    with pytest.raises(ValueError, match="lora_rank must be >= 0"):
        simulate(MODEL, System(training=TrainingConfig(lora_rank=-1)))


def test_searches():
    with pytest.raises(ValueError, match="bounds of mesh.aspect must be 0 < low < high"):
        optimize(MODEL, presets.default(), {"mesh.aspect": (2.0, 1.0)})
    with pytest.raises(ValueError, match="must start within its bounds; got 1000000000.0"):
        optimize(MODEL, presets.default(), {"die.clock_hz": (2e9, 3e9)})
    with pytest.raises(ValueError, match="objective must be one of time, energy, edp"):
        optimize(MODEL, presets.default(), {"mesh.aspect": (0.1, 10)}, objective="cost")
    with pytest.raises(ValueError, match="free must name"):
        optimize(MODEL, presets.default(), {})
    with pytest.raises(ValueError, match="axes must span 1 to"):
        frontier(
            MODEL,
            presets.default(),
            {"die.clock_hz": np.ones(70_000), "mesh.rows": np.ones(70_000)},
        )
    with pytest.raises(ValueError, match="against must be one of"):
        frontier(MODEL, presets.default(), {"die.clock_hz": [1e9]}, against="cost")


def test_ucie():
    assert presets.ucie("standard", 16).link.bandwidth_bytes_s == 32e9
    with pytest.raises(ValueError, match="package must be one of"):
        presets.ucie("organic", 16)
    with pytest.raises(ValueError, match="gts must be > 0"):
        presets.ucie("standard", 0)


@pytest.mark.parametrize("name", ["default", "paper_v1"])
def test_preset_is_as_reviewed(name):
    golden = Path(__file__).parent / "golden" / f"{name}.txt"
    assert config.text(presets.SYSTEMS[name]()) == golden.read_text()


def test_models_are_as_reviewed():
    golden = Path(__file__).parent / "golden" / "models.txt"
    lines = [f"{name}: {m}" for name, m in presets.MODELS.items()]
    assert "\n".join(lines) + "\n" == golden.read_text()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model = 3 = 4", "is not TOML"),
        ('modle = "x"', "key must be one of model"),
        ('model = "llama2-70"', "did you mean 'llama2-70b'"),
        ('system = "x"', "system must be one of default, paper_v1"),
        ('[set]\n"die.clock" = 1e9', "did you mean 'die.clock_hz'"),
        ('[set]\n"die.clock_hz" = -1', "clock_hz must be > 0 Hz; got clock_hz=-1"),
        ('[free]\n"die.clock_hz" = 1e9', r"free numbers need \[low, high\]"),
        ("[budget]\nwatts = 3", "key of budget must be one of"),
        ("[model]\nwidth = 8", "missing 4 required positional arguments"),
        ("set = 3", "set must be a table"),
        ("[budget]\npower_w = -3", "power_w must be > 0"),
    ],
)
def test_study_files(tmp_path, text, message):
    path = tmp_path / "study.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        study_file.read(path)
    with pytest.raises(FileNotFoundError, match="is no file"):
        study_file.read(tmp_path / "none.toml")


def test_a_study_file_is_read(tmp_path):
    path = tmp_path / "study.toml"
    path.write_text(
        'model = "llama2-7b"\n[set]\n"mesh.rows" = 8\n[training]\nlora_rank = 4\n'
        '[axes]\n"die.clock_hz" = [1e9, 2e9]\n[free]\n"mesh.aspect" = [0.5, 2]\n'
    )
    asked = study_file.read(path)
    assert asked.model == MODEL and asked.system.mesh == Mesh2D(8, 32)
    assert asked.system.training.lora_rank == 4
    assert grid(asked.axes)["die.clock_hz"].tolist() == [1e9, 2e9]
    assert asked.free == {"mesh.aspect": (0.5, 2.0)}
    assert field.get(asked.system, "die.num_arrays") == 8
    assert ModelShape(8, 1, 2, 1, 16).seq_len == 4096

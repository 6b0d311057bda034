"""The studies of one H100: verdicts from hand-made rows, resuming, decoding."""

import dataclasses
import json

import numpy as np
import pytest

from jaxml import cli
from jaxml.report.recipe import Context
from jaxml.tnl import decoding, phases, promises
from jaxml.tnl.config import TNLConfig

ABOUT = {"device": "1 x H100", "date": "today", "commit": "abc", "versions": {}, "command": "x"}
EMPTY = {"peer": None, "peer_value": None, "ratio": None, "goal": None}


def _record(*rows):
    names = ("case", "metric", "jaxml", "peer_value", "ratio")
    full = [{**EMPTY, **dict(zip(names, row, strict=False))} for row in rows]
    return {**ABOUT, "rows": full}


SPEED = _record(
    ("TNL 385m N2048 B64", "tokens_s", 190e3),
    ("TNL 385m N131072 B1", "tokens_s", 170e3),
    ("Transformer 385m N2048 B64", "tokens_s", 150e3),
    ("Transformer 385m N131072 B1", "tokens_s", 30e3),
    ("TNL 385m, 2048 to 131072 tokens", "slowest_over_fastest", 0.98),
    ("TNL 385m, 2048 to 131072 tokens", "most_memory", 1.2),
    ("Transformer 385m, 2048 to 131072 tokens", "longest_over_shortest", 0.2),
)
TRAINING = _record(
    ("385m N2048 B64", "tokens_s", 150.0, 100.0, 1.5),
    ("385m N131072 B1", "tokens_s", 110.0, 100.0, 1.1),
)
CURVES = _record(("40m seed 0", "last_loss", 4.00, 4.01), ("40m seed 1", "last_loss", 4.02, 4.02))
STEPS = _record(
    ("decode 385m context 2048", "step_ms", 1.0, 1.5, 1.5),
    ("decode 385m context 2048", "state_bytes", 2.0**20, 2.0**28, 256.0),
    ("decode 385m context 1048576", "step_ms", 1.04),
    ("decode 385m context 1048576", "state_bytes", 2.0**20, 2.0**37, 2.0**17),
    ("decode 385m, 2048 to 1048576 tokens of context", "longest_over_shortest", 1.04),
)
QUALITY = {
    **ABOUT,
    "arms": {
        "tnl": {"lr": 1e-3, "test": {"0": 4.0, "1": 4.2}, "mean": 4.1},
        "transformer": {"lr": 1e-3, "test": {"0": 4.1, "1": 4.25}, "mean": 4.175},
        "no decay": {"lr": 1e-3, "test": {"0": 4.3}, "mean": 4.3},
        "LRPE in every layer": {"lr": 1e-3, "test": {"0": 4.05}, "mean": 4.05},
    },
    "tnl minus transformer": [-0.1, -0.05],
}
RECORDS = {
    "throughput-385m": SPEED, "training": TRAINING, "curves": CURVES,
    "decode-385m": STEPS, "quality": QUALITY,
}  # fmt: skip


def test_verdicts_follow_from_the_rows():
    shown = phases.outcome(RECORDS, {"throughput-1b": "no GPU"}, "h100")
    told = {claim.id: (claim.verdict, claim.measured) for claim in shown.claims}
    assert len(told) == len(shown.claims)
    want = {
        "385m-flat": ("holds", 0.98),
        "385m-speed": ("fails", 170e3),
        "385m-memory": ("fails", 1.2),
        "385m-transformer": ("holds", 0.2),
        "1b-flat": ("not_measured", None),
        "1b-speed": ("not_measured", None),
        "1b-memory": ("not_measured", None),
        "385m-peer": ("fails", 1.1),
        "385m-decode": ("holds", 1.04),
        "40m-quality": ("holds", -0.075),
        "ablation-no-decay": ("holds", 0.3),
        "ablation-lrpe-in-every-layer": ("fails", 0.05),
        "ablation-no-gate": ("not_measured", None),
        "ablation-no-lrpe": ("not_measured", None),
        "peer-loss": ("holds", -0.005 / np.std([4.0, 4.02], ddof=1)),
    }
    assert {id: verdict for id, (verdict, _) in told.items()} == {
        id: verdict for id, (verdict, _) in want.items()
    }
    for id, (_, value) in want.items():
        assert told[id][1] == (value if value is None else pytest.approx(value)), id
    assert all(claim.rule and claim.why for claim in shown.claims)
    assert [one.id for one in shown.figures] == ["tnl-speed-385m", "tnl-decode-step", "tnl-quality"]
    steps = next(table for table in shown.tables if table.title == "A decoding step")
    assert steps.rows[1] == ("1,048,576", "1.040", "no memory", "1", "131,072")


def test_a_study_without_its_peer_is_not_measured():
    alone = _record(("385m N2048 B64", "tokens_s", 150.0))
    assert promises.training(alone, "h100")[0].verdict == "not_measured"
    assert promises.curves(_record(("s", "last_loss", 4.0, 4.0)), "h100")[0].measured is None


def test_finished_studies_are_not_run_again(tmp_path, monkeypatch):
    ran = []

    def study(name):
        def run(cfg, context, path):
            ran.append(name)
            if name == "training":
                raise phases._Missing("no peer")
            path.write_text(json.dumps(RECORDS[name]))

        return run

    monkeypatch.setattr(phases, "STUDIES", {name: (study(name), name) for name in RECORDS})
    monkeypatch.setattr(phases.pictures, "of_studies", lambda records: ([], []))
    context = Context("h100", 0, tmp_path, say=lambda text: None)
    first = phases.run(phases.GPUConfig(), context, here=True)
    assert sorted(ran) == sorted(RECORDS)
    again = phases.run(phases.GPUConfig(), context, here=True)
    assert ran.count("quality") == 1
    assert ran.count("training") == 2
    assert again.claims == first.claims
    assert {c.why for c in first.claims if c.id == "385m-peer"} == {"no peer"}
    assert not again.kept  # the peer may be there next time


def test_without_a_gpu_results_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(phases, "CHECKOUT", tmp_path)
    (tmp_path / "results").mkdir()
    (tmp_path / "results/tnl-decode-385m-h100.json").write_text(json.dumps(STEPS))
    said = []
    found = phases.run(
        phases.GPUConfig(), Context("h100", 0, tmp_path / "run", say=said.append), here=False
    )
    told = {claim.id: claim for claim in found.claims}
    assert told["385m-decode"].verdict == "holds"
    assert "needs an NVIDIA GPU" in told["385m-flat"].why
    assert "quality: not measured" in said


def test_results_of_another_kind_are_named():
    with pytest.raises(ValueError, match="results of decode-385m are not such a study's"):
        phases.outcome({"decode-385m": SPEED}, {}, "h100")


def test_the_verb_prints_verdicts(tmp_path, capsys):
    (tmp_path / "quality.json").write_text(json.dumps(QUALITY))
    assert cli.run(["tnl", "table", str(tmp_path)]) == 0
    assert "holds        TNL reaches a lower loss" in capsys.readouterr().out
    with pytest.raises(FileNotFoundError, match="holds no results"):
        cli.run(["tnl", "table", str(tmp_path / "nowhere")])


def test_decoding_is_timed_after_every_context(tmp_path, monkeypatch):
    monkeypatch.setattr(decoding, "READ", 8)
    cfg = TNLConfig(64, 32, 1, 2, 16)
    monkeypatch.setitem(decoding.PRESETS, "tiny", cfg)
    words = ["--preset", "tiny", "--contexts", "8", "40", "--tokens", "2", "--repeats", "1"]
    decoding.main([str(tmp_path / "d.json"), *words])
    rows = {
        (r["case"], r["metric"]): r for r in json.loads((tmp_path / "d.json").read_text())["rows"]
    }
    size = 4 * 2 * cfg.head_dim**2 * cfg.num_heads + 4  # keys are twice as wide with LRPE
    for context in (8, 40):
        case = f"decode tiny context {context}"
        assert rows[case, "state_bytes"]["jaxml"] == size
        room = context + 4
        cache = cfg.num_layers * (2 * room * cfg.width * 4 + 4) + room
        assert rows[case, "state_bytes"]["peer_value"] == cache
        assert rows[case, "step_ms"]["ratio"] > 0
    assert rows["decode tiny, 8 to 40 tokens of context", "longest_over_shortest"]["jaxml"] > 0


def test_a_device_without_the_memory_leaves_the_peer_empty():
    found = {
        ("TNL", 8): decoding.Found(1.0, 10),
        ("Transformer", 8): decoding.Found(2.0, 10),
        ("TNL", 16): decoding.Found(1.5, 10),
        ("Transformer", 16): decoding.Found(None, 20),
    }
    made = {(row.case, row.metric): row for row in decoding.rows("p", [8, 16], found)}
    assert made["decode p context 8", "step_ms"].ratio == 2.0
    assert made["decode p context 16", "step_ms"].ratio is None
    assert made["decode p, 8 to 16 tokens of context", "longest_over_shortest"].jaxml == 1.5


def test_presets_must_exist():
    with pytest.raises(ValueError, match="preset must be one of"):
        dataclasses.replace(phases.GPUConfig(), decode_preset="400m")

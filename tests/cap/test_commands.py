import dataclasses
import json

import jax
import numpy as np
import pytest

from jaxml import cli
from jaxml.cap import claims, data, h100, recipe, study
from jaxml.cap import encoder as encoders
from jaxml.cap.study import Row
from jaxml.inputs import pretrained
from jaxml.models import bert_weights
from jaxml.models.bert import BertConfig
from jaxml.report.recipe import Context


@pytest.fixture
def model(small, tmp_path, monkeypatch):
    folder = tmp_path / "model"
    bert_weights.save(folder, small.cfg, small.params)
    monkeypatch.setattr(data, "wordpiece", lambda folder: data.words(128))
    return str(folder)


@pytest.mark.slow
def test_prune_writes_what_can_be_loaded(model, tmp_path, capsys):
    out = tmp_path / "run"
    words = ["cap", "prune", model, "--task", "generated", "--keep", "0.5", "--method",
             "structured", "--steps", "3", "--dense-steps", "4", "--rounds", "2", "--extra", "16",
             "--max-len", "12", "--num-train", "40", "--num-valid", "32", "--batch-size", "8",
             "--calibration", "16", "--out", str(out)]  # fmt: skip
    assert cli.run(words) == 0
    found = json.loads((out / "results.json").read_text())
    assert found["steps"] == 6 and sum(found["sparsity"]["heads"]) == 4
    assert "test accuracy: dense" in capsys.readouterr().out
    cfg, _ = bert_weights.load(out / "huggingface")
    assert cfg.hidden <= 24
    with pytest.raises(ValueError, match=r"holds a run with prune.keep = 0.5; here prune.keep"):
        cli.run([*words[:6], "0.4", *words[7:]])


def rows(gain, seeds=(0, 1, 2)):
    """A made-up study in which contrast adds `gain` at 3 %, half of it at 10 %."""
    made = []
    table = {("dense", "dense", 1.0): 90.0, ("kd", "movement", 0.03): 84.0,
             ("cap", "movement", 0.03): 84.0 + gain, ("kd", "movement", 0.1): 87.0,
             ("cap", "movement", 0.1): 87.0 + gain / 2, ("kd", "magnitude", 0.03): 80.0,
             ("without pre", "movement", 0.03): 83.5}  # fmt: skip
    for (arm, method, keep), test in table.items():
        made += [
            Row(arm, method, keep, s, test + s, test, 0.0, {"matrices": keep, "whole": 0.6}, 10,
                1.0, {"cola": 70.0 + gain * (arm == "cap")})
            for s in seeds
        ]  # fmt: skip
    return made


@pytest.mark.parametrize("gain", [1.0, -1.0])
def test_verdicts_follow_the_rows(gain):
    found = {c.id: c for c in claims.study(rows(gain), 1.7, "h100")}
    verdict = "holds" if gain > 0 else "fails"
    for name in ("gain-3", "gain-10", "gain-grows", "order", "probing"):
        assert found[name].verdict == verdict, name
    assert found["gain-3"].measured == pytest.approx(gain)
    assert found["gain-grows"].measured == pytest.approx(gain / 2)
    assert found["ablation"].verdict == found["soft-gain-3"].verdict == "not_measured"
    assert found["keeps-3"].measured == pytest.approx(100 * (85.0 + gain) / 91.0)
    assert found["speed"].verdict == "holds"


def test_table_prints_a_study(tmp_path, capsys):
    kept = study.Rows(tmp_path / "rows.jsonl")
    for row in rows(0.5):
        kept.add(row)
    assert study.Rows(tmp_path / "rows.jsonl").rows == kept.rows
    assert cli.run(["cap", "table", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "gain-3" in text and "with contrast" in text
    with pytest.raises(FileNotFoundError, match="holds no study"):
        cli.run(["cap", "table", str(tmp_path / "none")])


def test_claims_without_the_real_data_are_not_measured():
    found = claims.laptop([], None, "laptop", "data set 'glue' not found")
    assert {c.verdict for c in found} == {"not_measured"}
    assert all("glue" in c.why for c in found)


def test_a_machine_without_anything_still_has_a_task(no_data, monkeypatch):
    monkeypatch.setattr(pretrained, "MINILM", ())
    monkeypatch.setattr(data, "_installed", lambda package, names: [])
    cfg = recipe.SCALES["laptop"]
    found, task, probes, why = recipe.inputs(cfg, "laptop")
    assert task.name == "generated" and not probes and found.folder is None
    assert "pip install" in why


@pytest.mark.slow
def test_the_recipe_runs_and_goes_on(tmp_path):
    said = []
    context = Context("tiny", 0, tmp_path, said.append)
    found = recipe.run(recipe.SCALES["tiny"], context)
    assert {c.verdict for c in found.claims} == {"not_measured"}
    assert len(found.tables) == 2 and len(found.figures) == 3
    said.clear()
    again = recipe.run(recipe.SCALES["tiny"], context)
    assert not any("dense:" in line for line in said)
    assert again.tables[0] == found.tables[0]


def test_arms_of_the_study_differ_in_contrast_only():
    cfg = recipe.SCALES["h100"].study
    by_prune = {}
    for arm in cfg.arms:
        run = dataclasses.replace(cfg.run(arm, 0), contrast=None)
        assert by_prune.setdefault(arm.prune, run) == run
    assert jax.tree.all({"kd", "cap"} <= {arm.name for arm in cfg.arms})


def test_an_encoder_travels_with_the_embeddings_that_are_used(tmp_path):
    model = BertConfig(20, 16, 1, 2, 16, 16)
    whole = encoders.random(jax.random.key(0), model)
    used = np.array([0, 3, 7])
    few = h100._with_words(whole.params, lambda table: table[used])
    bert_weights.save(tmp_path / "encoder", dataclasses.replace(model, vocab_size=3), few)
    np.savez(tmp_path / "tokens.npz", used=used, vocab_size=20)
    found = h100.unpack(tmp_path)
    assert found.cfg == model
    ids = np.array([[3, 7, 7, 0], [7, 3, 0, 0]])
    got, want = (encoders.represent(e.params, model, ids) for e in (found, whole))
    np.testing.assert_allclose(got, want, atol=1e-6)
    table = found.params["embed"]["word"]["embedding"]
    assert not np.any(np.delete(table, used, 0))

import dataclasses
import json

import jax
import numpy as np
import pytest
from PIL import Image

from jaxml import cli
from jaxml.inputs.integrity import DataNotFoundError
from jaxml.report.claim import Claim
from jaxml.report.recipe import Context
from jaxml.univilm import (
    claims,
    features,
    frames,
    index,
    model,
    pictures,
    recipe,
    saved,
    study,
    train,
)
from jaxml.univilm.config import PRESETS
from jaxml.univilm.saved import Saved
from jaxml.univilm.study import Rows


@pytest.fixture
def folder(tmp_path):
    """Features of six videos."""
    features.synthetic(tmp_path / "data", PRESETS["tiny"])
    return tmp_path


@pytest.mark.parametrize("trains", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_pretrain_finetune_caption_retrieve(folder, capsys, monkeypatch, trains):
    """Every verb; by default without the training steps, which are compiled elsewhere."""
    if not trains:
        monkeypatch.setattr(train, "fit", lambda cfg, plan, p, *rest, **names: p)
    data, first, then = (str(folder / n) for n in ("data", "first", "then"))
    assert cli.run(["univilm", "pretrain", first, "--data", data, "--preset", "tiny", "--stages",
                    "joint", "--steps", "2"]) == 0  # fmt: skip
    assert "R@1" in capsys.readouterr().out
    words = ["univilm", "finetune", "caption", then, "--start", first, "--data", data,
             "--preset", "tiny", "--steps", "2"]  # fmt: skip
    assert cli.run(words) == 0
    assert "CIDEr-D" in capsys.readouterr().out
    with pytest.raises(ValueError, match="holds a run with steps = 2; here steps = 3"):
        cli.run([*words[:-1], "3"])
    clip = folder / "data" / "features" / "v0.npy"
    assert cli.run(["univilm", "caption", then, str(clip), "--beams", "2"]) == 0
    assert capsys.readouterr().out.startswith("v0.npy\t")
    ask = ["univilm", "retrieve", first, str(folder / "data" / "features"), "--fps", "1",
           "--out", str(folder / "index"), "--query", "cut the onion", "--top", "2"]  # fmt: skip
    for _ in range(2):  # the second reads the index
        assert cli.run(ask) == 0
        out = capsys.readouterr().out
        assert "6 videos" in out and "cut the onion" in out
    with pytest.raises(FileNotFoundError, match="holds no model"):
        cli.run(["univilm", "caption", str(folder), str(clip)])
    with pytest.raises(ValueError, match="preset"):
        cli.run(["univilm", "pretrain", first, "--preset", "tinny"])


@pytest.fixture(scope="module")
def made():
    """A model of videos, with an extractor."""
    setting = PRESETS["tiny"]
    vocab = study.vocabulary()
    sizes = dataclasses.replace(setting.model, vocab_size=vocab.vocab_size, video_dim=frames.WIDTH)
    setting = dataclasses.replace(setting, model=sizes)
    p = model.init(jax.random.key(0), sizes)
    return Saved(setting, p, vocab, frames.init(jax.random.key(1), 2))


def test_a_model_comes_back(made, tmp_path):
    saved.save(tmp_path, made)
    again = saved.load(tmp_path)
    assert again.setting == made.setting and again.vocab == made.vocab
    same = jax.tree.map(lambda a, b: bool((a == b).all()), again.params, made.params)
    assert jax.tree.all(same)


def test_videos_are_indexed_with_times_and_pictures(made, tmp_path):
    draw = np.random.default_rng(0)
    for name, num in (("a", 8), ("b", 3)):
        shown = [Image.fromarray(draw.integers(0, 256, (20, 30, 3), np.uint8)) for _ in range(num)]
        shown[0].save(
            tmp_path / f"{name}.gif", save_all=True, append_images=shown[1:], duration=200
        )
    found = index.build(made, tmp_path, tmp_path / "out", fps=5.0)
    assert found.video == ("a.gif", "a.gif", "a.gif", "b.gif")
    np.testing.assert_allclose(found.span[:2], [[0, 1.0], [0.4, 1.4]], atol=1e-3)
    assert all((tmp_path / "out" / name).exists() for name in found.thumbs)
    again = index.load(tmp_path / "out")
    hits = index.search(made, again, ["digit 3 is moving", "up"], top=4)
    assert [len(h) for h in hits] == [4, 4]
    scores = [h.score for h in hits[0]]
    assert scores == sorted(scores, reverse=True) and -1 <= scores[-1] <= scores[0] <= 1
    with pytest.raises(ValueError, match="cannot extract itself"):
        index.build(made._replace(extractor=None), tmp_path, tmp_path / "out")
    with pytest.raises(DataNotFoundError, match="holds no video"):
        index.build(made, tmp_path / "out" / "thumbs", tmp_path / "out")


def rows_of(tmp_path, **values):
    rows = Rows(tmp_path / "rows.jsonl")
    for name, scores in values.items():
        rows.add({"name": name.replace("_", "-"), "seed": 0, **scores})
    return Rows(tmp_path / "rows.jsonl")


def verdict(found: list[Claim], id: str) -> str:
    return next(c for c in found if c.id == id).verdict


def test_verdicts_follow_from_the_rules(tmp_path):
    rows = rows_of(
        tmp_path, joint={"r1": 39.0, "r10": 90.0, "swapped_r1": 0.5},
        caption={"bleu4": 70.0, "cider": 7.0, "changed": 0}, caption_scratch={"bleu4": 64.0,
        "cider": 6.7},
    )  # fmt: skip
    found = claims.verdicts(rows, "laptop")
    want = {"r1": "fails", "r10": "holds", "swapped": "holds", "pretrained-bleu": "holds",
            "pretrained-cider": "fails", "leak": "holds", "r1-80": "not_measured",
            "youcook2": "not_measured", "msrvtt": "not_measured"}  # fmt: skip
    assert {id: verdict(found, id) for id in want} == want
    assert all(c.verdict == "not_measured" for c in claims.verdicts(rows, "laptop", "no MNIST"))
    on_gpu = claims.verdicts(rows, "h100")
    assert verdict(on_gpu, "pretrained-b4") == "holds" and verdict(on_gpu, "bag") == "not_measured"
    shown = pictures.scores(rows)
    assert shown.rows[0][0] == "joint" and "39.0" in shown.rows[0]
    assert pictures.gains(rows) is not None


@pytest.mark.slow
def test_the_recipe_runs_and_goes_on(tmp_path, no_data):
    said = []
    context = Context("tiny", 0, tmp_path, said.append)
    out = recipe.run(recipe.RECIPE.scales["tiny"], context)
    assert all(c.verdict == "not_measured" for c in out.claims)
    assert out.tables[0].rows and out.samples[0].text.count("written") == 6
    assert len(out.figures) == 2
    num = len(said)
    recipe.run(recipe.RECIPE.scales["tiny"], context)
    assert len(said) == num  # nothing is made twice
    rows = next(tmp_path.rglob("rows.jsonl")).read_text().splitlines()
    assert [json.loads(r)["name"] for r in rows] == ["joint", "caption", "caption-scratch"]

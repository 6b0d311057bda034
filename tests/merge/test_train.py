import dataclasses
import json

import jax
import numpy as np
import pytest

from jaxml.core import config, storage
from jaxml.inputs import splits as data
from jaxml.merge import cifar, claims, commands, selection, study, train
from jaxml.merge import network as networks
from jaxml.merge.config import MergeConfig
from jaxml.merge.results import Row
from jaxml.merge.train import ArchConfig, TrainConfig

ARCH = ArchConfig("mlp", hidden=(12, 8), image=(6, 6, 1))
CFG = TrainConfig(ARCH, epochs=3, batch_size=20, lr=0.1)
STUDY = study.StudyConfig(
    CFG,
    num_models=4,
    counts=(2, 3),
    num_sets=2,
    gammas=(0.1, 1.0),
    num_train=160,
    num_held_out=60,
    num_align=80,
    align_batch=40,
    curve_points=3,
)


@pytest.fixture(scope="module")
def images():
    return data.synthetic(160, 60, (6, 6, 1))


@pytest.fixture(scope="module")
def trained(images):
    return train.train(CFG, images.train, [0, 1, 2, 3])


@pytest.mark.parametrize("over", ["map", "unroll"])
def test_all_at_once_is_one_by_one(images, trained, over):
    cfg = dataclasses.replace(CFG, over=over)
    alone = train.train(cfg, images.train, [2]).split()[0]
    for a, b in zip(jax.tree.leaves(alone), jax.tree.leaves(trained.split()[2]), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


def test_networks_learn_and_differ(images, trained):
    assert (trained.losses[:, -1] < 0.85 * trained.losses[:, 0]).all()
    a, b = trained.split()[:2]
    assert not np.allclose(a["params"]["layer0"]["kernel"], b["params"]["layer0"]["kernel"])
    assert len(images.test.label) == 40


def test_networks_that_did_not_learn_are_left_out():
    losses = np.full((4, 6), 0.5)
    losses[1], losses[3, -1] = np.log(10), np.nan  # one still guesses, one diverged
    made = train.Trained({"params": {"w": np.arange(4.0)}}, losses)
    said = []
    cfg = dataclasses.replace(STUDY, counts=(2,))
    kept = study._learned(cfg, made, said.append)
    assert kept.variables["params"]["w"].tolist() == [0, 2] and len(kept.losses) == 2
    assert said == ["networks [1, 3] did not learn and are left out."]
    with pytest.raises(ValueError, match=r"training failed for networks \[1, 3\]"):
        study._learned(STUDY, made, said.append)  # three are to be merged


def test_each_network_sees_its_own_rows(images):
    rows = [np.arange(80), np.arange(80, 160)]
    plan = train._plan(rows, [0, 1], 0, steps=4, batch_size=20)
    assert plan.shape == (4, 2, 20)
    assert sorted(plan[:, 0].reshape(-1)) == list(range(80))
    assert sorted(plan[:, 1].reshape(-1)) == list(range(80, 160))
    with pytest.raises(ValueError, match="rows must be one array per seed; got 2 for 3"):
        train.train(CFG, images.train, [0, 1, 2], rows)


@pytest.fixture(scope="module")
def results(images, trained):
    return study.run(STUDY, images, trained.split(), say=lambda text: None)


def test_a_study_scores_every_method(results):
    names = {"base", "ensemble", *STUDY.methods}
    for count in (2, 3):
        for index in range(2):
            here = {r.method for r in results.rows if (r.count, r.set) == (count, index)}
            assert here == names
    assert {c.method for c in results.curves} == {"cca", "permute", "weights", "average"}
    scores = results.held_out[2]
    for index in range(2):
        best = max(STUDY.gammas, key=lambda g: scores[g][index])  # noqa: B023
        assert {best} == {r.gamma for r in results.rows if r[:3] == ("cca", 2, index)}
    again = json.loads(cifar.record(STUDY, results, {"name": "x", "device": "cpu"}))
    assert [Row(**row) for row in again["rows"]] == results.rows


def test_a_second_call_reads_the_counts_that_are_there(results, tmp_path):
    path = tmp_path / "x.json"
    path.write_text(cifar.record(STUDY, results, {"train_s": 3.0}))
    again, about = cifar._earlier(path, STUDY)
    assert again.rows == results.rows and about == {"train_s": 3.0}
    assert again.held_out == results.held_out
    other = dataclasses.replace(STUDY, num_align=40)
    assert cifar._earlier(path, other)[0].rows == []


def test_gamma_is_chosen_by_the_held_out_score_alone(images, trained):
    net, models = train.build(ARCH).network, trained.split()[:2]
    batches = list(data.Batches(images.train, 40))
    candidates = selection.gammas(MergeConfig(), (0.1, 10.0))
    for wanted in (0, 1):
        scores = iter([1.0, 2.0] if wanted else [2.0, 1.0])
        chosen = selection.choose(net, models, batches, candidates, lambda v: next(scores))  # noqa: B023
        assert chosen.cfg is candidates[wanted]
    with pytest.raises(ValueError, match="at least one configuration"):
        selection.choose(net, models, batches, [], lambda v: 0.0)


def test_claims_follow_the_rows():
    rows = [
        Row(method, count, index, value)
        for count, index, values in [
            (2, 0, (80, 78, 85, 30)),
            (2, 1, (81, 80, 85, 20)),
            (5, 0, (79, 70, 85, 10)),
        ]
        for method, value in zip(("cca", "permute", "base", "average"), values, strict=True)
    ]
    found = {c.id: c for c in claims.decide("mlp", rows, "tiny", "toy")}
    assert found["mlp-lead-2"].measured == 1.5
    assert found["mlp-lead-grows"].measured == 7.5
    assert found["mlp-loses"].measured == -1.5
    assert found["mlp-near"].verdict == "fails"
    assert found["mlp-direct"].verdict == "holds"
    split = claims.decide("classes", rows, "tiny", "toy")[0]
    assert (split.measured, split.verdict) == (1.5, "holds")


@pytest.mark.parametrize("kind", ["vgg", "resnet"])
def test_published_recipes_are_as_reviewed(kind):
    cfg = cifar.study_config(kind)
    assert (cfg.train.batch_size, cfg.train.weight_decay, cfg.train.warmup) == (500, 5e-4, 5.0)
    assert cfg.train.lr == {"vgg": 0.08, "resnet": 0.5}[kind]
    shapes = jax.eval_shape(lambda: train.build(cfg.train.arch).init(jax.random.key(0)))
    assert commands.arch_of(shapes["params"], (32, 32, 3)).model == cfg.train.arch.model
    assert config.from_dict(study.StudyConfig, config.to_dict(cfg)) == cfg


@pytest.mark.parametrize("name", ["a.npz", "a.safetensors", "folder"])
def test_storage_round_trip(tmp_path, name):
    variables = {"params": {"a": {"kernel": np.ones((2, 3), "f4")}}, "n": np.arange(3)}
    storage.save(tmp_path / name, variables)
    got = storage.load(tmp_path / name)
    jax.tree.map(np.testing.assert_array_equal, got, variables)
    with pytest.raises(FileNotFoundError):
        storage.load(tmp_path / "nowhere.npz")


def test_storage_never_unpickles(tmp_path):
    np.savez(tmp_path / "bad.npz", a=np.array([{"x": 1}], dtype=object))
    with pytest.raises(ValueError, match="not an intact npz"):
        storage.load(tmp_path / "bad.npz")
    with pytest.raises(ValueError, match="path must end in"):
        storage.save(tmp_path / "a.pkl", {"a": np.ones(2)})


def test_command_merges_files(tmp_path, images, trained, capsys):
    arrays = {}
    for part in ("train", "test"):
        chosen = getattr(images, part)
        arrays |= {f"{part}_image": chosen.image, f"{part}_label": chosen.label}
    np.savez(tmp_path / "images.npz", **arrays)
    paths = []
    for i, variables in enumerate(trained.split()[:3]):
        paths.append(tmp_path / f"m{i}.safetensors")
        storage.save(paths[-1], variables)
    out, report = tmp_path / "merged.npz", tmp_path / "report"
    options = {"data_path": tmp_path / "images.npz", "num_held_out": 40, "batch_size": 40}
    commands.run(tuple(paths), out=out, report=report, **options)
    text = capsys.readouterr().out
    assert "3 networks merged by cca, gamma" in text
    found = json.loads((report / "merge.json").read_text())
    net = train.build(ARCH).network
    logits = networks.logits(net, storage.load(out), data.Batches(images.test, 40))
    assert found["scores"]["merged"] == 100 * np.mean(logits.argmax(-1) == images.test.label)
    assert set(found["curves"]) == {"no alignment", "CCA Merge"}
    assert (report / "barrier.svg").read_text().startswith("<svg xmlns")
    commands.run(tuple(paths[:2]), out=out, apply="tests.merge.test_train:applied", **options)
    assert "2 networks merged by cca" in capsys.readouterr().out
    with pytest.raises(ValueError, match="spec must be that of the arrays, mlp"):
        commands.run(tuple(paths), out=out, spec="vgg", **options)
    with pytest.raises(ValueError, match="apply must be module:function"):
        commands.run(tuple(paths), out=out, apply="nowhere", **options)


def applied(variables, x):
    """A user's function."""
    return networks.of_mlp(ARCH.model).forward(variables, x)[0]

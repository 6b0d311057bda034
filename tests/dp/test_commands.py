"""`jaxml dp`: its verbs on a small image set, its release, its recipe."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from jaxml.core import config
from jaxml.dp import (
    NoisyCGDConfig,
    audit,
    claims,
    commands,
    hidden_state,
    pictures,
    recipe,
    release,
    study,
)
from jaxml.dp.config import PRESETS, ConvexReLUConfig
from jaxml.dp.data import made
from jaxml.dp.study import Score, StudyConfig
from jaxml.inputs import packed
from jaxml.report.recipe import Context

SMALL = NoisyCGDConfig(batch_size=50, epochs=2)


@pytest.fixture
def images(monkeypatch):
    found = made(200, 60, width=9)
    monkeypatch.setattr(commands, "load", lambda name, path=None: found)
    return found.data


def test_train_releases_a_model_without_its_key(images, tmp_path, capsys):
    train = commands.of_preset("tiny")
    train(tmp_path, seed=0, num_gates=3, trials=4, cfg=SMALL)
    text = capsys.readouterr().out
    assert "of 60 test images right" in text
    assert "chosen among 4 trainings" in text
    assert "whoever knows it can take the noise away" in text
    left = {p.name for p in tmp_path.iterdir() if not p.name.startswith(".")}
    assert left == {"model.safetensors", "model.json", "report.json", "settings.json"}
    got = release.load(tmp_path)
    assert got.v.shape == (3, 9, 10)
    assert got.report.proved
    with pytest.raises(FileNotFoundError, match="holds no released model"):
        release.load(tmp_path / "nowhere")


def test_account_prints_every_accountant_and_keeps_a_ledger(tmp_path, capsys):
    book = tmp_path / "ledger.json"
    cfg = NoisyCGDConfig(epochs=4)
    commands.account(target_eps=1.0, ledger_file=book, cfg=cfg)
    commands.account(target_eps=1.0, ledger_file=book, cfg=cfg)
    text = capsys.readouterr().out
    assert text.count("epsilon = 1 at delta = 1e-05 (replace_one), proved") == 2
    assert "if every iterate is seen" in text
    assert "2. mu" in text


def test_audit_passes_an_honest_training(images, capsys):
    assert commands.audit(num_train=200, num_canaries=40, num_gates=2, cfg=SMALL) == 0
    assert "claimed is" in capsys.readouterr().out


def test_a_training_with_less_noise_than_claimed_is_found_out(images):
    """The report says sigma = 20, the training took 0.01: the audit's bound exceeds the claim."""
    model = ConvexReLUConfig(9, 10, 2)
    key, quiet = jax.random.key(0), dataclasses.replace(SMALL, noise_multiplier=0.01)
    got = audit.one_run(key, images.x, images.label, model, quiet, num_canaries=150, share=0.2)
    said = dataclasses.replace(SMALL, noise_multiplier=20.0, adjacency="zero_out")
    assert got.eps_lower > hidden_state(said, model, len(images.label)).epsilon


def test_lower_bounds_are_those_of_counting():
    assert audit.eps_lower_bound(100, 100, 100, 0.0) == pytest.approx(3.49, abs=0.01)
    right = 0.05 ** (1 / 100)  # all of 100 right with 5 % where each is right with this chance
    assert audit.eps_lower_bound(100, 100, 100, 0.0) == pytest.approx(
        np.log(right / (1 - right)), rel=1e-6
    )
    assert audit.eps_lower_bound(100, 100, 100, 1e-3) < 3.4
    assert audit.eps_lower_bound(50, 100, 100, 0.0) == 0.0
    with pytest.raises(ValueError, match="correct must lie in"):
        audit.eps_lower_bound(101, 100, 100, 0.0)


def test_a_canary_shifts_the_last_iterate_no_more_than_claimed():
    found = made(40, 1, width=8).data
    cfg = NoisyCGDConfig(batch_size=10, epochs=3, noise_multiplier=2.0)
    model = ConvexReLUConfig(8, 10, 2)
    untouched = found.x.max(0) == 0
    shift = audit.orthogonal_canary_shift(
        jax.random.key(0), found.x, found.label, untouched, model, cfg, num_trainings=40
    )
    bound = (1 + 1 / 4 * 2) ** 0.5 / 2.0  # zero-out, no contraction
    assert 0 <= shift.mu <= bound + 4 * (2 / 40) ** 0.5


def test_packed_sets_are_read_back(tmp_path):
    arrays = {n: np.arange(6, dtype=np.uint8) for n in packed.NAMES}
    np.savez(tmp_path / "set.npz", **arrays)
    assert set(packed.load(tmp_path / "set.npz")) == set(packed.NAMES)
    np.savez(tmp_path / "half.npz", train_image=np.zeros(2))
    with pytest.raises(ValueError, match="lacks train_label"):
        packed.load(tmp_path / "half.npz")
    with pytest.raises(FileNotFoundError, match="lacks cifar10-train-00.webp"):
        packed.join(tmp_path)


def _scores(cfg):
    """Made-up scores: every method tried every setting, and was tested."""
    tuning = [
        Score(m, e, 0, {**s, "noise_multiplier": 1.0}, 50 + i)
        for m in cfg.methods
        for e in cfg.tuned_at
        for i, s in enumerate(study.settings(cfg, m))
    ]
    level = {"noisy_cgd": 93.5, "network": 93.0, "logistic": 90.0}
    found = [
        Score(m, e, s, {}, level[m] + 0.1 * s)
        for m in cfg.methods
        for e in cfg.epsilons
        for s in range(cfg.num_seeds)
    ]
    return tuning, found


def test_a_study_decides_its_claims_and_names_edges(tmp_path, capsys):
    cfg = StudyConfig(PRESETS["h100"])
    tuning, found = _scores(cfg)
    decided = {c.id: c.verdict for c in claims.of_study("mnist", cfg, found, "h100")}
    assert decided["mnist-accuracy-4.62"] == "holds"
    assert decided["mnist-network-4.62"] == "holds"
    assert decided["mnist-logistic-1.34"] == "holds"
    assert "edge: learning_rate, decay" in str(pictures.grids("mnist", cfg, tuning).rows)
    assert study.best_setting(tuning, "noisy_cgd", 4.62) == {"learning_rate": 3.9, "decay": 1e-3}
    record = {"data": "mnist", "device": "none", "config": dataclasses.asdict(cfg)}
    record |= {"tuning": [s._asdict() for s in tuning], "scores": [s._asdict() for s in found]}
    (tmp_path / "mnist.json").write_text(json.dumps(record))
    commands.table((tmp_path / "mnist.json",))
    assert "holds" in capsys.readouterr().out
    assert config.from_dict(StudyConfig, json.loads(json.dumps(record["config"]))) == cfg


def test_grids_are_of_one_size():
    for _, cfg in (*recipe.RECIPE.scales["h100"].studies, *recipe.RECIPE.scales["laptop"].studies):
        assert {len(study.settings(cfg, m)) for m in cfg.methods} == {cfg.grid_size}


@pytest.mark.parametrize("name", list(PRESETS))
def test_presets_contract(name):
    cfg = PRESETS[name]
    report = hidden_state(cfg, ConvexReLUConfig(784, 10, 4), 60_000)
    assert report.contraction == pytest.approx(1 - 5.4e-5)
    assert report.proved == (name != "paper")


@pytest.mark.slow
def test_the_recipe_runs_without_data(no_data, tmp_path):
    scale = recipe.RECIPE.scales["tiny"]
    context = Context("tiny", 0, tmp_path, lambda text: None)
    outcome = recipe.run(scale, context)
    verdicts = {c.id: c.verdict for c in outcome.claims}
    assert verdicts["mnist-quick"] == "not_measured"
    assert verdicts["mnist-network-4.62"] == "not_measured"
    assert verdicts["flat-clip-contracts"] == "fails"
    assert verdicts["exact-program"] == "holds"
    assert verdicts["epsilon-sigma-15"] == "holds"

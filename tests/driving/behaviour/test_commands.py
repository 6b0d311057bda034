"""The verbs, the recipe at its smallest, and what a user sees of bad input."""

import json

import numpy as np
import pytest

from jaxml import cli
from jaxml.driving.planning import recipe as planning
from jaxml.driving.prediction import claims


def test_safety_prints_distances(capsys):
    assert cli.run(["driving", "safety", "--rear", "10", "--front", "10"]) == 0
    assert "28.28 m" in capsys.readouterr().out


def test_safety_judges_drives(tmp_path, capsys):
    ego = np.zeros((1, 5, 6), np.float32)
    ego[..., 3:5], ego[..., 5] = [4.5, 1.8], 10.0
    ego[0, :, 0] = 2.0 * np.arange(5)
    others = np.zeros((1, 5, 1, 6), np.float32)
    others[..., 3:5], others[..., 0] = [4.5, 1.8], 10.0
    np.savez(tmp_path / "d.npz", ego=ego, others=others, mask=np.ones((1, 5, 1), bool))
    cli.run(["driving", "safety", str(tmp_path / "d.npz")])
    told = capsys.readouterr().out
    assert "collided" in told and "1 drives" in told


def test_safety_refuses_other_files(tmp_path):
    np.savez(tmp_path / "d.npz", ego=np.zeros(3))
    with pytest.raises(ValueError, match="must hold ego, others, mask"):
        cli.run(["driving", "safety", str(tmp_path / "d.npz")])


def test_predict_writes_scores(tmp_path, capsys, no_data):
    out = tmp_path / "p"
    words = ["eth", "--made", "--preset", "tiny", "--steps", "4", "--out", str(out)]
    assert cli.run(["driving", "predict", *words]) == 0
    scores = json.loads((out / "scores.json").read_text())
    assert scores["forecast"]["min_ade"] < scores["constant velocity"]["min_ade"]
    assert (out / "forecasts.gif").read_bytes()[:3] == b"GIF"
    with np.load(out / "forecasts.npz") as kept:
        assert kept["paths"].shape[1:] == (4, 12, 2)


def test_predict_refuses_another_scene():
    with pytest.raises(ValueError, match="scene must be one of"):
        cli.run(["driving", "predict", "zara9"])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_plan_drives(tmp_path, capsys):
    out = tmp_path / "d"
    words = ["idm", "--episodes", "1", "--duration-s", "1", "--vehicles", "4", "--out", str(out)]
    assert cli.run(["driving", "plan", *words]) == 0
    assert (out / "idm.gif").exists()


def test_every_claim_has_one_name():
    names = [*claims.PROMISES, *planning.PROMISES]
    assert len(names) == len(set(names))

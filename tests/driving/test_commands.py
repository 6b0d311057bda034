"""The verbs and the recipe, on a machine without data."""

import json
import os
from pathlib import Path

import pytest

from jaxml import cli


def test_detect2d_trains_and_is_scored(no_data, tmp_path, capsys):
    folder, out = str(tmp_path / "run"), str(tmp_path / "picture.svg")
    flags = ["--preset", "tiny", "--steps", "2", "--batch-size", "2"]
    assert cli.run(["driving", "detect2d", "train", folder, *flags]) == 0
    assert cli.run(["driving", "detect2d", "eval", folder]) == 0
    text = capsys.readouterr().out
    assert "made-up images stand in" in text
    assert "AP50" in text
    assert cli.run(["driving", "detect2d", "demo", folder, "--out", out]) == 0
    assert "<svg" in Path(out).read_text()
    with pytest.raises(ValueError, match="holds a run with"):
        cli.run(["driving", "detect2d", "train", folder, *flags, "--seed", "1"])


@pytest.mark.parametrize(
    "words",
    [
        ["detect2d", "eval"],
        ["detect3d", "eval"],
        ["fuse", "demo"],
        ["depth", "demo"],
        ["v2x", "eval"],
    ],
)
def test_an_empty_folder_says_what_to_do(words, tmp_path):
    with pytest.raises(FileNotFoundError, match="run `train` first"):
        cli.run(["driving", *words, str(tmp_path)])


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["detect3d", "fuse", "v2x"])
def test_the_simulated_verbs(no_data, verb, tmp_path, capsys):
    folder, out = str(tmp_path / "run"), str(tmp_path / "picture.svg")
    train = ["driving", verb, "train", folder, "--preset", "tiny", "--steps", "2"]
    assert cli.run(train + (["--batch-size", "2"] if verb == "detect3d" else [])) == 0
    assert cli.run(["driving", verb, "eval", folder, "--scenes", "4"]) == 0
    assert cli.run(["driving", verb, "demo", folder, "--out", out]) == 0
    text = capsys.readouterr().out
    assert "generated layouts" in text
    assert "simulated" in text
    assert os.path.getsize(out) > 1000


@pytest.mark.slow
def test_odometry_of_a_simulated_drive(no_data, tmp_path, capsys):
    out = str(tmp_path / "path.svg")
    assert cli.run(["driving", "odometry", "demo", "--frames", "6", "--out", out]) == 0
    text = capsys.readouterr().out
    assert "a simulated drive" in text
    share = float(text.split("(")[1].split(" %")[0])
    assert share < 5


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_recipe_runs_without_data_and_claims_nothing(no_data, tmp_path):
    assert cli.run(["reproduce", "driving", "--scale", "tiny", "--out", str(tmp_path)]) == 0
    claims = json.loads((tmp_path / "results.json").read_text())["claims"]
    ids = [claim["id"] for claim in claims]
    assert len(set(ids)) == len(ids)
    assert {"odometry-kiss", "bccd-ap50-gpu", "late-over-none", "vehicle-ade", "leak"} < set(ids)
    assert {claim["verdict"] for claim in claims} == {"not_measured"}
    assert all(claim["why"] for claim in claims)


def test_every_part_of_the_recipe_exists():
    import importlib

    from jaxml.driving.recipe import PARTS

    for target in PARTS:
        module, function = target.split(":")
        assert callable(getattr(importlib.import_module(module), function))

"""`jaxml curate`: each verb, as a user meets it."""

import json

import numpy as np
import pytest

from jaxml import cli

WORDS = "the be to of and that have with river stone house garden morning letter".split()  # noqa: SIM905


def documents(path, num=30, seed=0):
    rng = np.random.default_rng(seed)
    rows = [{"id": f"{i:02d}", "text": " ".join(rng.choice(WORDS, 60)) + "."} for i in range(num)]
    rows.append({"id": "zz", "text": rows[0]["text"]})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_run_and_dedup(tmp_path, capsys):
    source = documents(tmp_path / "in.jsonl")
    (tmp_path / "p.toml").write_text('[[stage]]\nkind = "empty"\n[[stage]]\nkind = "exact"\n')
    out = tmp_path / "out"
    assert cli.run(["curate", "run", str(tmp_path / "p.toml"), str(source), "-o", str(out)]) == 0
    assert "31 documents read, 30 written" in " ".join(capsys.readouterr().out.split())
    words = ["curate", "dedup", str(source), "-o", str(tmp_path / "near"), "--format", "jsonl"]
    assert cli.run([*words, "--minhash.ngram", "3"]) == 0
    assert len((tmp_path / "near/data/part-00000-00000.jsonl").read_text().splitlines()) == 30


def test_filter(tmp_path, capsys):
    source = documents(tmp_path / "in.jsonl")
    words = [
        "curate",
        "filter",
        str(source),
        "-o",
        str(tmp_path / "out"),
        "--rules",
        "gopher_quality",
    ]
    assert cli.run(words) == 0
    assert "31 documents read" in capsys.readouterr().out
    with pytest.raises(ValueError, match="did you mean 'gopher_quality'"):
        cli.run([*words[:-1], "gopher_qualty"])


def test_mix(tmp_path, capsys):
    source = documents(tmp_path / "in.jsonl")
    (tmp_path / "target.txt").write_text("river stone river stone house")
    out = tmp_path / "picked.jsonl"
    words = ["curate", "mix", str(source), "-o", str(out), "--target", str(tmp_path / "target.txt")]
    assert cli.run([*words, "--num", "5", "--min-tokens", "10"]) == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(rows) == 5
    assert all(np.isfinite(row["logw"]) for row in rows)
    with pytest.raises(
        ValueError, match="k must be at most the number of eligible examples; got k=99"
    ):
        cli.run([*words, "--num", "99", "--min-tokens", "10"])


def runs_of(path):
    from jaxml.curate import scale

    rng = np.random.default_rng(0)
    n, d = np.exp(rng.uniform(18, 22, 12)), np.exp(rng.uniform(21, 24, 12))
    lines = ["n_params,n_tokens,n_unique,loss"]
    for a, b in zip(n, d, strict=True):
        lines.append(f"{a},{b},{b / 5},{float(scale.constrained_loss(a, b, b / 5))}")
    path.write_text("\n".join(lines))
    return path


@pytest.mark.slow
def test_scale(tmp_path, capsys):
    assert cli.run(["curate", "scale", str(runs_of(tmp_path / "runs.csv"))]) == 0
    assert "without repetition" in capsys.readouterr().out


def test_scale_prints_what_was_fitted(tmp_path, capsys, monkeypatch):
    from jaxml.curate import scale
    from jaxml.curate.huber import Minimum

    def fit(n, d, u, loss):
        assert len(n) == len(d) == len(u) == len(loss) == 9  # the highest losses are left out
        best = Minimum(np.array([95.37, 1.706]), 0.0158, 7)
        paper = Minimum(np.array([15.37, 5.31]), 0.0159, 3)
        return scale.RepetitionFit(paper, best, [best, paper], (0.77, 0.79, 0.44))

    monkeypatch.setattr(scale, "fit_repetition", fit)
    path = runs_of(tmp_path / "runs.csv")
    assert cli.run(["curate", "scale", str(path), "--drop-highest", "3"]) == 0
    out = capsys.readouterr().out
    assert "95.3700" in out
    assert "from the starts of the paper: 15.3700, 5.3100" in out
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="must have the columns"):
        cli.run(["curate", "scale", str(path)])


def test_plan(capsys):
    assert cli.run(["curate", "plan", "--flops", "1e22", "--unique-tokens", "25e9"]) == 0
    assert "7.02" in capsys.readouterr().out

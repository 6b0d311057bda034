"""The study of quality from a bare command line, at the smallest size."""

import json

import numpy as np
import pytest

from jaxml.tnl import h100


@pytest.fixture(scope="module")
def tokens(tmp_path_factory):
    r = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("tokens") / "tokens.npz"
    text = {name: r.integers(0, 50, n).astype(np.uint16) for name, n in SIZES.items()}
    np.savez(path, **text, vocab_size=np.int64(50))
    return path


SIZES = {"train": 400, "val": 90, "test": 90}
WORDS = [*("--preset", "tiny", "--seq-len", "16", "--rows", "4", "--steps", "3"), *("--seeds", "2")]
WORDS += ["--lrs", "0.01", "0.02"]


def test_finished_runs_are_not_made_again(tokens, tmp_path, monkeypatch):
    monkeypatch.setattr(h100, "ARMS", {k: h100.ARMS[k] for k in ("tnl", "no decay")})
    h100.main([str(tokens), str(tmp_path), *WORDS])
    before = (tmp_path / "quality.jsonl").read_text()
    rows = [json.loads(line) for line in before.splitlines()]
    runs = [(r["arm"], r["seed"]) for r in rows]
    assert sorted(runs) == sorted(
        [("no decay", 0), *[(a, s) for a in ("tnl", "transformer") for s in (0, 0, 1)]]
    )
    found = json.loads((tmp_path / "quality.json").read_text())
    assert len(found["tnl minus transformer"]) == 2
    for arm, best in found["arms"].items():
        tried = {r["lr"]: r["val"] for r in rows if r["arm"] == arm and r["seed"] == 0}
        assert best["lr"] == min(tried, key=tried.get)
    h100.main([str(tokens), str(tmp_path), *WORDS])
    assert (tmp_path / "quality.jsonl").read_text() == before


def test_batches_are_the_same_for_every_model_and_cover_an_epoch(tokens):
    cfg = h100.Study("tiny", 16, 4, 3)
    found = h100.unpack(tokens)
    first, again = (found.batches(cfg, 1) for _ in range(2))
    seen = []
    for _ in range(24 // 4):
        batch = next(first)
        assert all((batch[k] == v).all() for k, v in next(again).items())
        assert (batch["inputs"][:, 1:] == batch["targets"][:, :-1]).all()
        seen += [tuple(row) for row in batch["inputs"]]
    assert len(set(seen)) == len(seen) == 24

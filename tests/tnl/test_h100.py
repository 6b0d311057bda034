"""The study of quality from a bare command line, at the smallest size."""

import json

import jax
import numpy as np
import pytest

from jaxml.tnl import h100, model
from jaxml.tnl.config import TNLConfig


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


class Rehearsed:
    """Stands in for a Trainer: "trains" at once, to parameters that tell rate and seed."""

    def __init__(self, lm, cfg):
        self.lm = lm

    def run(self, tokens, lr, seed):
        return {"lr": lr, "seed": seed}, [1.0]


def test_finished_runs_are_not_made_again(tokens, tmp_path, monkeypatch):
    monkeypatch.setattr(h100, "ARMS", {k: h100.ARMS[k] for k in ("tnl", "no decay")})
    monkeypatch.setattr(h100, "Trainer", Rehearsed)

    def evaluate(lm, params, windows):
        assert windows["inputs"].shape[1:] == (4, 16)
        return len(lm.name) + params["lr"] * (params["seed"] + 1)

    monkeypatch.setattr(h100.objective, "evaluate", evaluate)
    h100.main([str(tokens), str(tmp_path), *WORDS])
    before = (tmp_path / "quality.jsonl").read_text()
    rows = [json.loads(line) for line in before.splitlines()]
    runs = [(r["arm"], r["seed"]) for r in rows]
    assert sorted(runs) == sorted(
        [("no decay", 0), *[(a, s) for a in ("tnl", "transformer") for s in (0, 0, 1)]]
    )
    found = json.loads((tmp_path / "quality.json").read_text())
    assert found["tnl minus transformer"] == [len("TNL") - len("Transformer")] * 2
    assert all(best["lr"] == 0.01 for best in found["arms"].values())
    h100.main([str(tokens), str(tmp_path), *WORDS])
    assert (tmp_path / "quality.jsonl").read_text() == before
    h100.main([str(tokens), str(tmp_path), *WORDS, "--steps", "4"])  # another study's runs
    assert (tmp_path / "quality.jsonl").read_text().count("\n") == 2 * len(rows)


def test_a_training_learns_and_is_repeated_by_its_seed(tokens):
    cfg = h100.Study("tiny", 16, 4, 20, lrs=(0.01,))
    lm = model.language_model(TNLConfig(64, 16, 1, 2, 16))
    trainer, text = h100.Trainer(lm, cfg), h100.unpack(tokens)
    (params, curve), (again, same) = (trainer.run(text, 0.01, 0) for _ in range(2))
    assert curve == same
    assert len(curve) == 2 and curve[1] < curve[0]
    assert lm.init(jax.random.key(0)).keys() == params.keys() == again.keys()


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

"""Runs as a user has them: packed documents, perplexity, checkpoints in and out, commands."""

import dataclasses
import json
import math

import jax
import numpy as np
import pytest

from jaxml import cli, tnl
from jaxml.inputs import tokenizer
from jaxml.tnl import corpus as corpora
from jaxml.tnl import exchange, perplexity, throughput
from jaxml.tnl import train as training
from jaxml.tnl.config import TNLConfig
from jaxml.train.optim import OptimConfig
from jaxml.train.run import RunConfig

DOCUMENTS = [f"document {i}: " + "abcd " * (3 + i % 5) for i in range(60)]
OPTIM = OptimConfig(lr=1e-3, warmup_steps=0)
SMALL = TNLConfig(64, 16, 2, 2, 24, lrpe_layers=(0, 1), init_std=0.1)


def _corpus(packed=False):
    """Documents without any file."""
    words = tokenizer.CharTokenizer.of("".join(DOCUMENTS) + "\n")
    whole = np.asarray(words.encode("\n".join(DOCUMENTS)), np.uint16)
    rows = tuple(np.asarray(words.encode(d), np.uint16) for d in DOCUMENTS) if packed else ()
    return corpora.Corpus(whole, whole[:600], whole[600:1200], words, None, rows)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of two updates on packed documents."""
    folder = tmp_path_factory.mktemp("runs") / "packed"
    cfg = training.TrainConfig(
        SMALL,
        seq_len=32,
        batch_size=8,
        packed=True,
        eval_every=0,
        optim=OPTIM,
        run=RunConfig(num_steps=2, log_every=1),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpora, "load", lambda cfg, known=None, *, packed=False: _corpus(packed))
        lm, params, _ = training.train(cfg, folder)
    return folder, cfg, lm, params


def test_packed_documents_are_trained_on(trained):
    folder, _, lm, _ = trained
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2]
    assert all(np.isfinite(line["loss"]) for line in lines)
    assert lm.flops_per_token(32) > 6 * (lm.num_params() - 1000)


def test_batches_of_a_packed_run_hold_whole_documents():
    cfg = training.TrainConfig(SMALL, seq_len=96, batch_size=4, packed=True)
    corpus = _corpus(packed=True)
    batch = next(training._batches(cfg, corpus))
    row, segments = batch["inputs"][0], batch["segment_ids"][0]
    first = corpus.tokenizer.decode(row[segments == 1])
    assert any(document.startswith(first) for document in DOCUMENTS)
    assert segments.max() > 1


def test_perplexity_is_that_of_the_logits(trained):
    _, _, lm, params = trained
    corpus = _corpus()
    found = perplexity.measure(lm, params, corpus, "test", seq_len=32, rows=4, most=2)
    ids = corpus.test[: 2 * 4 * 32 + 1].astype(np.int64)
    rows = ids[:-1].reshape(8, 32)
    logits = np.asarray(jax.jit(lambda p, x: lm.logits(p, lm.hidden(p, x)))(params, rows))
    logits = logits.astype(np.float64)
    logits -= np.log(np.exp(logits).sum(-1, keepdims=True))
    want = -np.take_along_axis(logits, ids[1:].reshape(8, 32, 1), -1).mean()
    assert found.nats == pytest.approx(want, rel=1e-5)
    assert found.tokens == 256
    assert found.text_bytes == 256  # one byte per character here
    assert found.bits_per_byte == pytest.approx(want / math.log(2), rel=1e-5)


def test_checkpoints_go_out_and_come_in(trained, tmp_path):
    folder, _, lm, params = trained
    out = tmp_path / "model.safetensors"
    exchange.export(folder, out)
    cfg = exchange.adopt(out, tmp_path / "run", folder / "tokenizer.json")
    assert cfg.model.num_layers == SMALL.num_layers
    _, other, loaded, words = training.load(tmp_path / "run")
    ids = np.asarray(words.encode("document"), np.int32)[None]
    np.testing.assert_array_equal(lm.hidden(params, ids), other.hidden(loaded, ids))
    with pytest.raises(FileExistsError, match="holds a run already"):
        exchange.adopt(out, tmp_path / "run", folder / "tokenizer.json")


def test_imported_weights_are_where_training_begins(trained, tmp_path, monkeypatch):
    folder, _, _, params = trained
    exchange.export(folder, tmp_path / "m.safetensors")
    cfg = exchange.adopt(tmp_path / "m.safetensors", tmp_path / "run", folder / "tokenizer.json")
    monkeypatch.setattr(corpora, "load", lambda cfg, known=None, *, packed=False: _corpus(packed))
    still = dataclasses.replace(
        cfg, seq_len=32, batch_size=8, eval_every=0, optim=OPTIM, run=RunConfig(num_steps=0)
    )
    _, begun, _ = training.train(still, tmp_path / "run")
    jax.tree.map(np.testing.assert_array_equal, begun, params)
    other = dataclasses.replace(still, model=dataclasses.replace(cfg.model, eps=1e-3))
    with pytest.raises(ValueError, match=r"model\.eps"):
        training.train(other, tmp_path / "run")


def test_a_tokenizer_must_fit_the_checkpoint(trained, tmp_path):
    folder, *_ = trained
    exchange.export(folder, tmp_path / "m.safetensors")
    many = tokenizer.CharTokenizer.of("".join(map(chr, range(48, 148))))
    many.save(tmp_path / "tokenizer.json")
    with pytest.raises(ValueError, match=r"model\.vocab_size must be >= the tokenizer's"):
        exchange.adopt(tmp_path / "m.safetensors", tmp_path / "r", tmp_path / "tokenizer.json")
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"tokens": "file"}, "tokens='file' and tokenizer belong together"),
        ({"tokenizer": "a.json"}, "tokens='file' and tokenizer belong together"),
    ],
)
def test_tokenizers_from_files_are_named(given, message):
    with pytest.raises(ValueError, match=message):
        corpora.CorpusConfig(**given)


def test_commands_measure_export_and_import(trained, tmp_path, monkeypatch, capsys):
    folder, *_ = trained

    def jaxml(*words):
        monkeypatch.setattr("sys.argv", ["jaxml", "tnl", *map(str, words)])
        with pytest.raises(SystemExit) as done:
            cli.main()
        assert done.value.code in (0, None)
        return capsys.readouterr().out

    monkeypatch.setattr(corpora, "load", lambda cfg, known=None, *, packed=False: _named())
    assert "bits per byte" in jaxml("eval", "ppl", folder, "--batch-size", 4)
    assert "written" in jaxml("export", folder, tmp_path / "m.safetensors")
    told = jaxml(
        "import", tmp_path / "m.safetensors", tmp_path / "run",
        "--tokenizer", folder / "tokenizer.json",
    )  # fmt: skip
    assert "2 layers of width 16" in told
    assert tnl.load_checkpoint(tmp_path / "m.safetensors")[0].width == 16


def _named():
    from jaxml.inputs.source import Provenance

    return dataclasses.replace(_corpus(), provenance=Provenance("made here", "", "", 0, ""))


def test_rows_of_training_speed_say_what_is_asked():
    found = {
        ("TNL", 2048): (200e3, 0.3, 100),
        ("TNL", 8192): (190e3, 0.29, 104),
        ("Transformer", 2048): (150e3, None, 100),
        ("Transformer", 8192): (30e3, None, 100),
    }
    made = throughput.rows("385m", ["TNL", "Transformer"], [2048, 8192], 131_072, found)
    by_case = {(row.case, row.metric): row for row in made}
    whole = by_case["TNL 385m, 2048 to 8192 tokens", "slowest_over_fastest"]
    assert (whole.jaxml, whole.ratio) == (0.95, pytest.approx(0.95 / 0.97))
    assert by_case["TNL 385m N2048 B64", "tokens_s"].ratio == pytest.approx(200 / 175)
    fall = by_case["Transformer 385m, 2048 to 8192 tokens", "longest_over_shortest"]
    assert fall.jaxml == pytest.approx(0.2)
    with pytest.raises(ValueError, match="length must divide tokens"):
        throughput.measure(SMALL, "tiny", ["TNL"], [48], 100, 1)

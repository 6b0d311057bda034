"""Stages that compare all documents: the answer of the functions, whatever the parts."""

import functools
import json
import sys

import jax
import numpy as np
import pyarrow.parquet as pq
import pytest

from jaxml.curate import dedup, dsir, duplicates, engine, neighbours, pipeline, repeats, sample
from jaxml.curate import text as texts_
from jaxml.curate import words as words_
from jaxml.curate.dedup import MinHashConfig
from jaxml.curate.dsir import DsirConfig
from jaxml.curate.pipeline import Pipeline, Stage

WORDS = [f"{a}{b}{c}" for a in "bcdfg" for b in "aeiou" for c in ("n", "r", "st", "é")]


@pytest.fixture(scope="module")
def documents():
    """60 documents in the order of their ids, with sentences that some share."""
    rng = np.random.default_rng(0)
    shared = [" ".join(rng.choice(WORDS, 12)) for _ in range(4)]
    rows = []
    for i in range(60):
        pieces = [" ".join(rng.choice(WORDS, rng.integers(1, 25))) for _ in range(3)]
        if i % 4 == 0:
            pieces.insert(1, shared[i % 3])
        if i == 7:
            pieces = ["a", "b"] * 30
        if i == 9:
            pieces = []
        rows.append({"id": f"d{i:02d}", "text": " ".join(pieces), "k": i})
    rows.append(
        {
            "id": "d98",
            "text": " ".join([*rows[3]["text"].split()[9:], *rows[3]["text"].split()[:9]]),
        }
    )
    rows.append({"id": "d99", "text": rows[5]["text"] + " end"})
    return rows


def run(tmp_path, rows, stage, part_docs=7, seed=3, **more):
    order = np.random.default_rng(seed).permutation(len(rows))
    path = tmp_path / f"in{part_docs}.jsonl"
    path.write_text("".join(json.dumps(rows[i]) + "\n" for i in order))
    out = tmp_path / f"out{part_docs}"
    report = engine.run(Pipeline((stage,), part_docs=part_docs), [path], out, **more)
    rows = [r for p in sorted((out / "data").glob("*")) for r in pq.read_table(p).to_pylist()]
    return {r["id"]: r["text"] for r in rows}, report


def both(tmp_path, rows, stage):
    """The answer in parts of 7 documents and in one, which must agree."""
    many, report = run(tmp_path, rows, stage)
    one, again = run(tmp_path, rows, stage, 1000, 4)
    assert many == one
    assert report == again
    return many, report


@pytest.mark.parametrize("keep", ["none", "first"])
@pytest.mark.parametrize("length", [9, 40])
def test_substring_is_strike(tmp_path, documents, keep, length):
    got, _ = both(tmp_path, documents, Stage("substring", repeats.SubstringConfig(length, keep)))
    texts = [r["text"] for r in documents]
    want = dedup.strike(texts, length, keep)
    assert sum(map(len, want)) < sum(map(len, texts)) - 100
    for row, text, old in zip(documents, want, texts, strict=True):
        if text or not old:
            assert got[row["id"]] == text
        else:
            assert row["id"] not in got


def test_substring_in_small_blocks(tmp_path, documents, monkeypatch):
    monkeypatch.setattr(repeats, "_SIZE", 64)
    monkeypatch.setattr(repeats, "_ROOM", 50)
    stage = Stage("substring", repeats.SubstringConfig(20, "first"))
    got, _ = run(tmp_path, documents, stage)
    want = dedup.strike([r["text"] for r in documents], 20, "first")
    assert got == {r["id"]: t for r, t in zip(documents, want, strict=True) if t or not r["text"]}


def test_sliding_extremes():
    values = np.random.default_rng(0).integers(0, 50, 200).astype(np.uint64)
    for width in (1, 2, 7, 50, 200):
        windows = np.lib.stride_tricks.sliding_window_view(values, width)
        np.testing.assert_array_equal(repeats._slide(values, width, True), windows.min(1))
        np.testing.assert_array_equal(repeats._slide(values, width, False), windows.max(1))


def test_repeated_values_across_files():
    rng = np.random.default_rng(0)
    arrays = [np.sort(rng.integers(0, 1 << 63, 40).astype(np.uint64)) for _ in range(3)]
    arrays[2][5:9] = arrays[0][3:7]
    arrays[2].sort()
    arrays.append(np.zeros(0, np.uint64))
    where = [np.arange(len(a), dtype=np.uint64) + 1000 * i for i, a in enumerate(arrays)]
    want, count = np.unique(np.concatenate(arrays), return_counts=True)
    got, first = repeats.repeated(arrays, where)
    np.testing.assert_array_equal(got, want[count > 1])
    assert first.tolist() == [3, 4, 5, 6]


def test_semantic_is_its_function(tmp_path, documents):
    cfg = neighbours.SemanticConfig(num_clusters=3, eps=0.1, width=64, num_steps=5)
    got, report = both(tmp_path, documents, Stage("semantic", cfg))
    assert {"d03", "d98"} - set(got)  # the same words in another order
    assert {"d05", "d99"} - set(got)
    assert "d09" in got
    emb = neighbours.quantise(neighbours.hashed([r["text"] for r in documents], 64))
    emb = emb.astype(np.float64)
    full = np.flatnonzero(np.any(emb != 0, axis=1))
    unit = emb[full] / np.linalg.norm(emb[full], axis=1, keepdims=True)
    close = unit @ unit.T > 0.9
    alone = [documents[full[i]]["id"] for i in range(len(full)) if close[i].sum() == 1]
    assert set(alone) <= set(got)
    assert report.stages[0]["reasons"]["semantic_duplicate"] < len(documents) - len(alone)


def test_semantic_from_a_field(tmp_path):
    rng = np.random.default_rng(0)
    rows = [{"id": f"{i}", "text": "t", "emb": rng.normal(size=8).tolist()} for i in range(20)]
    rows += [{"id": f"copy{i}", "text": "t", "emb": rows[i]["emb"]} for i in range(5)]
    stage = Stage("semantic", neighbours.SemanticConfig(2, 0.01, "emb", num_steps=3))
    got, _ = both(tmp_path, rows, stage)
    assert len(got) == 20
    rows[3]["emb"] = "none"
    with pytest.raises(ValueError, match=r"field='emb' with lengths \[-1, 8\]"):
        run(tmp_path, rows, stage, part_docs=50)


def test_resampling_is_its_function(tmp_path, documents):
    (tmp_path / "target.txt").write_text(documents[0]["text"])
    features = DsirConfig(min_tokens=20)
    cfg = sample.ResampleConfig(str(tmp_path / "target.txt"), num=12, seed=5, features=features)
    got, report = both(tmp_path, documents, Stage("resample", cfg))
    texts = [r["text"] for r in documents]
    model = dsir.dsir_fit(texts, [documents[0]["text"]], features)
    ids = np.array([sample.identity(r["id"], r["text"]) for r in documents], np.uint64)
    want = dsir.gumbel_top_k(jax.random.key(5), dsir.dsir_weights(model, texts), 12, ids)
    assert set(got) == {documents[i]["id"] for i in want}
    assert report.stages[0]["reasons"]["too_short"] >= 2
    with pytest.raises(ValueError, match="num must lie in"):
        stage = Stage("resample", sample.ResampleConfig(cfg.path, num=99, features=features))
        run(tmp_path, documents, stage, part_docs=50)


def test_perplexity_buckets_are_percentiles(tmp_path, documents):
    (tmp_path / "good.txt").write_text("\n".join(r["text"] for r in documents[:20]))
    cfg = sample.PerplexityConfig(str(tmp_path / "good.txt"), order=3, keep=("middle",))
    got, report = both(tmp_path, documents, Stage("perplexity", cfg))
    model = words_.fit([(tmp_path / "good.txt").read_text()], 30_000, 3)
    values = model.perplexity([r["text"] for r in documents])
    low, high = np.percentile(values[np.isfinite(values)], [30, 60])
    want = {r["id"] for r, v in zip(documents, values, strict=True) if low < v <= high}
    assert set(got) == want
    assert set(report.stages[0]["reasons"]) == {"perplexity_head", "perplexity_tail"}
    words_.save(tmp_path / "model.npz", model)
    again = sample.PerplexityConfig(str(tmp_path / "model.npz"), keep=("middle",))
    assert set(run(tmp_path, documents, Stage("perplexity", again), 61)[0]) == want


def test_verified_links_only(tmp_path):
    rng = np.random.default_rng(1)
    rows = []
    for i in range(30):
        w = list(rng.choice(WORDS, 80))
        rows.append({"id": f"{i:02d}a", "text": " ".join(w)})
        w[:: 80 // (1 + i // 3)] = ["other"] * len(w[:: 80 // (1 + i // 3)])
        rows.append({"id": f"{i:02d}b", "text": " ".join(w)})
    cfg = MinHashConfig(num_bands=20, num_rows=2, ngram=2, verify=0.85)
    got, _ = both(tmp_path, rows, Stage("minhash", cfg))
    packed = texts_.pack([r["text"] for r in rows])
    shingles = texts_.shingle(packed, 2)
    edges = dedup.verify(shingles, dedup.lsh_edges(dedup.minhash(packed, cfg), num_bands=20), 0.85)
    keep = dedup.survivors(dedup.components(edges, len(rows)))
    assert set(got) == {r["id"] for r, k in zip(rows, keep, strict=True) if k}
    assert 30 < len(got) < 60
    loose = MinHashConfig(num_bands=20, num_rows=2, ngram=2)
    assert len(run(tmp_path, rows, Stage("minhash", loose), 61)[0]) < len(got)


def test_ranks_follow_ids_then_content(tmp_path):
    from jaxml.curate import executor, parts, rank, reader

    rng = np.random.default_rng(0)
    ids = [f"http://example.org/{i % 40:03d}" for i in range(200)]
    docs = [reader.Document(i, f"text {rng.integers(5)}", "{}") for i in ids]
    for k in range(4):
        parts.write(parts.of_documents(docs[k::4]), tmp_path / f"part-00000-{k:05d}.parquet")
    rank.assign(tmp_path, executor.local, room=30)
    got = np.concatenate([parts.ranks(p) for p in parts.listed(tmp_path)])
    assert sorted(got) == list(range(200))
    order = [d for k in range(4) for d in docs[k::4]]
    ranked = [order[i] for i in np.argsort(got)]
    assert [d.id for d in ranked] == sorted(d.id for d in docs)
    groups = {}
    for d in ranked:
        groups.setdefault(d.id, []).append(d.text)
    for texts in groups.values():  # equal contents lie side by side
        assert len([1 for a, b in zip(texts, texts[1:], strict=False) if a != b]) < len(set(texts))


def test_a_model_file_that_is_none(tmp_path):
    np.savez(tmp_path / "x.npz", a=np.zeros(2))
    with pytest.raises(ValueError, match="holds no n-gram model"):
        words_.load(tmp_path / "x.npz")


def test_every_stage_can_travel(documents):
    import pickle

    for function in (
        functools.partial(duplicates._bands, MinHashConfig()),
        functools.partial(repeats._grams, repeats.SubstringConfig()),
        functools.partial(neighbours._embed, neighbours.SemanticConfig()),
        functools.partial(engine._judge, Stage("pii", pipeline.NoConfig())),
    ):
        home = sys.modules[function.func.__module__]  # a worker finds it there by its name
        assert getattr(home, function.func.__qualname__) is function.func
        assert pickle.dumps(function)  # and its settings can be written

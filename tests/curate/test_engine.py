import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from jaxml.curate import dedup, duplicates, engine, pipeline, reader, text, work, writer
from jaxml.curate.dedup import MinHashConfig
from jaxml.curate.pipeline import Pipeline, Stage

PIPE = Pipeline(
    (
        Stage("empty", pipeline.NoConfig()),
        Stage("exact", duplicates.ExactConfig()),
        Stage("minhash", MinHashConfig(num_bands=8, num_rows=4, ngram=3)),
        Stage("pii", pipeline.NoConfig()),
    ),
    part_docs=1000,
)


def corpus(num=60):
    rng = np.random.default_rng(0)
    vocabulary = [f"w{chr(97 + i % 26)}{chr(97 + i // 26)}" for i in range(500)]
    rows = []
    for i in range(num):
        words = list(rng.choice(vocabulary, 60))
        rows.append({"id": f"doc-{i:03d}", "text": " ".join(words), "n": i})
        if i % 3 == 0:
            words[5] = "changed"
            rows.append({"id": f"near-{i:03d}", "text": " ".join(words), "n": i})
        if i % 5 == 0:
            rows.append({"id": f"copy-{i:03d}", "text": rows[-1]["text"] + " ", "n": i})
    rows.append({"id": "e", "text": " ", "n": 0})
    rows.append({"id": "mail", "text": "write to a@b.org about it", "n": 1})
    return rows


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read_all(out):
    rows = [
        r for p in sorted((out / "data").glob("*.parquet")) for r in pq.read_table(p).to_pylist()
    ]
    return {(r["id"], r["text"]) for r in rows}


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    folder = tmp_path_factory.mktemp("straight")
    report = engine.run(PIPE, [write(folder / "in.jsonl", corpus())], folder / "out")
    return folder / "out", report


def test_survivors_are_those_of_the_functions(straight):
    rows = sorted((r for r in corpus() if r["text"].strip()), key=lambda r: r["id"])
    first = dedup.exact([r["text"] for r in rows])
    rows = [r for r, keep in zip(rows, first, strict=True) if keep]
    cfg = PIPE.stages[2].cfg
    sig = dedup.minhash(text.pack([r["text"] for r in rows]), cfg)
    labels = dedup.components(dedup.lsh_edges(sig, num_bands=8), len(rows))
    want = {r["id"] for r, keep in zip(rows, dedup.survivors(labels), strict=True) if keep}
    assert {id for id, _ in read_all(straight[0])} == want
    assert 55 < len(want) < 66


def test_report_adds_up(straight):
    out, report = straight
    sizes = [report.num_read, *(s["num_out"] for s in report.stages)]
    for stage, before in zip(report.stages, sizes, strict=False):
        assert stage["num_in"] == before
        assert stage["num_in"] - stage["num_out"] == sum(stage["reasons"].values())
    removed = pq.read_table(out / "removed.parquet")
    assert removed.num_rows == report.num_read - report.num_written
    assert report.stages[0]["reasons"] == {"empty": 1}
    assert json.loads((out / "report.json").read_text())["num_written"] == report.num_written
    assert ("mail", "write to <EMAIL> about it") in read_all(out)
    card = (out / "card.html").read_text()
    assert "duplicate" in card
    assert "near-000" in card
    assert not (out / "_work").exists()


@pytest.mark.parametrize("part_docs", [13, 1000])
def test_order_and_partition_do_not_change_the_answer(straight, tmp_path, part_docs):
    rows = corpus()
    order = np.random.default_rng(part_docs).permutation(len(rows))
    (tmp_path / "in").mkdir()
    for k in range(3):
        write(tmp_path / "in" / f"{k}.jsonl", [rows[i] for i in order[k::3]])
    pipe = Pipeline(PIPE.stages, part_docs=part_docs)
    engine.run(pipe, [tmp_path / "in"], tmp_path / "out")
    assert read_all(tmp_path / "out") == read_all(straight[0])
    if part_docs == 13:
        assert len(list((tmp_path / "out/data").iterdir())) > 4


def test_a_killed_run_goes_on_behind_the_last_part(straight, tmp_path, monkeypatch):
    source = write(tmp_path / "in.jsonl", corpus())
    pipe = Pipeline(PIPE.stages, part_docs=13)
    calls, whole = [], work._measure

    def dies(function, folder, part):
        calls.append(folder.name)
        if len(calls) == 10:
            raise KeyboardInterrupt
        return whole(function, folder, part)

    monkeypatch.setattr(work, "_measure", dies)
    with pytest.raises(KeyboardInterrupt):
        engine.run(pipe, [source], tmp_path / "out")
    assert not (tmp_path / "out/data").exists()
    num_parts = len(list((tmp_path / "out/_work/00-read").glob("part-*.parquet")))
    with pytest.raises(ValueError, match="unfinished run with other pipeline"):
        engine.run(Pipeline(PIPE.stages[:2], part_docs=13), [source], tmp_path / "out")
    engine.run(pipe, [source], tmp_path / "out")
    assert read_all(tmp_path / "out") == read_all(straight[0])
    assert len(calls) == 2 * num_parts + 1  # only the part that died is done twice
    with pytest.raises(ValueError, match="holds a finished run"):
        engine.run(pipe, [source], tmp_path / "out")


def test_what_cannot_be_read_is_set_apart(tmp_path):
    lines = [
        b'{"text": "good", "extra": [1, {"a": null}]}',
        b'{"text": "cut off',
        b'{"text": "bad \xff byte"}',
        b"[1, 2]",
        b'{"body": "no text"}',
        b'{"text": null}',
        b"",
        b'{"text": "' + b"x" * 5000 + b'"}',
        b'{"text": "surrogate \\ud800 alone"}',
        b'{"text": "last, without a newline"}',
    ]
    (tmp_path / "in.jsonl").write_bytes(b"\n".join(lines))
    pipe = Pipeline((Stage("empty", pipeline.NoConfig()),), max_document_bytes=2000)
    report = engine.run(pipe, [tmp_path / "in.jsonl"], tmp_path / "out", output_format="jsonl")
    assert report.num_bad == {
        "invalid_utf8": 1, "malformed_json": 1, "no_text": 2, "not_an_object": 1, "too_long": 1,
    }  # fmt: skip
    assert report.num_read == report.num_written == 3
    bad = [json.loads(x) for x in (tmp_path / "out/quarantine.jsonl").read_text().splitlines()]
    assert [b["place"] for b in bad] == [2, 3, 4, 5, 6, 8]
    assert bad[1]["content"] == '{"text": "bad \\xff byte"}'
    (part,) = (tmp_path / "out/data").glob("*.jsonl")
    rows = [json.loads(line) for line in part.read_text().splitlines()]
    assert rows[0]["extra"] == [1, {"a": None}]
    assert [r["text"] for r in rows] == ["good", "surrogate ? alone", "last, without a newline"]
    assert rows[0]["id"] == reader.content_id("good")


def test_a_disk_that_is_full_loses_nothing(straight, tmp_path):
    """The kernel refuses to let a file grow, as a full disk does."""
    import resource

    source = write(tmp_path / "in.jsonl", corpus())
    pipe = Pipeline(PIPE.stages, part_docs=40)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (6000, hard))
    try:
        with pytest.raises(engine.DiskFullError, match="parts are finished and stay; make room"):
            engine.run(pipe, [source], tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not (tmp_path / "out/data").exists()
    engine.run(pipe, [source], tmp_path / "out")
    assert read_all(tmp_path / "out") == read_all(straight[0])
    assert not list((tmp_path / "out").rglob("*.part"))


@pytest.mark.parametrize("kind", list(writer.FORMATS))
def test_every_format_is_written_and_most_are_read(kind, tmp_path):
    rows = [{"id": str(i), "text": f"text é {i}", "k": i} for i in range(3)]
    pipe = Pipeline((Stage("empty", pipeline.NoConfig()),))
    engine.run(pipe, [write(tmp_path / "in.jsonl", rows)], tmp_path / "out", output_format=kind)
    if kind == "array_record":
        from array_record.python import array_record_module

        (path,) = (tmp_path / "out/data").iterdir()
        records = array_record_module.ArrayRecordReader(str(path))
        assert [json.loads(r) for r in records.read([0, 1, 2])] == rows
        return
    files = reader.find([tmp_path / "out/data"])
    got = [d for path in files for d in reader.read(path)]
    assert [(d.id, d.text) for d in got] == [(r["id"], r["text"]) for r in rows]


def test_empty_input_and_texts(tmp_path):
    (tmp_path / "in.jsonl").write_text("")
    report = engine.run(PIPE, [tmp_path / "in.jsonl"], tmp_path / "out")
    assert (report.num_read, report.num_written) == (0, 0)
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts/a.txt").write_text("one")
    (tmp_path / "texts/b.txt").write_bytes(b"\xff\xfe")
    got = [d for p in reader.find([tmp_path / "texts"]) for d in reader.read(p)]
    assert (got[0].text, got[1].reason) == ("one", "invalid_utf8")


def test_a_folder_in_use_is_refused(tmp_path):
    from jaxml.core import files

    source = write(tmp_path / "in.jsonl", corpus(3))
    with files.lock(tmp_path / "out"), pytest.raises(files.FolderInUseError):
        engine.run(PIPE, [source], tmp_path / "out")


def test_a_corpus_is_never_whole_in_memory(tmp_path):
    """8 MB of texts in parts of half a MB: Python and NumPy together hold a few parts at most."""
    import tracemalloc

    filler = "some words that say nothing at all " * 57
    with (tmp_path / "in.jsonl").open("w") as handle:
        for i in range(4000):
            handle.write(
                json.dumps({"id": f"{i % 3500}-{i // 3500}", "text": f"{i % 3500} {filler}"})
            )
            handle.write("\n")
    stages = (Stage("exact", duplicates.ExactConfig()),)
    pipe = Pipeline(stages, part_bytes=1 << 19)
    tracemalloc.start()
    report = engine.run(pipe, [tmp_path / "in.jsonl"], tmp_path / "out")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (report.num_read, report.num_written) == (4000, 3500)
    assert (tmp_path / "in.jsonl").stat().st_size > 8_000_000
    assert peak < 5_000_000


@pytest.mark.slow
def test_a_corpus_beyond_its_memory_limit(tmp_path):
    """300 MB and 190,000 documents in 1 GiB, of which the libraries take more than half."""
    import subprocess
    import sys
    from pathlib import Path

    script = Path(__file__).resolve().parents[2] / "benchmarks" / "curate-scale.py"
    words = [sys.executable, str(script), "limit", str(tmp_path / "out.json"), "--gigabytes", "0.3",
             "--memory", "1", "--scratch", str(tmp_path / "scratch")]  # fmt: skip
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = {
        r["metric"]: r["jaxml"] for r in json.loads((tmp_path / "out.json").read_text())["rows"]
    }
    assert rows["written"] > 100_000

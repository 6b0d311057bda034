"""Pipelines as files."""

import json

import pytest

from jaxml.curate import pipeline
from jaxml.curate.dedup import MinHashConfig
from jaxml.curate.pipeline import Pipeline


def test_pipeline_files(tmp_path):
    path = tmp_path / "p.toml"
    path.write_text(
        'part_docs = 7\n[[stage]]\nkind = "gopher_quality"\nmin_words = 10\n'
        '[[stage]]\nkind = "minhash"\nngram = 3\n'
    )
    pipe = pipeline.load(path)
    assert pipe.part_docs == 7
    assert pipe.stages[0].cfg.min_words == 10
    assert pipe.stages[1].cfg == MinHashConfig(ngram=3)
    assert pipeline.fingerprint(pipe) == pipeline.fingerprint(Pipeline(pipe.stages))
    for content, message in (
        ('[[stage]]\nkind = "gopher_qualty"', "did you mean 'gopher_quality'"),
        ('[[stage]]\nkind = "minhash"\nngrm = 3', "did you mean 'ngram'"),
        ("[[stage]]\nngram = 3", "stage 1 must have a kind"),
        ('part_doc = 3\n[[stage]]\nkind = "exact"', "did you mean 'part_docs'"),
        ("", "at least one stage"),
        ("x", "is not TOML"),
    ):
        path.write_text(content)
        with pytest.raises(ValueError, match=message):
            pipeline.load(path)


def test_stages_with_files(tmp_path):
    (tmp_path / "words.txt").write_text("badword\n")
    label = "one two three four five six seven eight nine ten eleven twelve thirteen"
    (tmp_path / "tests.jsonl").write_text(json.dumps({"task": "t", "label": label}) + "\n")
    for kind, cfg, want in (
        ("bad_words", pipeline.BadWordsConfig(str(tmp_path / "words.txt")), ["bad_words", ""]),
        (
            "contamination",
            pipeline.ContaminationConfig(str(tmp_path / "tests.jsonl")),
            ["", "leak_t"],
        ),
    ):
        stage = pipeline.TEXT_STAGES[kind][1](cfg)
        assert stage(["a badword here", f"So: {label}!"])[1] == want

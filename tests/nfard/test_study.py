"""Verdicts on a small zoo, what moves them, and what is said of them."""

import json

import jax
import numpy as np
import pytest

from jaxml.nfard import claims, evaluate, pictures, reuse, study
from jaxml.nfard.config import DetectorConfig
from tests.nfard.conftest import CFG


def test_references_are_never_judged_and_negatives_are_hard(measured):
    rows = measured.evaluations["black"].rows
    assert not any("reference" in row.suspect for row in rows)
    kinds = {row.kind for row in rows if not row.reuse}
    assert kinds == set(reuse.NEGATIVES)
    assert {row.reuse for row in rows if row.kind == "other_victim"} == {False}


def test_neither_suspects_nor_labels_move_suite_or_threshold(measured, built, data):
    """Traps 4 and 7: both come from the victim and the references alone."""
    zoo, cfg = built[0], DetectorConfig(n_suite=60)
    want = measured.evaluations["black"].calibrations["victim0"]
    kept = [e for e in zoo.entries if e.kind in ("victim", "reference", "reference_half")]
    other = data.test._replace(label=(data.test.label + 3) % 10)
    found = evaluate.evaluate_zoo(zoo._replace(entries=kept), other, cfg).calibrations["victim0"]
    np.testing.assert_array_equal(found.suite.rows, want.suite.rows)
    for test, mark in want.thresholds.items():
        assert found.thresholds[test].value == pytest.approx(mark.value, rel=5e-3)  # float32


def test_only_the_abstract_is_quoted():
    """Trap 10: no table of the paper was seen."""
    for scale in claims.MARKS:
        quoted = {p.paper for p in claims.promises(scale).values() if p.paper_source != "none"}
        assert quoted == {"1.0", "0.984", "2 to 99"}


def test_pruned_language_models_have_their_row_and_claim(measured):
    numbers = {"distance": 0.5, "threshold": 0.7, "p": 0.01, "accuracy": 80.0}
    rows = [
        {"victim": "victim0", "suspect": "structured-v0", "reuse": True, "verdict": True},
        {"victim": "victim0", "suspect": "weights-v0", "reuse": True, "verdict": False},
        {"victim": "victim0", "suspect": "weights-v1", "reuse": False, "verdict": False},
        {"victim": "victim0", "suspect": "independent0", "reuse": False, "verdict": False},
    ]
    rows = [{**row, **numbers} for row in rows]
    found = {**study.summary(measured), "texts": rows}
    decided = {c.id: c for c in claims.decide(found, "laptop", "test")}["pruned-language-models"]
    assert decided.measured == pytest.approx(2 / 3) and decided.verdict == "fails"
    shown = pictures.texts(rows).rows
    assert shown[2][1].endswith("of another victim") and shown[3][1].startswith("independent")
    none = claims.decide({**found, "texts": []}, "laptop", "test", {"texts": "no text here"})
    assert {c.id: c.why for c in none}["pruned-language-models"] == "no text here"


def test_near_copies_are_found_white_and_black(measured):
    for name in ("white", "black"):
        rows = measured.evaluations[name].rows
        near = [r for r in rows if r.kind in ("int8", "fp16", "ft_last")]
        assert len(near) == 6 and all(r.verdict.reuse for r in near)
    flat = [r for r in measured.evaluations["white"].rows if r.kind in reuse.ATTACKS]
    tuned = [r for r in measured.evaluations["white"].rows if r.kind == "ft_all"]
    for row in flat:
        twin = next(t for t in tuned if t.victim == row.victim)
        a, b = (r.verdict.tests[0].distance for r in (row, twin))
        assert a == pytest.approx(b, abs=1e-3)


def test_many_devices_answer_alike(built, data):
    zoo, _ = built
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    members, rows = zoo.of("victim", "ft_all"), np.arange(40)
    one, many = (evaluate.answers(zoo, members, data.test.image, rows, m) for m in (None, mesh))
    for entry in members:
        alone = zoo.access(entry)(data.test.image, rows)
        for found in (one, many):
            np.testing.assert_allclose(found[entry.name].probs, alone.probs, atol=1e-5)
            np.testing.assert_allclose(found[entry.name].hidden, alone.hidden, atol=1e-4)


def test_numbers_tables_and_claims(measured, built):
    found = json.loads(json.dumps(study.summary(measured)))
    decided = {c.id: c for c in claims.decide(found, "laptop", "test")}
    assert decided["suite-deepjudge"].verdict == "not_measured"
    assert decided["quantised-distance"].measured is not None
    best = max(b["score"]["auc"] for b in found["baselines"].values())
    ours = found["detectors"]["black, 60 queries"]["scores"]["all"]["auc"]
    assert decided["auc-over-baselines"].measured == pytest.approx(ours - best)
    assert {c.verdict for c in claims.missing("h100", "no data")} == {"not_measured"}
    assert len(pictures.kinds(found).rows) == len(CFG.kinds) + 3 + 4
    assert "<svg" in pictures.distances("d", found, "black", "output_contrast").svg
    assert len(pictures.members(study.members(built[0])).rows) == len(built[0].entries)

"""The recipe: without data nothing is invented; with data its tiny scale runs."""

import os

import pytest

from jaxml.curate import claims, recipe
from jaxml.report.recipe import Context


def test_without_data_claims_say_what_to_get(no_data, tmp_path):
    context = Context("tiny", 0, tmp_path, lambda _: None)
    outcome = recipe.run(recipe.RECIPE.scales["tiny"], context)
    by_id = {c.id: c for c in outcome.claims}
    assert by_id["minhash-90"].verdict != "not_measured"
    assert "in python" in by_id["minhash-90"].why
    rest = [c for c in outcome.claims if not c.id.startswith("minhash")]
    assert all(c.verdict == "not_measured" and "To have it" in c.why for c in rest)
    assert len(by_id) == sum(map(len, claims.EVERY.values()))


def test_a_better_minimum_fails_the_published_one():
    found = {
        "paper": [15.37, 5.31, 0.0158259], "minima": [[95.4, 1.7, 0.0158047, 3]],
        "r2": [0.7722, 0.79, 0.445], "plan_tokens": 237.3e9,
    }  # fmt: skip
    by_id = {c.id: c for c in claims.decide("repetition", found, "tiny")}
    assert by_id["repetition-best"].verdict == "fails"
    assert "95.4" in by_id["repetition-best"].why
    assert by_id["repetition-rd"].verdict == by_id["plan-tokens"].verdict == "holds"


@pytest.mark.slow
@pytest.mark.skipif("JAXML_DATA" not in os.environ, reason="needs JAXML_DATA")
def test_the_tiny_scale_runs_and_resumes(tmp_path):
    said = []
    context = Context("tiny", 0, tmp_path, said.append)
    first = recipe.run(recipe.RECIPE.scales["tiny"], context)
    assert len(said) == 6
    again = recipe.run(recipe.RECIPE.scales["tiny"], context)
    assert len(said) == 6
    assert [c.measured for c in again.claims] == [c.measured for c in first.claims]
    assert all(c.measured is not None for c in first.claims)

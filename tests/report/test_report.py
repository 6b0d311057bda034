import dataclasses
import functools
import json
import math
from pathlib import Path

import jax.numpy as jnp
import jsonschema
import pytest

from jaxml.commands import reproduce
from jaxml.report import claim, figure, page, timing
from jaxml.report.recipe import Context, Outcome, Recipe, Sample, Table, load, save

SCHEMA = json.loads((Path(page.__file__).parent / "results.schema.json").read_text())
P = claim.Promise("tnl", "a-claim", "Words <b>", "2.0", "read", "s", claim.at_most(2, "seconds"))


@dataclasses.dataclass(frozen=True)
class Settings:
    size: int = 3


def _outcome():
    return Outcome(
        claims=[P.measured(1.5, "laptop", 0.25, "why & how"), P.missing("get it", "laptop")],
        figures=[figure.lines("one", "Title", "Caption", {"a": ([1, 2], [3, 4])}, x="x", y="y")],
        tables=[Table("T", ("k", "v"), (("<i>", "1"),))],
        samples=[Sample("S", "<script>alert(1)</script>")],
        data=[("set", "JAXML_DATA", "ab12", "CC0")],
    )


def _recipe(run=None, system="toy"):
    return Recipe(
        system, "Toy & co", "About it.", {"laptop": Settings()}, run or (lambda c, x: None)
    )


@pytest.mark.parametrize(
    ("rule", "yes", "no"),
    [
        (claim.at_most(2), 2.0, 2.01),
        (claim.at_least(2), 2.0, 1.99),
        (claim.between(1, 2), 1.0, 2.5),
    ],
)
def test_the_rule_decides(rule, yes, no):
    promise = dataclasses.replace(P, rule=rule)
    assert promise.measured(yes, "laptop").verdict == "holds"
    assert promise.measured(no, "laptop").verdict == "fails"
    assert promise.missing("no data", "laptop").verdict == "not_measured"


def test_a_value_that_is_not_finite_fails():
    row = P.measured(math.nan, "laptop")
    assert (row.verdict, row.measured) == ("fails", None)
    assert "nan" in row.why


def test_unknown_source_of_a_number():
    with pytest.raises(ValueError, match="paper_source must be one of read, second-hand"):
        dataclasses.replace(P, paper_source="guessed")


def test_results_follow_the_schema(tmp_path):
    about = {"device": "d", "versions": {}, "commit": "c", "date": "now", "command": "x"}
    about |= {"python": "3", "platform": "cpu", "cpu_cores": 2, "system": "s"}
    part = page.Part(_recipe(), _outcome(), 1.23)
    path = page.write([part], about, tmp_path)
    record = json.loads((tmp_path / "results.json").read_text())
    jsonschema.validate(record, SCHEMA)
    assert record["claims"][0]["measured"] == 1.5
    for spoil in ({"verdict": "maybe"}, {"paper_source": "rumour"}, {"extra": 1}):
        bad = {**record, "claims": [{**record["claims"][0], **spoil}]}
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(bad, SCHEMA)
    html = path.read_text()
    assert "Words &lt;b&gt;" in html and "&lt;script&gt;" in html and "<script" not in html
    assert "1.5 ± 0.25 s" in html and "not measured" in html
    assert "http" not in html.replace("http://www.w3.org", "")


def test_figures_have_their_own_ids_and_the_colours_of_the_page():
    a, b = (figure.lines(n, n, "", {"s": ([1, 2], [1, 2])}, x="", y="") for n in "ab")
    assert 'id="a-' in a.svg and 'id="b-' in b.svg and "currentColor" in a.svg
    assert "width=" not in a.svg[: a.svg.index(">")]
    assert a.svg == figure.lines("a", "a", "", {"s": ([1, 2], [1, 2])}, x="", y="").svg


def test_an_outcome_survives_the_disk(tmp_path):
    save(_outcome(), "abc", 2.5, tmp_path / "outcome.json")
    again, wall = load(tmp_path / "outcome.json", "abc")
    assert dataclasses.asdict(again) == dataclasses.asdict(_outcome())
    assert wall == 2.5
    assert load(tmp_path / "outcome.json", "other") is None
    (tmp_path / "outcome.json").write_text("{")
    assert load(tmp_path / "outcome.json", "abc") is None


def test_an_unchanged_recipe_is_not_run_again(tmp_path, monkeypatch):
    calls = []

    def run(cfg, context: Context):
        calls.append(context.seed)
        return _outcome()

    console = reproduce.Console(quiet=True)
    recipe = _recipe(run)
    for seed in (0, 0, 1):
        assert not reproduce.run_one(recipe, "laptop", seed, tmp_path, console).error
    assert calls == [0, 1]
    changed = dataclasses.replace(recipe, scales={"laptop": Settings(4)})
    reproduce.run_one(changed, "laptop", 0, tmp_path, console)
    assert calls == [0, 1, 0]


def test_a_recipe_that_stops_is_shown_and_the_others_run(tmp_path, monkeypatch):
    def bad(cfg, context):
        raise RuntimeError("out of darts")

    def good(cfg, context):
        return _outcome()

    chosen = [_recipe(bad, "bad"), _recipe(good, "good")]
    monkeypatch.setattr(reproduce, "recipes", lambda systems: chosen)
    assert reproduce.main(out=tmp_path) == 1
    assert "RuntimeError: out of darts" in (tmp_path / "index.html").read_text()
    assert len(json.loads((tmp_path / "results.json").read_text())["claims"]) == 2


def test_an_outcome_that_may_grow_is_made_again(tmp_path, monkeypatch):
    ran = []

    def grows(cfg, context):
        ran.append(1)
        return dataclasses.replace(_outcome(), kept=len(ran) > 1)

    monkeypatch.setattr(reproduce, "recipes", lambda systems: [_recipe(grows)])
    for _ in range(3):
        assert reproduce.main(out=tmp_path) == 0
    assert len(ran) == 2


def test_no_recipe_at_that_scale(monkeypatch):
    monkeypatch.setattr(reproduce, "recipes", lambda systems: [_recipe()])
    with pytest.raises(ValueError, match="no recipe among toy has scale 'h100'"):
        reproduce.main(("toy",), scale="h100")


def _noted(order, name):
    order.append(name)
    return jnp.ones(1)


def test_timing_alternates_and_counts():
    order = []
    calls = {name: functools.partial(_noted, order, name) for name in "ab"}
    found = timing.alternate(calls, repeats=3, warmups=1)
    assert order == list("ab" * 4)
    assert len(found["a"].seconds) == 3 and found["a"].median > 0
    with pytest.raises(ValueError, match="repeats must be > 0"):
        timing.alternate(calls, repeats=0)


def test_rows_and_files(tmp_path):
    ours, peer = timing.Timing((1.0, 2.0, 3.0)), timing.Timing((4.0, 6.0, 5.0))
    row = timing.faster("case", "fwd_ms", ours, "peer", peer, goal=3.0)
    assert (row.jaxml, row.peer_value, row.ratio) == (2000.0, 5000.0, 2.5)
    assert timing.missed([row]) == [row]
    assert timing.missed([dataclasses.replace(row, goal=2.0)]) == []
    timing.write(tmp_path / "r.json", [row])
    record = json.loads((tmp_path / "r.json").read_text())
    assert set(record) == {"device", "versions", "date", "commit", "command", "rows"}
    assert record["rows"][0]["ratio"] == 2.5
    assert "2.50" in timing.table([row])

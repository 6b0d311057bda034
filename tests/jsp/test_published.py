"""The tables of published results, and searching on many instances at once."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxml.inputs.source import DataNotFoundError
from jaxml.jsp import benchmark, config, improve, problem, published, schedule
from jaxml.jsp.instance import JSPInstance, random_instance, reverse

RESULTS = Path(__file__).parents[2] / "benchmarks/results"


def test_published_sequences_give_the_published_gaps():
    try:
        entries = benchmark.load(benchmark.NAMES["ta"])
    except DataNotFoundError as error:
        pytest.skip(str(error))
    if any(entry.bounds != "JAXML_DATA" for entry in entries):
        pytest.skip("the bounds here are older than those of the published gaps")
    shops = {entry.instance.name: entry.instance for entry in entries}
    rows = json.loads((RESULTS / "jsp-benchmarks-h100.json").read_text())["rows"]
    known = {r["case"]: r["jaxml"] for r in rows if r["metric"] == "mean_gap"}
    columns = {}
    with np.load(RESULTS / "jsp-sequences-h100.npz", allow_pickle=False) as table:
        for entry in table.files:
            name, column = entry.split("/")
            if name in shops:
                span = schedule.makespan(shops[name], table[entry])
                columns.setdefault(column, []).append(benchmark.gap(span, shops[name]))
    assert {"greedy", "best of 128", "best of 512"} < set(columns)
    for column, gaps in columns.items():
        case = f"Taillard, {len(gaps)} instances, {column}"
        assert np.mean(gaps) == pytest.approx(known[case], abs=1e-9)


def test_rows_compare_with_the_paper_only_what_it_did():
    shop = JSPInstance(np.array([[0, 1], [1, 0]]), np.array([[3, 2], [2, 4]]), "ta01", 5, 7)
    seq = np.array([0, 1, 0, 1])
    found = [
        published.Found("ta01", column, schedule.makespan(shop, seq), seq, 0.5)
        for column in ("best of 512", "best of 512 both ways + tabu search", "best of 3")
    ]
    rows = published.rows([shop], found)
    gaps = {
        r.case: (r.jaxml, r.peer, r.peer_value)
        for r in rows
        if "instances" in r.case and r.metric == "mean_gap"
    }
    assert gaps == {
        "Taillard, 1 instances, best of 512": (0.0, "paper", 7.78),
        "Taillard, 1 instances, best of 512 both ways + tabu search": (0.0, "goal", 5.5),
        "Taillard, 1 instances, best of 3": (0.0, None, None),
    }


@pytest.fixture(scope="module")
def shops():
    """Three small shops of two shapes."""
    made = [random_instance(jax.random.key(i), 4, 3) for i in range(3)]
    names = ("a", "b", "c")
    return [JSPInstance(s.machines, s.durations, name) for s, name in zip(made, names, strict=True)]


def _starts(shop, rng, rows=2):
    jobs = np.repeat(np.arange(shop.num_jobs), shop.num_machines)
    return np.stack([rng.permutation(jobs) for _ in range(rows)])


def test_improved_schedules_are_valid_and_never_worse(shops):
    rng = np.random.default_rng(0)
    starts = {shop.name: _starts(shop, rng) for shop in shops}
    found = improve.improve(shops, starts, jax.random.key(0), 0.01, chunk=2, iters=10)
    assert sorted(r.name for r in found) == ["a", "b", "c"]
    for result in found:
        shop = next(s for s in shops if s.name == result.name)
        assert result.makespan == schedule.makespan(shop, result.seq)
        assert result.makespan <= min(schedule.makespan(shop, s) for s in starts[shop.name])
        assert result.makespan >= shop.trivial_bound


def test_improving_needs_schedules_and_time(shops):
    with pytest.raises(ValueError, match="schedules of 'a'"):
        improve.improve(shops[:1], {}, jax.random.key(0), 1.0)
    with pytest.raises(ValueError, match="seconds must be > 0"):
        improve.improve([], {}, jax.random.key(0), 0.0)


def test_schedules_of_both_directions_come_best_first(shops):
    rng, shop = np.random.default_rng(1), shops[0]
    view = reverse(shop)
    ahead, back = _starts(shop, rng, 3), _starts(view, rng, 3)
    rows = improve.both_ways(shop, ahead, back, view)
    spans = [schedule.makespan(shop, row) for row in rows]
    assert spans == sorted(spans)
    turned = schedule.mirrored(shop, view, back)
    for row, was in zip(turned, back, strict=True):
        assert schedule.makespan(shop, row) <= schedule.makespan(view, was)


def test_routes_in_two_sets():
    key = jax.random.key(3)
    made = problem.random_problems(key, 64, 5, 6, two_sets=0.5)
    first = np.asarray(made.machines)[:, :, :3] < 3
    split = first.all((1, 2))
    assert 16 < split.sum() < 48
    assert not first[~split].all(2).all()
    plain = problem.random_problems(key, 64, 5, 6)
    assert (np.asarray(plain.machines)[~split] == np.asarray(made.machines)[~split]).all()
    with pytest.raises(ValueError, match="two_sets"):
        config.SLIMConfig(two_sets=1.5)


def test_the_readme_says_what_was_measured():
    rows = json.loads((RESULTS / "jsp-benchmarks-h100.json").read_text())["rows"]
    known = {r["case"]: r["jaxml"] for r in rows if r["metric"] == "mean_gap"}
    readme = (RESULTS.parents[1] / "README.md").read_text()
    row = next(line for line in readme.splitlines() if line.startswith("| `jsp`"))
    sampled = known["Taillard, 80 instances, best of 512"]
    searched = known["Taillard, 80 instances, best of 512 both ways + tabu search"]
    assert f"Taillard {sampled:.1f} % (best of 512" in row
    assert f"{searched:.1f} % with search" in row

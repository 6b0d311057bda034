"""Rollouts, beam and active search: against the oracle, keys, devices, temperature."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxml.dist import mesh as meshes
from jaxml.jsp import active, beam, evaluation, objective, problem, rollout, schedule

from . import oracle
from .conftest import shop


def greedy_by_oracle(arrays, instance, heads):
    embedding = oracle.embed(arrays, instance.machines, instance.durations, "reference", heads)
    sim, seq = oracle.Shop(instance.machines, instance.durations), []
    for _ in range(instance.num_ops):
        seq.append(int(np.argmax(oracle.decode(arrays, embedding, sim, heads))))
        sim.schedule(seq[-1])
    return seq, sim.makespan


def test_greedy_is_the_oracles(params, arrays, cfg, instance):
    want, span = greedy_by_oracle(arrays, instance, cfg.heads)
    found = rollout.greedy(params, cfg, problem.from_instance(instance))
    assert found.seqs.tolist() == want
    assert int(found.makespans) == span


def test_samples(params, cfg, instance, key):
    prob = problem.from_instance(instance)
    found = rollout.sample(params, cfg, prob, key, 16)
    spans = [schedule.makespan(instance, seq) for seq in np.asarray(found.seqs)]
    assert found.makespans.tolist() == spans
    assert min(spans) >= instance.trivial_bound
    assert len({tuple(s) for s in found.seqs.tolist()}) == 16
    logp = jax.jit(jax.vmap(lambda s: objective.log_likelihood(params, cfg, prob, s)))(found.seqs)
    np.testing.assert_allclose(logp * (instance.num_ops - 1), found.logp, rtol=1e-4)
    mesh = meshes.make(meshes.MeshConfig(data=-1))
    split = rollout.sample(params, cfg, prob, key, 16, mesh=mesh)
    np.testing.assert_array_equal(split.seqs, found.seqs)
    np.testing.assert_array_equal(split.makespans, found.makespans)
    keys = rollout.sample_keys(key, 4)
    np.testing.assert_array_equal(
        jax.random.key_data(keys), jax.random.key_data(rollout.sample_keys(key, 16))[:4]
    )
    cold = rollout.sample(params, cfg, prob, key, 16, temperature=0.0)
    assert len({tuple(s) for s in cold.seqs.tolist()}) == 1
    with pytest.raises(ValueError, match="devices must divide num_samples"):
        rollout.sample(params, cfg, prob, key, 9, mesh=mesh)
    with pytest.raises(ValueError, match="num_samples must be > 0"):
        rollout.sample(params, cfg, prob, key, 0)


def test_first_choices_follow_the_softmax(params, arrays, cfg, instance, key):
    """Chi-squared of 3,200 first choices against the oracle's probabilities."""
    prob = problem.from_instance(instance)
    ready_logits = oracle.decode(
        arrays,
        oracle.embed(arrays, instance.machines, instance.durations, "reference", cfg.heads),
        oracle.Shop(instance.machines, instance.durations),
        cfg.heads,
    )
    counts = np.zeros(5)
    for i in range(200):
        seqs = rollout.sample(params, cfg, prob, jax.random.fold_in(key, i), 16).seqs
        counts += np.bincount(np.asarray(seqs[:, 0]), minlength=5)
    expected = counts.sum() * oracle.softmax(ready_logits)
    assert stats.chisquare(counts, expected).pvalue > 1e-3


def test_beams(params, cfg):
    one = shop(11, 3, 2)
    prob = problem.from_instance(one)
    narrow = beam.beam_search(params, cfg, prob, 1)
    assert narrow.seqs[0].tolist() == rollout.greedy(params, cfg, prob).seqs.tolist()
    everything = set(itertools.permutations([0, 0, 1, 1, 2, 2]))
    wide = beam.beam_search(params, cfg, prob, 96)
    there = np.asarray(jnp.isfinite(wide.logp))
    assert {tuple(s) for s in np.asarray(wide.seqs)[there].tolist()} == everything
    assert there.sum() == len(everything) == 90
    np.testing.assert_allclose(np.exp(np.asarray(wide.logp)[there]).sum(), 1, rtol=1e-4)
    assert (np.diff(np.asarray(wide.logp)[there]) <= 0).all()
    best = int(np.asarray(wide.makespans)[there].min())
    assert best == oracle.best_makespan(one.machines, one.durations)
    with pytest.raises(ValueError, match="width must be >= 1"):
        beam.beam_search(params, cfg, prob, 0)


@pytest.mark.slow
def test_active_search_finds_the_optimum_and_leaves_the_policy(params, cfg, key):
    one = shop(12, 4, 3)
    before = jax.tree.map(np.asarray, params)
    found = active.active_search(
        params, cfg, problem.from_instance(one), key, num_samples=16, rounds=12, lr=3e-3
    )
    assert schedule.makespan(one, found.seq) == found.makespan == min(found.history)
    assert found.makespan == oracle.best_makespan(one.machines, one.durations)
    jax.tree.map(np.testing.assert_array_equal, params, before)


def test_evaluation_recomputes_and_does_not_depend_on_the_batch(params, cfg, key):
    shops = [shop(i, 4, 3) for i in range(3)] + [shop(9, 3, 3)]
    together = evaluation.evaluate(params, cfg, shops, key, 8, shape_of=lambda i: (4, 3), chunk=2)
    assert {r.name for r in together} == {s.name for s in shops}
    alone = evaluation.evaluate(params, cfg, shops[:2], key, 8, chunk=2)
    by_name = {r.name: r for r in together}
    for result in alone:
        assert (result.greedy, result.best) == (
            by_name[result.name].greedy,
            by_name[result.name].best,
        )
        one = next(s for s in shops if s.name == result.name)
        assert schedule.makespan(one, result.seq) == result.best


def test_unequal_jobs_and_dates(params, cfg, key):
    plain = shop(13, 5, 4)
    there = np.arange(4)[None] < np.array([4, 2, 1, 3, 4])[:, None]
    from jaxml.jsp.instance import JSPInstance

    one = JSPInstance(
        np.where(there, plain.machines, -1),
        np.where(there, plain.durations, 0),
        num_machines=4,
        release=np.array([500, 520, 700, 500, 900]),
        available=np.array([0, 650, 0, 510]),
    )
    found = rollout.sample(params, cfg, problem.from_instance(one), key, 16)
    for seq, span in zip(np.asarray(found.seqs), found.makespans, strict=True):
        assert (seq >= 0).sum() == one.num_ops
        assert (seq[one.num_ops :] == -1).all()
        starts = schedule.start_times(one, seq)
        assert schedule.validate_schedule(one, starts) == int(span) + 500

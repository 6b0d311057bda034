"""Self-labelling on tours: exact optimum, consistent likelihoods, and it learns."""

import itertools

import jax
import numpy as np
import pytest

from jaxml.core import param
from jaxml.jsp import tsp

CFG = tsp.TSPConfig(
    num_cities=8, width=16, heads=2, layers=1, batch=16, num_samples=16, num_steps=60
)


def test_optimum_is_the_best_of_all_tours():
    xy = np.random.default_rng(0).random((8, 2))
    tours = ([0, *rest] for rest in itertools.permutations(range(1, 8)))
    want = min(
        sum(np.hypot(*(xy[a] - xy[b])) for a, b in zip(t, [*t[1:], 0], strict=True)) for t in tours
    )
    assert tsp.optimum(xy) == pytest.approx(want, rel=1e-5)
    with pytest.raises(ValueError, match="num_cities must lie in"):
        tsp.optimum(np.zeros((21, 2)))


@pytest.mark.slow
def test_it_learns_and_scores_its_own_tours(key):
    before = param.init(key, tsp.params(CFG))
    after, history = tsp.train(CFG)
    xy = tsp.instances(jax.random.fold_in(key, 1), 32, 8)
    run = jax.jit(lambda p: tsp.sample(p, CFG, xy, key, 4, temperature=1.0))
    found = run(after)
    tours = np.asarray(found.actions).reshape(-1, 8)
    assert (np.sort(tours, 1) == np.arange(8)).all()
    assert (tours[:, 0] == 0).all()
    logp = jax.jit(lambda p, t: tsp.log_likelihood(p, CFG, xy, t))(after, found.actions[:, 0])
    np.testing.assert_allclose(6 * logp, found.logp[:, 0], rtol=2e-3, atol=1e-3)
    best = np.array([tsp.optimum(np.asarray(x)) for x in xy])
    gaps = [100 * (np.asarray(run(p).costs).mean(1) / best - 1).mean() for p in (before, after)]
    assert gaps[1] < gaps[0] / 2
    assert (np.asarray(found.costs).min(1) >= best * 0.9999).all()
    assert history[-1]["entropy"] < history[0]["entropy"]

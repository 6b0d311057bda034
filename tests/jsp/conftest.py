"""A small policy and small shops that the tests of this folder share."""

import jax
import numpy as np
import pytest

from jaxml.jsp import objective, policy, problem, rollout
from jaxml.jsp.config import SPNConfig
from jaxml.jsp.instance import JSPInstance


@pytest.fixture(scope="session")
def cfg():
    return SPNConfig(8, 16, 2, 8, 16, 16, feature_version="reference")


@pytest.fixture(scope="session")
def params(cfg):
    drawn = jax.jit(policy.init_params, static_argnums=1)(jax.random.key(3), cfg)
    return jax.tree.map(lambda x: 1.5 * x + 0.01, drawn)


@pytest.fixture(scope="session")
def arrays(params):
    """The same parameters in torch's names and layouts, float64."""
    return {k: v.astype(np.float64) for k, v in policy.torch_arrays_from_params(params).items()}


def shop(seed, n, m, low=5, high=199):
    rng = np.random.default_rng(seed)
    machines = np.stack([rng.permutation(m) for _ in range(n)])
    return JSPInstance(machines, rng.integers(low, high + 1, (n, m)), f"shop{seed}")


@pytest.fixture(scope="session")
def instance():
    return shop(0, 5, 4)


@pytest.fixture(scope="session")
def logits_of(cfg):
    """Jitted: folded logits [t, n] before every step of a sequence, shapes padded to 7 x 5."""

    @jax.jit
    def run(params, prob, seq):
        ready = policy.prepare(params, cfg, prob)
        before, last = rollout.replay(prob, ready.known, seq)
        scores = jax.vmap(lambda s: policy.logits(ready, cfg, s))(before)
        return scores, before, last

    return run


@pytest.fixture(scope="session")
def plain_logits_of(cfg):
    @jax.jit
    def run(params, prob, seq):
        before, _ = rollout.replay(prob, problem.facts(prob), seq)
        return jax.vmap(lambda s: policy.decode_logits(params, cfg, prob, s))(before)

    return run


@pytest.fixture(scope="session")
def loss_and_grad(cfg):
    return jax.jit(
        jax.value_and_grad(lambda p, prob, seq: -objective.log_likelihood(p, cfg, prob, seq))
    )

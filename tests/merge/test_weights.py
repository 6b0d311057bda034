import itertools

import jax
import numpy as np
import pytest

from jaxml.merge import basis, network, weights
from jaxml.merge.align import permutation
from jaxml.models import mlp
from tests.merge import nets


def _pair(cfg, seeds=(0, 1)):
    return [{"params": mlp.init(jax.random.key(s), cfg)} for s in seeds]


def _after(net, theirs, orders):
    return basis.apply_alignment(net.spec, theirs, {n: permutation(o) for n, o in orders.items()})


@pytest.mark.parametrize("seed", range(3))
def test_one_hidden_layer_reaches_the_optimum(seed):
    net = network.of_mlp(cfg := mlp.MlpConfig(4, (5,), 3))
    ours, theirs = _pair(cfg, (seed, seed + 10))
    orders = weights.weight_matching(net.spec, ours, theirs)
    got = weights.agreement(ours, _after(net, theirs, orders))
    every = [
        weights.agreement(ours, _after(net, theirs, {"layer0": np.array(p)}))
        for p in itertools.permutations(range(5))
    ]
    np.testing.assert_allclose(got, max(every), rtol=1e-6)


@pytest.mark.parametrize("name", ["mlp", "vgg", "resnet", "bert"])
def test_no_single_node_can_do_better(name):
    """A fixed point: with the others held, each node's permutation is the best assignment."""
    net, ours, _ = nets.case(name)
    other = nets.shaken(jax.tree.map(lambda leaf: leaf[::-1] * 0.9, ours), 3)
    orders = weights.weight_matching(net.spec, ours, other, seed=1)
    found = weights.agreement(ours, _after(net, other, orders))
    assert found >= weights.agreement(ours, other)
    random = np.random.default_rng(0)
    for node in net.spec.nodes:
        block = net.spec.nodes[node].block
        for _ in range(3):
            swap = np.arange(len(orders[node]))
            i, j = block * random.choice(len(swap) // block, 2, replace=False)
            swap[i : i + block], swap[j : j + block] = (
                swap[j : j + block].copy(),
                swap[i : i + block].copy(),
            )
            changed = orders | {node: orders[node][swap]}
            assert weights.agreement(ours, _after(net, other, changed)) <= found * (1 + 1e-6)


def test_a_permuted_copy_is_found_exactly_and_seeds_only_order_the_rounds():
    net, variables, _ = nets.case("resnet")
    other, orders = nets.permuted(net, variables)
    for seed in range(2):
        found = weights.weight_matching(net.spec, variables, other, seed)
        for name, order in orders.items():
            assert (order.order[found[name]] == np.arange(len(order.order))).all()

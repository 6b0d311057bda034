import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxml.merge import MergeConfig, align, basis, merge, merging
from jaxml.merge.network import Network, jitted
from tests.merge import nets, oracle

FAMILIES = ("mlp", "vgg", "resnet", "bert")


def _gap(name, a, b):
    _, _, x = nets.case(name)
    forward = nets.forward(name)
    return float(jnp.abs(forward(a, x) - forward(b, x)).max())


@pytest.mark.parametrize("name", [*FAMILIES, "vgg-bn"])
def test_permutations_keep_the_function(name):
    net, variables, _ = nets.case(name)
    other, _ = nets.permuted(net, variables)
    assert _gap(name, variables, other) < 1e-4
    leaves = zip(jax.tree.leaves(variables), jax.tree.leaves(other), strict=True)
    assert any(not np.array_equal(a, b) for a, b in leaves)


@pytest.mark.parametrize("method", ["permute", "weights", "ot", "cca"])
@pytest.mark.parametrize("name", FAMILIES)
def test_a_permuted_copy_merges_back(name, method):
    net, variables, x = nets.case(name)
    other, orders = nets.permuted(net, variables)
    cfg = MergeConfig(method, gamma=1e-3, repair="none")
    found = merge(net, [variables, other], [x[::2], x[1::2]], cfg)
    assert _gap(name, variables, found.variables) < 1e-4
    for node, order in orders.items():
        undone = found.alignments[1][node].order[np.argsort(order.order)]
        if net.spec.nodes[node].block == 1 or method != "ot":
            live = _live(net, variables, x, node)
            assert (order.order[found.alignments[1][node].order] == np.arange(len(undone)))[
                live
            ].all()


def _live(net, variables, x, node):
    features = np.asarray(jitted(net.forward)(variables, x[::2])[1][node])
    return features.reshape(-1, features.shape[-1]).std(0) > 1e-6


def test_a_permuted_residual_stream_of_a_transformer_merges_back():
    from jaxml.merge import network

    net = network.of_bert(nets.BERT, residual=True)
    _, variables, x = nets.case("bert")
    other, _ = nets.permuted(net, variables)
    for method in ("permute", "weights", "cca"):
        found = merge(net, [variables, other], [x], MergeConfig(method, gamma=1e-3))
        assert _gap("bert", variables, found.variables) < 1e-4


@pytest.mark.parametrize("method", ["permute", "weights", "ot", "cca", "average"])
def test_copies_merge_to_themselves(method):
    net, variables, x = nets.case("mlp")
    found = merge(net, [variables] * 4, [x], MergeConfig(method, gamma=0.1))
    for a, b in zip(jax.tree.leaves(variables), jax.tree.leaves(found.variables), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def _three_mlps():
    net, _, x = nets.case("mlp")
    models = [
        nets.shaken({"params": nets.mlp.init(jax.random.key(k), nets.MLP)}, k) for k in range(3)
    ]
    layers = [
        [
            (
                np.float64(m["params"][f"layer{i}"]["kernel"]),
                np.float64(m["params"][f"layer{i}"]["bias"]),
            )
            for i in range(3)
        ]
        for m in models
    ]
    return net, models, layers, x


def test_three_networks_equal_the_transcription():
    """All to one: neither pairs merged in turn nor a moving target give this."""
    net, models, layers, x = _three_mlps()
    cfg = MergeConfig("cca", gamma=0.5, gamma_mode="absolute", repair="none")
    found = merge(net, models, [x[:100], x[100:]], cfg)
    want = oracle.merged_mlp(layers, np.float64(x), 0.5)
    for i, (kernel, bias) in enumerate(want):
        got = found.variables["params"][f"layer{i}"]
        np.testing.assert_allclose(got["kernel"], kernel, atol=2e-4)
        np.testing.assert_allclose(got["bias"], bias, atol=2e-4)
    logits, _ = oracle.mlp(want, np.float64(x))
    np.testing.assert_allclose(net.forward(found.variables, x)[0], logits, atol=1e-3)


def test_reference_and_weights():
    net, models, layers, x = _three_mlps()
    cfg = MergeConfig("cca", gamma=0.5, gamma_mode="absolute", reference=2)
    found = merge(net, models, [x], cfg)
    want = oracle.merged_mlp([layers[2], layers[0], layers[1]], np.float64(x), 0.5)
    got = found.variables["params"]["layer1"]["kernel"]
    np.testing.assert_allclose(got, want[1][0], atol=2e-4)
    assert (found.alignments[2]["layer0"].matrix == np.eye(16)).all()
    alone = merge(net, models, [x], dataclasses.replace(cfg, weights=(0.0, 0.0, 1.0)))
    np.testing.assert_allclose(
        alone.variables["params"]["layer1"]["kernel"], layers[2][1][0], atol=1e-6
    )


def test_a_rotation_changes_what_a_relu_network_computes():
    """CCA is no symmetry of the network: true of permutations only."""
    net, models, _, x = _three_mlps()
    found = merge(net, models[:2], [x], MergeConfig("cca", gamma=0.5))
    turned = basis.apply_alignment(net.spec, models[1], found.alignments[1])
    assert _gap("mlp", models[1], turned) > 1e-2
    d = found.diagnostics["layer0"]
    assert 0 < d["mean_correlation"] <= 1
    assert d["condition"] > 1


def test_zipit_and_shared_moments():
    net, models, _, x = _three_mlps()
    moments = merging.feature_moments(net, models, [x], "all")
    cfg = MergeConfig("zipit")
    direct = merge(net, models, [x], cfg)
    alignments = merging.alignments_from_moments(net, moments, cfg)
    again = merging.finish(net, models, [x], cfg, alignments)
    for a, b in zip(
        jax.tree.leaves(direct.variables), jax.tree.leaves(again.variables), strict=True
    ):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match="zipit needs feature_moments"):
        merging.alignments_from_moments(net, merging.feature_moments(net, models, [x]), cfg)


def test_bad_input():
    net, models, _, x = _three_mlps()
    broken = jax.tree.map(lambda leaf: leaf, models[1])
    broken["params"]["layer0"]["kernel"] = jnp.ones((20, 15))
    for bad, message in [
        ({"models": models[:1]}, "models must hold at least two networks; got 1"),
        ({"models": [models[0], broken]}, "model 1 does not match: params/layer0/kernel has shape"),
        ({"cfg": MergeConfig(reference=3)}, "reference must lie in"),
        ({"cfg": MergeConfig(weights=(0.5, 0.2, 0.2))}, "weights must sum to 1"),
        ({"cfg": MergeConfig(weights=(0.5, 0.5))}, "one number per network"),
        ({"batches": []}, "at least one batch"),
        ({"batches": [x * jnp.nan]}, "features of node 'layer0' of model 0 must be finite"),
        ({"batches": [x[:9]], "cfg": MergeConfig(gamma=0.0)}, "gamma must be > 0 where"),
    ]:
        arguments = {"models": models, "batches": [x], "cfg": MergeConfig()} | bad
        with pytest.raises(ValueError, match=message):
            merge(net, **arguments)
    with pytest.raises(ValueError, match="gamma must be >= 0"):
        MergeConfig(gamma=-1.0)
    with pytest.raises(ValueError, match="did you mean 'permute'"):
        MergeConfig(method="permut")
    with pytest.raises(ValueError, match="must have shape"):
        basis.apply_alignment(net.spec, models[0], {"layer0": align.identity(3)})
    with pytest.raises(ValueError, match="nodes that the spec lacks"):
        basis.apply_alignment(net.spec, models[0], {"layer9": align.identity(3)})
    assert isinstance(net, Network)

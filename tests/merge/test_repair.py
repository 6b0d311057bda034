import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxml.merge import MergeConfig, merge, repair
from jaxml.models import mlp
from tests.merge import nets


def test_statistics_equal_a_pass_by_hand():
    net, variables, x = nets.case("resnet")
    batches = [x[:20], x[20:30]]
    got = repair.reset_batch_stats(net, variables, batches)
    kernel = np.asarray(variables["params"]["stem"]["conv"]["kernel"], np.float64)
    means, variances = [], []
    for batch in batches:
        padded = np.pad(np.asarray(batch, np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
        out = sum(
            padded[:, i : i + 8, j : j + 8] @ kernel[i, j] for i in range(3) for j in range(3)
        ).reshape(-1, 4)
        means.append(out.mean(0))
        variances.append(out.var(0, ddof=1))
    np.testing.assert_allclose(got["state"]["stem"]["mean"], np.mean(means, 0), atol=1e-5)
    np.testing.assert_allclose(got["state"]["stem"]["var"], np.mean(variances, 0), rtol=1e-5)
    for a, b in zip(
        jax.tree.leaves(got["params"]), jax.tree.leaves(variables["params"]), strict=True
    ):
        assert a is b


def test_old_statistics_do_not_matter():
    net, variables, x = nets.case("vgg-bn")
    other = {
        "params": variables["params"],
        "state": jax.tree.map(lambda s: s + 7, variables["state"]),
    }
    a, b = (repair.reset_batch_stats(net, v, [x[:16]]) for v in (variables, other))
    for left, right in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(left, right)


def test_merging_resets_with_the_batches_it_was_given():
    net, variables, x = nets.case("resnet")
    other, _ = nets.permuted(net, variables)
    found = merge(net, [variables, other], [x[:24]], MergeConfig("permute"))
    raw = merge(net, [variables, other], [x[:24]], MergeConfig("permute", repair="none"))
    want = repair.reset_batch_stats(net, raw.variables, [x[:24]])
    for a, b in zip(jax.tree.leaves(found.variables), jax.tree.leaves(want), strict=True):
        np.testing.assert_array_equal(a, b)


def _two_mlps():
    net, _, x = nets.case("mlp")
    models = [nets.shaken({"params": mlp.init(jax.random.key(k), nets.MLP)}, k) for k in range(2)]
    return net, models, x


def _products(net, variables, x):
    params, found = variables["params"], []
    for i in range(2):
        layer = params[f"layer{i}"]
        x = np.asarray(x, np.float64) @ np.asarray(layer["kernel"]) + np.asarray(layer["bias"])
        found.append(x)
        x = np.maximum(x, 0)
    return found


@pytest.mark.parametrize("method", ["permute", "cca"])
def test_rescaled_layers_have_the_mean_and_deviation_of_their_parents(method):
    net, models, x = _two_mlps()
    found = merge(net, models, [x], MergeConfig(method, gamma=1.0, repair="rescale"))
    plain = merge(net, models, [x], MergeConfig(method, gamma=1.0, repair="none"))
    parents = [_products(net, m, x) for m in models]
    for i, (mended, raw) in enumerate(
        zip(_products(net, found.variables, x), _products(net, plain.variables, x), strict=True)
    ):
        bases = [a[f"layer{i}"].matrix for a in found.alignments]
        seen = [p[i] @ t.T for p, t in zip(parents, bases, strict=True)]
        mean = np.mean([s.mean(0) for s in seen], 0)
        std = np.mean([s.std(0) for s in seen], 0)
        np.testing.assert_allclose(mended.mean(0), mean, atol=2e-4)
        np.testing.assert_allclose(mended.std(0), std, rtol=2e-3)
        assert np.abs(raw.std(0) - std).max() > 0.05


def test_bad_input():
    net, variables, x = nets.case("mlp")
    with pytest.raises(ValueError, match="needs a network with batch norm"):
        repair.reset_batch_stats(net, variables, [x])
    net, variables, x = nets.case("resnet")
    with pytest.raises(ValueError, match="at least one batch"):
        repair.reset_batch_stats(net, variables, [])
    with pytest.raises(ValueError, match="needs a bias and no norm after params/.*bn_reset"):
        merge(net, [variables] * 2, [x[:8]], MergeConfig("average", repair="rescale"))
    assert jnp.isfinite(x).all()

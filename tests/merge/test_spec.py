import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxml.merge import families, infer, network, spec
from jaxml.merge.spec import MergeSpec, Node, ParamAxis
from tests.merge import nets


@pytest.mark.parametrize("name", ["mlp", "vgg", "vgg-bn", "resnet"])
def test_inferred_spec_is_the_hand_spec(name):
    hand, variables, x = nets.case(name)
    hand.spec.check(variables)
    found = network.of_function(lambda v, x: hand.forward(v, x)[0], variables, x)
    assert spec.same_sites(found.spec, hand.spec, variables)
    x = x[:2]
    _, want = jax.jit(hand.forward)(variables, x)
    _, got = jax.jit(found.forward)(variables, x)
    by_reader = {frozenset(node.readers): n for n, node in found.spec}
    for n, node in hand.spec:
        twin = by_reader[frozenset(node.readers)]
        np.testing.assert_allclose(got[twin], want[n], atol=1e-5)


def test_counts_of_the_published_networks():
    resnet20 = nets.resnet.cifar(20, 10, shortcut=3)
    assert len(families.resnet_spec(resnet20).nodes) == 12
    assert len(families.resnet_spec(nets.resnet.cifar(14, 10)).nodes) == 9
    assert len(families.vgg_spec(nets.vgg.VggConfig(10)).nodes) == 8
    stream = families.resnet_spec(resnet20).nodes["stage1"]
    writers = [s.path.split("/", 1)[1].removesuffix("/conv/kernel") for s in stream.writers]
    assert writers == [
        "stage1_block0/second",
        "stage1_block0/shortcut",
        "stage1_block1/second",
        "stage1_block2/second",
    ]
    assert "params/stage2_block0/shortcut/conv/kernel" in {s.path for s in stream.readers}


def _inferred(apply, variables, *x):
    found = infer.infer_spec(apply, variables, *x)
    return {n: ([s.path for s in k.writers], [tuple(s[:2]) for s in k.readers]) for n, k in found}


def test_flattened_images_keep_their_channels():
    variables = {"conv": jnp.ones((8, 3, 3, 3)), "head": jnp.ones((8 * 4 * 4, 5))}

    def apply(v, x):  # channels first, flattened [c, y, x]
        y = jax.lax.conv_general_dilated(x, v["conv"], (1, 1), "SAME")
        return jnp.maximum(y, 0).reshape(x.shape[0], -1) @ v["head"]

    found = infer.infer_spec(apply, variables, jnp.ones((2, 3, 4, 4)))
    (node,) = found.nodes.values()
    assert node.readers == (ParamAxis("head", 0, inner=16),)
    assert node.writers == (ParamAxis("conv", 0),)


def test_depthwise_gates_and_layer_norm():
    variables = {
        "in": jnp.ones((3, 6)),
        "gate": jnp.ones((3, 6)),
        "depth": jnp.ones((3, 3, 1, 6)),
        "scale": jnp.ones(6),
        "out": jnp.ones((6, 4)),
    }

    def apply(v, x):
        h = jax.nn.silu(x @ v["gate"]) * (x @ v["in"])
        h = jax.lax.conv_general_dilated(
            h, v["depth"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=6,
        )  # fmt: skip
        h = h - h.mean(-1, keepdims=True)
        return (h * jnp.broadcast_to(v["scale"], h.shape)).mean((1, 2)) @ v["out"]

    found = infer.infer_spec(apply, variables, jnp.ones((2, 4, 4, 3)))
    (node,) = found.nodes.values()
    assert {s.path for s in node.writers} == {"in", "gate", "depth", "scale"}
    assert node.rigid


def test_residual_of_the_input_and_outputs_are_left_alone():
    variables = {"a": jnp.ones((4, 4)), "b": jnp.ones((4, 8)), "c": jnp.ones((8, 3))}

    def apply(v, x):
        h = x + jnp.tanh(x @ v["a"])  # the input's own features: fixed
        return jnp.tanh(h @ v["b"]) @ v["c"]

    assert _inferred(apply, variables, jnp.ones((2, 4))) == {"b": (["b"], [("c", 0)])}
    with pytest.raises(ValueError, match="no feature space found in the trace"):
        infer.infer_spec(lambda v, x: x @ v["a"], variables, jnp.ones((2, 4)))


class Linen(nn.Module):
    """A user's own network."""

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Conv(6, (3, 3))(x)
        x = nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.9)(x))
        x = nn.max_pool(x, (2, 2), (2, 2)).reshape(x.shape[0], -1)
        x = nn.relu(nn.Dense(7)(x))
        return nn.Dense(3)(x)


def test_a_flax_module_goes_in_as_it_is():
    module, x = Linen(), jax.random.normal(jax.random.key(1), (8, 4, 4, 2))
    variables = module.init(jax.random.key(0), x)

    def train(v, x):
        return {**v, **module.apply(v, x, train=True, mutable=["batch_stats"])[1]}

    net = network.of_function(module.apply, variables, x, train_fn=train)
    assert list(net.spec.nodes) == ["Conv_0", "Dense_0"]
    assert net.spec.nodes["Conv_0"].readers == (ParamAxis("params/Dense_0/kernel", 0, outer=4),)
    assert {s.path for s in net.spec.nodes["Conv_0"].norms} == {
        "params/BatchNorm_0/scale",
        "params/BatchNorm_0/bias",
        "batch_stats/BatchNorm_0/mean",
        "batch_stats/BatchNorm_0/var",
    }
    other, _ = nets.permuted(net, variables)
    np.testing.assert_allclose(module.apply(other, x), module.apply(variables, x), atol=1e-5)
    pre = nn.Conv(6, (3, 3)).apply({"params": variables["params"]["Conv_0"]}, x)
    seen = net.batch_statistics(variables, x)
    np.testing.assert_allclose(
        seen["batch_stats/BatchNorm_0/mean"], pre.mean((0, 1, 2)), rtol=1e-4, atol=1e-5
    )


VARIABLES = {"a": np.ones((3, 4)), "b": np.ones((4, 5)), "s": np.ones((2, 4, 6))}


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (Node((ParamAxis("a", 1),), ()), "node 'n' must have readers; got none"),
        (Node((), (ParamAxis("b", 0),)), "node 'n' must have writers; got none"),
        (Node((ParamAxis("aa", 1),), (ParamAxis("b", 0),)), "'aa', which the network lacks"),
        (Node((ParamAxis("a", 2),), (ParamAxis("b", 0),)), "axis of a must lie in its 2 axes"),
        (Node((ParamAxis("a", 0),), (ParamAxis("b", 0),)), "must have one width"),
        (Node((ParamAxis("a", 1, outer=3),), (ParamAxis("b", 0),)), "outer \\* inner must divide"),
        (Node((ParamAxis("a", 1),), (ParamAxis("b", 0),), block=3), "block must divide the width"),
        (Node((ParamAxis("a", 1),), (ParamAxis("s", 0, 5),)), "s must have a layer 5"),
    ],
)
def test_what_does_not_fit_is_named(node, message):
    with pytest.raises(ValueError, match=message):
        MergeSpec({"n": node}).check(VARIABLES)


def test_an_axis_has_one_node():
    node = Node((ParamAxis("a", 1),), (ParamAxis("b", 0),))
    with pytest.raises(ValueError, match="belongs to the nodes 'n' and 'm'"):
        MergeSpec({"n": node, "m": node._replace(writers=(ParamAxis("a", -1),))}).check(VARIABLES)
    with pytest.raises(ValueError, match="the spec must have a node"):
        MergeSpec({}).check(VARIABLES)

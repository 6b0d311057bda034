"""Small networks of every family, and the same network with its units permuted."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxml.merge import align, basis, network
from jaxml.models import bert, mlp, resnet, vgg

MLP = mlp.MlpConfig(20, (16, 12), 5)
VGG = vgg.VggConfig(4, width_multiplier=1 / 16, hidden=(6,))
VGG_BN = vgg.VggConfig(4, width_multiplier=1 / 16, batch_norm=True)
RESNET = resnet.ResNetConfig(4, (2, 1), (4, 6), shortcut=3)
BERT = bert.BertConfig(20, 16, 2, 4, 24, 8, pooler=False)


@functools.cache
def case(name):
    """Network, its variables with all leaves random, and inputs."""
    key = jax.random.key(0)
    images = jax.random.normal(jax.random.key(1), (48 if name == "resnet" else 16, 32, 32, 3))
    if name == "mlp":
        x = jax.random.normal(jax.random.key(1), (256, 20))
        return network.of_mlp(MLP), shaken({"params": mlp.init(key, MLP)}), x
    if name == "bert":
        x = jax.random.randint(jax.random.key(1), (16, 8), 0, 20)
        return network.of_bert(BERT), shaken({"params": bert.init(key, BERT)}), x
    module, cfg, of = {
        "vgg": (vgg, VGG, network.of_vgg),
        "vgg-bn": (vgg, VGG_BN, network.of_vgg),
        "resnet": (resnet, RESNET, network.of_resnet),
    }[name]
    variables = {"params": module.init(key, cfg), "state": module.init_state(cfg)}
    x = images[:, :8, :8] if name == "resnet" else images
    return of(cfg), shaken(variables), x


def shaken(variables, seed=5):
    """Every leaf moved a little, so that no bias or statistic is at its start."""
    random = np.random.default_rng(seed)

    def one(leaf):
        noise = np.abs(random.normal(size=leaf.shape)) if leaf.ndim == 1 else 0
        return jnp.asarray(np.asarray(leaf) + 0.1 * noise, leaf.dtype)

    return jax.tree.map(one, variables)


def permuted(net, variables, seed=0):
    """The same function with every node's units in another order, and those orders."""
    random, sizes, orders = np.random.default_rng(seed), net.spec.sizes(variables), {}
    for name, node in net.spec:
        order = random.permutation(sizes[name] // node.block)
        order = (order[:, None] * node.block + np.arange(node.block)).reshape(-1)
        orders[name] = align.permutation(order)
    return basis.apply_alignment(net.spec, variables, orders), orders


@functools.cache
def forward(name):
    """The compiled logits of a case."""
    net = case(name)[0]
    return jax.jit(lambda variables, x: net.forward(variables, x)[0])

"""MLP, VGG and ResNet: published sizes, taps, batch statistics, devices, learning."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from jaxml.core import param, tree
from jaxml.models import mlp, resnet, tap, vgg
from jaxml.models.mlp import MlpConfig
from jaxml.models.resnet import ResNetConfig
from jaxml.models.vgg import VggConfig
from jaxml.nn import initializer

SMALL = ResNetConfig(3, blocks=(1, 1), widths=(4, 6), in_channels=2)
THIN = VggConfig(3, 11, width_multiplier=1 / 16, batch_norm=True, hidden=(5,))


def _kernel(rng, p):
    if len(p.shape) == 1:
        return np.full(p.shape, float(p.init is initializer.ones), np.float32)
    scale = np.sqrt(2 / np.prod(p.shape[:-1]))
    return rng.normal(scale=scale, size=p.shape).astype(np.float32)


def _made(module, cfg):
    """Parameters and state, drawn by NumPy: nothing to compile."""
    rng = np.random.default_rng(0)
    return tuple(
        jax.tree.map(lambda p: _kernel(rng, p), declared, is_leaf=param.is_param)
        for declared in (module.params(cfg), module.state(cfg))
    )


@pytest.mark.parametrize(
    ("module", "cfg", "num"),
    [
        (resnet, resnet.resnet18(1000), 11_689_512),
        (resnet, resnet.cifar(20, 10), 272_474),
        (vgg, VggConfig(10, 16), 14_714_688 + 5_130),
        (vgg, VggConfig(10, 11), 9_220_480 + 5_130),
        (mlp, MlpConfig(784, (128, 64), 10), 109_386),
    ],
    ids=["resnet18", "resnet20", "vgg16", "vgg11", "mlp"],
)
def test_published_numbers_of_parameters(module, cfg, num):
    assert tree.num_elements(param.abstract(module.params(cfg))) == num


@pytest.mark.parametrize(
    ("module", "cfg", "size"),
    [
        (resnet, resnet.cifar(14, 7, 0.5, shortcut=3), 32),
        (resnet, resnet.resnet18(7), 224),
        (vgg, VggConfig(7, 19, 0.25, batch_norm=True), 40),
        (vgg, VggConfig(7, 13, hidden=(9, 8)), 32),
    ],
)
def test_shapes_and_state(module, cfg, size):
    p, state = param.abstract(module.params(cfg)), param.abstract(module.state(cfg))
    x = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)

    def run(p, x, state):
        return module.apply(p, cfg, x, state, train=True, dtype=jnp.bfloat16)

    logits, new = jax.eval_shape(run, p, x, state)
    assert (logits.shape, logits.dtype) == ((2, 7), jnp.bfloat16)
    assert jax.tree.map(lambda a: (a.shape, a.dtype), new) == jax.tree.map(
        lambda a: (a.shape, a.dtype), state
    )


def test_init_makes_what_is_declared(key):
    for module, cfg in ((resnet, SMALL), (vgg, THIN)):
        made = jax.eval_shape(lambda key, m=module, c=cfg: m.init(key, c), key)
        tree.check_match(made, param.abstract(module.params(cfg)))
    p = mlp.init(key, MlpConfig(200, (150,), 3))
    assert float(p["layer0"]["kernel"].std()) == pytest.approx(0.1, rel=0.05)
    assert (p["layer0"]["bias"] == 0).all()
    jax.tree.map(np.testing.assert_array_equal, resnet.init_state(SMALL), _made(resnet, SMALL)[1])
    assert vgg.init_state(VggConfig(3)) == {}


def test_taps_read_and_replace():
    p, state = _made(resnet, SMALL)
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 2)).astype(np.float32)

    @jax.jit
    def read(x):
        reader = tap.Reader()
        logits, _ = resnet.apply(p, SMALL, x, state, tap=reader)
        return logits, reader.features

    logits, features = read(x)
    assert list(features) == sorted(
        ["stem", *(f"stage{s}_block0{e}" for s in (0, 1) for e in ("", "_hidden"))]
    )
    assert features["stage1_block0"].shape == (2, 4, 4, 6)
    pooled = np.asarray(features["stage1_block0"]).mean((1, 2))
    np.testing.assert_allclose(logits, pooled @ p["head"]["kernel"], atol=1e-5)

    def silence(name, x):
        return x * 0 if name == "stage1_block0" else x

    silent, _ = jax.jit(lambda x: resnet.apply(p, SMALL, x, state, tap=silence))(x)
    np.testing.assert_array_equal(silent, np.zeros((2, 3)))


def test_mlp_equals_numpy_and_flattens():
    cfg = MlpConfig(6, (5, 4), 3)
    p = jax.tree.map(
        lambda q: np.random.default_rng(q.shape[-1]).normal(size=q.shape).astype(np.float32),
        mlp.params(cfg),
        is_leaf=param.is_param,
    )
    x = np.random.default_rng(1).normal(size=(2, 3, 2)).astype(np.float32)
    reader = tap.Reader()
    got = mlp.apply(p, cfg, jnp.asarray(x), activation=jnp.tanh, tap=reader)
    want = x.reshape(2, 6).astype(np.float64)
    for i in range(3):
        want = want @ p[f"layer{i}"]["kernel"] + p[f"layer{i}"]["bias"]
        want = np.tanh(want) if i < 2 else want
    np.testing.assert_allclose(got, want, rtol=1e-5)
    assert {name: x.shape for name, x in reader.features.items()} == {
        "layer0": (2, 5),
        "layer1": (2, 4),
    }


def test_eight_devices_are_one():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    p, state = _made(resnet, SMALL)
    x = np.random.default_rng(0).normal(size=(16, 8, 8, 2)).astype(np.float32)

    def train(p, state, x, axis_name=None):
        return resnet.apply(p, SMALL, x, state, train=True, axis_name=axis_name)

    split = jax.shard_map(
        functools.partial(train, axis_name="data"),
        mesh=mesh,
        in_specs=(P(), P(), P("data")),
        out_specs=(P("data"), P()),
    )
    got, want = jax.jit(split)(p, state, x), jax.jit(train)(p, state, x)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), got, want)


@pytest.mark.parametrize(
    ("module", "cfg", "size"),
    [(resnet, SMALL, 8), (vgg, dataclasses.replace(THIN, hidden=()), 32)],
    ids=["resnet", "vgg"],
)
def test_one_batch_is_learnt(module, cfg, size):
    p, state = _made(module, cfg)
    channels = cfg.in_channels
    rng = np.random.default_rng(0)
    classes = rng.normal(size=(3, size, size, channels))
    x = classes[np.arange(12) % 3] + 0.3 * rng.normal(size=(12, size, size, channels))
    x = x.astype(np.float32)
    target = jax.nn.one_hot(np.arange(12) % 3, 3)

    def loss(p, state):
        logits, state = module.apply(p, cfg, x, state, train=True)
        return -jnp.mean(jnp.sum(target * jax.nn.log_softmax(logits), -1)), state

    @jax.jit
    def fit(p, state):
        def step(carry, _):
            p, state = carry
            (value, state), slope = jax.value_and_grad(loss, has_aux=True)(p, state)
            return (jax.tree.map(lambda a, g: a - 0.1 * g, p, slope), state), value

        return jax.lax.scan(step, (p, state), length=30)

    (_, changed), values = fit(p, state)
    assert values[-1] < values[0] / 3
    moved = [
        bool((a != b).all()) for a, b in zip(*map(jax.tree.leaves, (state, changed)), strict=True)
    ]
    assert np.mean(moved) > 0.9


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: VggConfig(10, 12), "depth must be one of 11, 13, 16, 19; got depth='12'"),
        (lambda: VggConfig(10, width_multiplier=0.001), "narrowest_width must be > 0"),
        (lambda: VggConfig(0), "num_classes must be > 0"),
        (lambda: resnet.cifar(21, 10), "depth must be 6 n + 2 (8, 14, 20, 32, ...); got depth=21."),
        (lambda: ResNetConfig(10, blocks=(1,)), "widths must name one width per stage"),
        (lambda: MlpConfig(4, (0,), 2), "hidden must be > 0"),
        (
            lambda: vgg.apply(*_made(vgg, THIN)[:1], THIN, jnp.ones((1, 28, 28, 3)), {}),
            "height must be >= 32; got height=28.",
        ),
        (
            lambda: resnet.apply({}, SMALL, jnp.ones((1, 8, 8, 3)), {}),
            "x_byxc must have shape [b, y, x, 2]",
        ),
    ],
)
def test_bad_input_is_explained(call, message):
    with pytest.raises(ValueError) as error:
        call()
    assert message in str(error.value)


def test_wrong_types_are_named():
    with pytest.raises(TypeError, match="ResNetConfig.stem must be .*; got stem='imagnet'"):
        ResNetConfig(10, stem="imagnet")

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxml.core import config
from jaxml.core.param import Param, stack
from jaxml.train import optim
from jaxml.train.optim import OptimConfig

BASE = {"lr": 0.5, "warmup_steps": 4, "total_steps": 20, "final_lr_ratio": 0.2}


def by_hand(name, step):
    if step < 4:
        return 0.5 * step / 4
    done = min(step - 4, 16) / 16
    return {
        "constant": 0.5,
        "linear": 0.5 * (1 - 0.8 * done),
        "cosine": 0.5 * (0.2 + 0.8 * 0.5 * (1 + math.cos(math.pi * done))),
        "rsqrt": 0.5 * math.sqrt(4 / step),
    }[name]


@pytest.mark.parametrize("name", optim.SCHEDULES)
def test_schedules(name):
    rate = optim.schedule(OptimConfig(schedule=name, **BASE))
    steps = range(0, 30)
    np.testing.assert_allclose(
        [float(rate(s)) for s in steps], [by_hand(name, s) for s in steps], rtol=1e-5
    )


@pytest.mark.parametrize("name", optim.SCHEDULES)
def test_without_warmup_the_first_rate_is_the_highest(name):
    rate = optim.schedule(OptimConfig(schedule=name, lr=0.5, total_steps=20))
    rates = [float(rate(step)) for step in range(25)]
    assert rates[0] == 0.5 == max(rates)


def numpy_steps(name, w, gradients, decay):
    """Float64 transcriptions at a constant rate of 0.1, b1 = 0.8, b2 = 0.9, eps = 1e-3."""
    w, mean, square = np.array(w, np.float64), np.zeros_like(w), np.zeros_like(w)
    for number, g in enumerate(gradients, start=1):
        if name == "adamw":
            mean, square = 0.8 * mean + 0.2 * g, 0.9 * square + 0.1 * g**2
            direction = (mean / (1 - 0.8**number)) / (np.sqrt(square / (1 - 0.9**number)) + 1e-3)
        elif name == "lion":
            direction = np.sign(0.8 * mean + 0.2 * g)
            mean = 0.9 * mean + 0.1 * g
        else:
            mean = 0.8 * mean + g
            direction = mean
        w = w - 0.1 * (direction + decay * w)
    return w


@pytest.mark.parametrize("name", optim.OPTIMIZERS)
def test_optimizers_and_decay_of_matrices_only(name):
    cfg = OptimConfig(
        name=name,
        lr=0.1,
        schedule="constant",
        b1=0.8,
        b2=0.9,
        eps=1e-3,
        weight_decay=0.5,
        clip_norm=None,
    )
    rng = np.random.default_rng(0)
    params = {"kernel": rng.normal(size=(3, 2)), "bias": rng.normal(size=2)}
    gradients = [{"kernel": rng.normal(size=(3, 2)), "bias": rng.normal(size=2)} for _ in range(5)]
    optimizer = optim.make(cfg)
    got = jax.tree.map(jnp.float32, params)
    opt_state = optimizer.init(got)
    for gradient in gradients:
        updates, opt_state = optimizer.update(jax.tree.map(jnp.float32, gradient), opt_state, got)
        got = optax.apply_updates(got, updates)
    for path, decay in (("kernel", 0.5), ("bias", 0.0)):
        want = numpy_steps(name, params[path], [g[path] for g in gradients], decay)
        np.testing.assert_allclose(got[path], want, rtol=1e-4, atol=1e-5)


def test_clipping_limits_the_global_norm():
    cfg = OptimConfig(name="sgd", lr=1.0, schedule="constant", b1=0.0, clip_norm=2.0)
    optimizer = optim.make(cfg)
    params = {"a": jnp.zeros(2), "b": jnp.zeros(1)}
    long = {"a": jnp.array([3.0, 4.0]), "b": jnp.array([12.0])}
    updates, _ = optimizer.update(long, optimizer.init(params), params)
    np.testing.assert_allclose(updates["a"], [-6 / 13, -8 / 13], rtol=1e-6)
    np.testing.assert_allclose(updates["b"], [-24 / 13], rtol=1e-6)
    short = jax.tree.map(lambda x: x / 100, long)
    updates, _ = optimizer.update(short, optimizer.init(params), params)
    np.testing.assert_allclose(updates["b"], [-0.12], rtol=1e-6)


def test_stacked_biases_are_no_matrices():
    zeros = jax.nn.initializers.zeros
    declared = {
        "kernel": Param((4, 8), ("embed", "mlp"), zeros),
        "layers": stack(
            {
                "kernel": Param((4, 8), ("embed", "mlp"), zeros),
                "bias": Param((8,), ("mlp",), zeros),
            },
            2,
        ),
    }
    assert optim.matrices(declared) == {"kernel": True, "layers": {"kernel": True, "bias": False}}
    assert optim.is_matrix({"bias": jnp.zeros(3), "kernel": jnp.zeros((3, 2))}) == {
        "bias": False,
        "kernel": True,
    }


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "adamv"}, "did you mean 'adamw'"),
        ({"schedule": "cos"}, "schedule must be one of"),
        ({"lr": 0.0}, "lr must be > 0; got lr=0.0"),
        ({"b2": 1.5}, r"b2 must lie in \[0, 1\]"),
        ({"weight_decay": -0.1}, "weight_decay must be >= 0"),
        ({"clip_norm": 0.0}, "clip_norm must be > 0"),
        ({"accumulate": 0}, "accumulate must be > 0"),
        (
            {"warmup_steps": 1000},
            "warmup_steps must be < total_steps; got warmup_steps=1000, total_steps=1000",
        ),
    ],
)
def test_values_out_of_range(values, message):
    with pytest.raises(ValueError, match=message):
        OptimConfig(**values)


def test_the_configuration_survives_json():
    cfg = OptimConfig(lr=1.0, clip_norm=None, schedule="rsqrt", warmup_steps=10)
    assert config.from_dict(OptimConfig, config.to_dict(cfg)) == cfg

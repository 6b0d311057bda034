"""Ours as flax modules and theirs as functions: equal outputs and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen

from jaxml.core import param, tree
from jaxml.interop import flax, flax_nnx
from jaxml.models import mlp
from jaxml.models.mlp import MlpConfig

CFG = MlpConfig(4, (6,), 3)
X = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)


def _ours(p, x):
    return mlp.apply(p, CFG, x)


def _loss(y):
    return jnp.sum(jnp.sin(y))


@pytest.fixture(scope="module")
def p():
    return param.init(jax.random.key(3), mlp.params(CFG))


@pytest.fixture(scope="module")
def nnx():
    try:
        return flax_nnx.nnx()
    except ImportError as error:
        pytest.skip(str(error))


def _close(got, want):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7), got, want)


def test_ours_as_linen(p):
    module = flax.as_linen(mlp.params(CFG), _ours)
    variables = module.init(jax.random.key(0), X)
    tree.check_match(variables["params"], p)
    assert float(variables["params"]["layer0"]["kernel"].std()) > 0.1
    _close(module.apply({"params": p}, X), _ours(p, X))
    slope = jax.grad(lambda p: _loss(module.apply({"params": p}, X)))(p)
    _close(slope, jax.grad(lambda p: _loss(_ours(p, X)))(p))
    _close(flax.as_linen(p, _ours).init(jax.random.key(0), X)["params"], p)


def test_ours_inside_a_linen_program(p):
    class Twice(linen.Module):
        @linen.compact
        def __call__(self, x):
            return linen.Dense(2)(flax.as_linen(mlp.params(CFG), _ours)(x))

    program = Twice()
    variables = program.init(jax.random.key(0), X)
    (name,) = (n for n in variables["params"] if n.startswith("Wrapped"))
    want = _ours(variables["params"][name], X) @ variables["params"]["Dense_0"]["kernel"]
    _close(program.apply(variables, X), want)


class _Normed(linen.Module):
    @linen.compact
    def __call__(self, x, train=False):
        x = linen.BatchNorm(use_running_average=not train)(linen.Dense(6)(x))
        return linen.Dense(3)(linen.relu(x))


def test_linen_as_functions():
    module = _Normed()
    variables = module.init(jax.random.key(0), X)
    params, apply = flax.from_linen(module, variables)
    _close(jax.jit(apply)(params, X), module.apply(variables, X))

    def theirs(p):
        return _loss(module.apply(variables | {"params": p}, X))

    _close(jax.grad(lambda p: _loss(apply(p, X)))(params), jax.grad(theirs)(params))
    params, state, apply = flax.from_linen_stateful(module, variables)
    got = apply(params, state, X, train=True)
    _close(got, module.apply(variables, X, train=True, mutable=["batch_stats"]))
    assert not np.array_equal(got[1]["batch_stats"]["BatchNorm_0"]["mean"], np.zeros(6))


def test_round_trip_through_linen(p):
    module = flax.as_linen(p, _ours)
    params, apply = flax.from_linen(module, module.init(jax.random.key(0), X))
    _close(params, p)
    _close(apply(params, X), _ours(p, X))


def test_ours_as_nnx(nnx, p):
    module = flax.as_nnx(p, _ours)
    _close(nnx.jit(lambda m, x: m(x))(module, X), _ours(p, X))
    slope = nnx.to_pure_dict(nnx.grad(lambda m: _loss(m(X)))(module))
    _close(slope["params"], jax.grad(lambda p: _loss(_ours(p, X)))(p))
    drawn = flax.as_nnx(mlp.params(CFG), _ours, key=jax.random.key(3))
    _close(drawn(X), _ours(p, X))


def test_ours_trains_inside_an_nnx_program(nnx, p):
    class Twice(nnx.Module):
        def __init__(self):
            self.inner = flax.as_nnx(p, _ours)
            self.head = nnx.Linear(3, 2, rngs=nnx.Rngs(0))

        def __call__(self, x):
            return self.head(self.inner(x))

    program = Twice()
    want = _ours(p, X) @ program.head.kernel[...]
    _close(program(X), want)
    slope = nnx.to_pure_dict(nnx.grad(lambda m: _loss(m(X)))(program))
    tree.check_match(slope["inner"]["params"], p)


def test_nnx_as_functions(nnx):
    module = nnx.Sequential(
        nnx.Linear(4, 6, rngs=nnx.Rngs(0)),
        nnx.BatchNorm(6, rngs=nnx.Rngs(1)),
        nnx.relu,
        nnx.Linear(6, 3, rngs=nnx.Rngs(2)),
    )
    module.eval()
    params, apply = flax.from_nnx(module)
    assert tree.flatten(params)["layers/0/kernel"].shape == (4, 6)
    _close(jax.jit(apply)(params, X), module(X))
    slope = nnx.to_pure_dict(nnx.grad(lambda m: _loss(m(X)))(module))
    got = tree.flatten(jax.grad(lambda p: _loss(apply(p, X)))(params))
    _close(got, {path: x for path, x in tree.flatten(slope).items()})
    module.train()
    params, state, apply = flax.from_nnx_stateful(module)
    got, new = jax.jit(apply)(params, state, X)
    assert not np.array_equal(new["layers"]["1"]["mean"], state["layers"]["1"]["mean"])
    _close(got, module(X))
    _close(new["layers"]["1"]["mean"], module.layers[1].mean[...])


def test_round_trip_through_nnx(nnx, p):
    params, apply = flax.from_nnx(flax.as_nnx(p, _ours))
    _close(params, {"params": p})
    _close(apply(params, X), _ours(p, X))


def test_bad_input_is_explained(nnx, p):
    with pytest.raises(ValueError, match="key must be given to draw declared parameters"):
        flax.as_nnx(mlp.params(CFG), _ours)
    with pytest.raises(TypeError, match="params must be a dict; got a list"):
        flax.as_nnx([p], _ours)
    params, apply = flax.from_nnx(flax.as_nnx(p, _ours))
    with pytest.raises(ValueError, match="missing params/layer0/kernel"):
        apply({"params": {"layer1": p["layer1"]}}, X)


def test_bad_linen_input_is_explained(p):
    with pytest.raises(TypeError, match="params must be a dict; got a list"):
        flax.as_linen([p], _ours)
    with pytest.raises(ValueError, match="variables must hold 'params'; got batch_stats"):
        flax.from_linen(_Normed(), {"batch_stats": {}})

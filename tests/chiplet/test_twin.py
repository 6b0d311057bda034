"""The program that runs: equal to the dense block, and it moves what the model charges."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxml.chiplet import twin
from jaxml.chiplet.compiled import count_collectives
from jaxml.chiplet.config import FormatConfig, LinkConfig, Mesh2D, ModelShape, System
from jaxml.chiplet.method import METHODS, Job
from jaxml.chiplet.rounding import EXACT
from jaxml.chiplet.workload import layer

SHAPE = twin.BlockShape(width=32, num_heads=8, num_kv_heads=4, ffn_width=48)
TOKENS, BATCH = 16, 3


@pytest.fixture(scope="module")
def inputs():
    params = twin.init_block(jax.random.key(0), SHAPE)
    x = jax.random.normal(jax.random.key(1), (TOKENS, BATCH, SHAPE.width))
    return params, x


@functools.cache
def _losses(rows, cols, regather):
    mesh = twin.die_mesh(rows, cols)

    def loss(params, x):
        y = twin.mesh_transformer_block(params, x, SHAPE, mesh, regather=regather)
        return jnp.sum(jnp.sin(y))

    shapes = jax.eval_shape(lambda key: twin.init_block(key, SHAPE), jax.random.key(0))
    x = jax.ShapeDtypeStruct((TOKENS, BATCH, SHAPE.width), jnp.float32)
    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1))).lower(shapes, x).compile()


@functools.cache
def _dense_answer():
    params = twin.init_block(jax.random.key(0), SHAPE)
    x = jax.random.normal(jax.random.key(1), (TOKENS, BATCH, SHAPE.width))
    return jax.jit(jax.value_and_grad(_dense, argnums=(0, 1)))(params, x)


def _dense(params, x):
    return jnp.sum(jnp.sin(twin.dense_block(params, x, SHAPE)))


@pytest.mark.parametrize(("rows", "cols", "regather"), [(2, 4, True), (4, 2, False), (1, 1, False)])
def test_block_and_gradients_equal_the_dense_block(inputs, rows, cols, regather):
    got = _losses(rows, cols, regather)(*inputs)
    chex.assert_trees_all_close(jax.device_get(got), jax.device_get(_dense_answer()), atol=2e-4)


@pytest.mark.parametrize("orientation", ["col", "row"])
def test_linear_in_float64(x64, orientation):
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(16, 24)), rng.normal(size=(24, 16))
    mesh = twin.die_mesh(2, 4)

    def loss(x, w, regather):
        return jnp.sum(jnp.sin(twin.mesh_linear(x, w, mesh, orientation, regather=regather)))

    for regather in (True, False):
        value, grads = jax.value_and_grad(loss, argnums=(0, 1))(x, w, regather)
        y = x @ w
        np.testing.assert_allclose(value, np.sin(y).sum(), rtol=1e-10)
        np.testing.assert_allclose(grads[0], np.cos(y) @ w.T, rtol=1e-10, atol=1e-10)
        np.testing.assert_allclose(grads[1], x.T @ np.cos(y), rtol=1e-10, atol=1e-10)


def _charged(rows, cols, regather):
    """Counts and gathered bytes of the model: forward, and forward with backward, float32."""
    kv_width = SHAPE.head_dim * SHAPE.num_kv_heads
    h, f, tokens = SHAPE.width, SHAPE.ffn_width, TOKENS * BATCH
    along_c = 4 * tokens * h // cols, 4 * tokens * h // cols
    qkv, out = 4 * tokens * (h + 2 * kv_width) // rows, 4 * tokens * h // rows
    up, down, stream = 4 * tokens * 2 * f // rows, 4 * tokens * f // rows, 0
    stream = 4 * tokens * 2 * kv_width // rows
    gathers = [along_c[0], stream, out, along_c[0], down]
    scatters = [qkv, along_c[0], up, along_c[0]]
    back_gathers, back_scatters = list(scatters), list(gathers)
    if regather:
        back_gathers += [along_c[0], out, along_c[0], down]
    return (gathers, scatters), (gathers + back_gathers, scatters + back_scatters)


@pytest.mark.parametrize(("rows", "cols", "regather"), [(2, 4, True), (4, 2, False)])
def test_compiled_collectives_are_those_of_the_model(inputs, rows, cols, regather):
    mesh = twin.die_mesh(rows, cols)

    def forward(params, x):
        return twin.mesh_transformer_block(params, x, SHAPE, mesh, regather=regather)

    ahead, both = _charged(rows, cols, regather)
    compiled = jax.jit(forward).lower(*inputs).compile(), _losses(rows, cols, regather)
    for program, (gathers, scatters) in zip(compiled, (ahead, both), strict=True):
        moved = count_collectives(program.as_text())
        assert moved.counts["all-gather"] == len(gathers)
        assert moved.counts["reduce-scatter"] == len(scatters)
        assert moved.gathered_bytes["all-gather"] == sum(gathers)
        assert moved.gathered_bytes["reduce-scatter"] == sum(scatters)
        assert "all-to-all" not in moved.counts and "collective-permute" not in moved.counts


def test_the_model_charges_the_same_bytes():
    """The rings of the model, in gathered bytes, for the shape and mesh of the twin."""
    rows, cols, tokens = 2, 4, TOKENS * BATCH
    model = ModelShape(32, 1, 8, 4, 48, 1, TOKENS)
    formats = FormatConfig(activation_bytes=4.0)
    system = System(mesh=Mesh2D(rows, cols), link=LinkConfig(1.0, 0.0), formats=formats)
    shape, job = layer(model, EXACT), Job(float(tokens), system, EXACT)
    method = METHODS["hecaton"]
    ahead = [method.forward(m, job) for block in shape.linears for m in block]
    back = [method.backward(m, job) for block in shape.linears for m in block]
    ahead.append(method.stream(shape, job))
    back += [method.stream(shape, job)] * 2

    def seconds(moves):
        return sum(float(m.time_s) for m in moves)

    # On a ring of n, G gathered bytes take (n - 1) / n * G seconds at 1 byte/s.
    (g, s), (both_g, both_s) = _charged(rows, cols, True)
    along_c = {4 * tokens * 32 // cols}

    def want(sizes):
        return sum(x * ((rows - 1) / rows if x in along_c else (cols - 1) / cols) for x in sizes)

    assert seconds(ahead) == pytest.approx(want(g + s))
    # The model gathers keys and values again in backward instead of keeping them.
    stream = 4 * tokens * 2 * 16 // rows * (cols - 1) / cols
    assert seconds(ahead + back) == pytest.approx(want(both_g + both_s) + stream)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_kv_heads": 1}, "must divide num_kv_heads; got num_kv_heads=1"),
        ({"ffn_width": 44}, "must divide ffn_width; got ffn_width=44"),
    ],
)
def test_bad_shapes(inputs, change, message):
    shape = twin.BlockShape(**{**vars(SHAPE), **change})
    with pytest.raises(ValueError, match=message):
        twin.mesh_transformer_block(
            twin.init_block(jax.random.key(0), shape), inputs[1], shape, twin.die_mesh(2, 4)
        )
    with pytest.raises(ValueError, match="at most the number of devices; got rows=4, cols=4"):
        twin.die_mesh(4, 4)
    with pytest.raises(ValueError, match="must divide outputs; got outputs=9"):
        twin.mesh_linear(jnp.ones((8, 8)), jnp.ones((8, 9)), twin.die_mesh(2, 4))

"""Blocks from any parts, and stacks of them under one scan."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxml.core import param
from jaxml.nn import attention, mlp, norm, transformer

CFG = attention.AttentionConfig(8, 2)
BLOCK = {
    "attention": attention.params(CFG),
    "first": norm.rms_params(8),
    "mlp": mlp.gated_params(8, 12),
    "second": norm.rms_params(8),
}


def _block(p, x, inputs):
    x = transformer.pre_norm(
        x,
        (lambda x: norm.rms(p["first"], x), lambda x: attention.apply(p["attention"], CFG, x)),
        (lambda x: norm.rms(p["second"], x), lambda x: mlp.gated(p["mlp"], x)),
    )
    return (x if inputs is None else x * inputs), jnp.mean(x)


@pytest.fixture(scope="module")
def case():
    rng = np.random.default_rng(0)
    stacked = param.stack(BLOCK, 3)
    p = jax.tree.map(
        lambda p: rng.normal(size=p.shape).astype(np.float32) / 3, stacked, is_leaf=param.is_param
    )
    return p, rng.normal(size=(2, 5, 8)).astype(np.float32)


def test_pre_norm_and_post_norm_are_their_equations():
    def norm(x):
        return x / 2

    x = 3.0
    pre = x + np.sin(x / 2)
    assert transformer.pre_norm(x, (norm, np.sin), (norm, np.cos)) == pre + np.cos(pre / 2)
    post = (x + np.sin(x)) / 2
    assert transformer.post_norm(x, (norm, np.sin), (norm, np.cos)) == (post + np.cos(post)) / 2


def test_scan_is_the_loop_over_layers(case):
    p, x = case
    scale = np.array([1.0, 2.0, -1.0], np.float32)
    got, means = jax.jit(lambda p, x: transformer.scan_layers(_block, p, x, scale))(p, x)
    want, rows, one = x, [], jax.jit(_block)
    for i in range(3):
        want, row = one(jax.tree.map(lambda a, i=i: a[i], p), want, scale[i])
        rows.append(row)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(means, rows, rtol=1e-4, atol=1e-6)


def test_remat_changes_memory_not_gradients(case):
    p, x = case

    def loss(p, remat):
        return jnp.sum(transformer.scan_layers(_block, p, x, remat=remat)[0] ** 2)

    slope = jax.jit(jax.grad(loss), static_argnums=1)
    full, dots, none = (slope(p, remat) for remat in ("full", "dots", None))
    for leaves in zip(*map(jax.tree.leaves, (full, dots, none)), strict=True):
        for leaf in leaves[:2]:
            np.testing.assert_allclose(leaf, leaves[2], rtol=1e-4, atol=1e-4 * abs(leaf).max())
    full, dots, none = (_saved(lambda p, r=r: loss(p, r), p) for r in ("full", "dots", None))
    assert full < dots < none


def _saved(function, p):
    """Array elements that the backward pass of `function` needs."""
    backward = jax.eval_shape(lambda p: jax.vjp(function, p)[1], p)
    return sum(leaf.size for leaf in jax.tree.leaves(backward))


def test_without_jit_the_answer_is_the_same(case):
    p, x = jax.tree.map(lambda a: a[:1], case)
    want = jax.jit(lambda p, x: transformer.scan_layers(_block, p, x)[0])(p, x)
    with jax.disable_jit():
        got = transformer.scan_layers(_block, p, x)[0]
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_a_stack_is_causal(case):
    p, x = case
    run = jax.jit(lambda x: transformer.scan_layers(_block, p, x)[0])
    changed = np.asarray(run(x) != run(x + (np.arange(5) == 3)[None, :, None])).any((0, 2))
    assert changed.tolist() == [False, False, False, True, True]


def test_bad_input_is_explained(case):
    with pytest.raises(ValueError, match="remat must be one of full, dots; got remat='ful'"):
        transformer.scan_layers(_block, *case, remat="ful")

"""Attention against a NumPy transcription, causality by perturbation, decoding with a cache."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxml.core import param
from jaxml.nn import attention
from jaxml.nn.attention import AttentionConfig

CASES = {
    "plain": AttentionConfig(8, 2),
    "grouped": AttentionConfig(8, 4, num_kv_heads=2, head_dim=6, bias=True, rope=False),
    "one key head": AttentionConfig(8, 4, num_kv_heads=1, causal=False),
}


apply = jax.jit(attention.apply, static_argnums=1, static_argnames="dtype")
apply_cross = jax.jit(attention.apply_cross, static_argnums=1)
step = jax.jit(attention.step, static_argnums=1)


def _random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def _layer(cfg):
    return jax.tree.map(
        lambda p: _random(*p.shape) / 2, attention.params(cfg), is_leaf=param.is_param
    )


def _turn(x, base):
    """Rotation of [t, h, c] at positions 0, 1, ..., by complex numbers."""
    half = x.shape[-1] // 2
    angle = np.arange(len(x))[:, None, None] * base ** (-np.arange(half) / half)
    z = (x[..., :half] + 1j * x[..., half:]) * np.exp(1j * angle)
    return np.concatenate([z.real, z.imag], -1)


def _oracle(p, cfg, x, keep):
    """One row [t, d], head by head, in float64; `keep` [t, t]."""
    p = jax.tree.map(lambda a: np.asarray(a, np.float64), p)
    length, c = len(x), cfg.head_width

    def heads(name):
        return (x @ p[name]["kernel"] + p[name].get("bias", 0)).reshape(length, -1, c)

    q, k, v = heads("query"), heads("key"), heads("value")
    if cfg.rope:
        q, k = _turn(q, cfg.rope_base), _turn(k, cfg.rope_base)
    out = []
    for h in range(cfg.num_heads):
        group = h * cfg.kv_heads // cfg.num_heads
        score = np.where(keep, q[:, h] @ k[:, group].T / np.sqrt(c), -np.inf)
        weight = np.exp(score - score.max(-1, keepdims=True))
        out.append(weight / weight.sum(-1, keepdims=True) @ v[:, group])
    return np.concatenate(out, -1) @ p["out"]["kernel"] + p["out"].get("bias", 0)


@pytest.mark.parametrize("cfg", CASES.values(), ids=CASES)
def test_equals_numpy_with_padding_and_segments(cfg):
    p, x = _layer(cfg), _random(2, 6, 8, seed=1)
    mask = np.array([[True] * 6, [True] * 4 + [False] * 2])
    segments = np.array([[0, 0, 0, 1, 1, 1], [0] * 6])
    got = apply(p, cfg, x, mask=mask, segment_ids=segments)
    for row in range(2):
        segment = np.asarray(segments[row])
        keep = (segment[:, None] == segment) & np.asarray(mask[row])[None]
        keep = np.tril(keep) if cfg.causal else keep
        want = _oracle(p, cfg, np.asarray(x[row], np.float64), keep)
        np.testing.assert_allclose(got[row], want, atol=2e-6)


def test_causal_means_the_future_changes_nothing():
    cfg = CASES["plain"]
    p, x = _layer(cfg), _random(1, 7, 8, seed=1)
    changed = apply(p, cfg, x + (np.arange(7) == 4)[None, :, None]) != apply(p, cfg, x)
    assert changed.any(-1)[0].tolist() == [False] * 4 + [True] * 3


def test_positions_matter_by_their_differences_only():
    cfg = CASES["plain"]
    p, x = _layer(cfg), _random(1, 5, 8, seed=1)
    place = np.arange(5)[None]
    near = apply(p, cfg, x, positions=place)
    np.testing.assert_allclose(apply(p, cfg, x, positions=place + 90), near, atol=1e-5)
    assert abs(apply(p, cfg, x, positions=2 * place) - near).max() > 1e-3


def test_a_masked_head_contributes_nothing():
    cfg = CASES["plain"]
    p, x = _layer(cfg), _random(2, 5, 8, seed=1)
    got = apply(p, cfg, x, head_mask=jnp.array([0.0, 2.0]))
    kernel = p["out"]["kernel"] * np.repeat([0.0, 2.0], 4).astype(np.float32)[:, None]
    want = apply(p | {"out": {"kernel": kernel}}, cfg, x)
    np.testing.assert_allclose(got, want, atol=1e-6)


def test_cross_attention_reads_what_the_mask_keeps():
    cfg = AttentionConfig(8, 2, bias=True)
    p = _layer(cfg)
    x, memory = _random(2, 3, 8, seed=1), _random(2, 5, 8, seed=2)
    got = apply_cross(p, cfg, x, memory, mask=np.arange(5)[None] < np.array([[2], [5]]))
    short = apply_cross(p, cfg, x[:1], memory[:1, :2])
    np.testing.assert_allclose(got[:1], short, atol=1e-6)
    np.testing.assert_allclose(got[1:], apply_cross(p, cfg, x[1:], memory[1:]), atol=1e-6)
    order = np.array([3, 1, 4, 0, 2])
    moved = apply_cross(p, cfg, x[1:], memory[1:, order])
    np.testing.assert_allclose(got[1:], moved, atol=1e-6)


@pytest.mark.parametrize("prefill", [0, 1, 4])
@pytest.mark.parametrize("name", ["plain", "grouped"])
def test_decoding_with_a_cache_is_the_full_forward(name, prefill):
    cfg = CASES[name]
    p, x = _layer(cfg), _random(2, 7, 8, seed=1)
    cache, rows = attention.empty_cache(cfg, 2, 9), []
    if prefill:
        y, cache = step(p, cfg, x[:, :prefill], cache)
        rows = [y[:, t] for t in range(prefill)]
    for t in range(prefill, 7):
        y, cache = step(p, cfg, x[:, t], cache)
        rows.append(y)
    np.testing.assert_allclose(np.stack(rows, 1), apply(p, cfg, x), atol=2e-6)
    assert int(cache.length) == 7


def test_a_full_cache_is_seen():
    cfg = CASES["plain"]
    p, x = _layer(cfg), jnp.ones((1, 2, 8))
    _, cache = step(p, cfg, x, attention.empty_cache(cfg, 1, 2))
    assert jnp.isnan(step(p, cfg, x[:, 0], cache)[0]).all()
    with pytest.raises(ValueError, match="x must fit the cache; got 3 tokens, max_len=2"):
        step(p, cfg, jnp.ones((1, 3, 8)), cache)


def test_gradient_against_finite_differences():
    with jax.enable_x64(True):
        cfg = CASES["plain"]
        p = jax.tree.map(lambda x: x.astype(jnp.float64), _layer(cfg))
        x = _random(1, 4, 8, seed=1).astype(np.float64)
        layer = lambda p, x: apply(p, cfg, x)  # noqa: E731
        check_grads(layer, (p, x), 1, ["rev"], atol=1e-3, rtol=1e-3, eps=1e-2)  # float32 softmax


def test_compute_dtype():
    cfg = CASES["plain"]
    p, x = _layer(cfg), _random(1, 4, 8, seed=1)
    half = apply(p, cfg, x, dtype=jnp.bfloat16)
    assert half.dtype == jnp.bfloat16
    full = apply(p, cfg, x)
    np.testing.assert_allclose(half.astype(jnp.float32), full, atol=0.05)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: AttentionConfig(8, 3), "num_heads must divide width; got num_heads=3, width=8."),
        (lambda: AttentionConfig(8, 4, num_kv_heads=3), "num_kv_heads must divide num_heads"),
        (lambda: AttentionConfig(6, 2), "head_dim must be even for rope; got head_dim=3."),
        (lambda: AttentionConfig(8, 0), "num_heads must be > 0"),
        (lambda: _run(x=jnp.ones((1, 4, 7))), "x_btd must have shape [b, t, 8]"),
        (lambda: _run(mask=jnp.ones((1, 1, 4), bool)), "mask must have shape [b, s] or"),
        (lambda: _run(head_mask=jnp.ones(3)), "head_mask must have shape [2]"),
        (lambda: _run(segment_ids=jnp.ones(4, int)), "segment_ids must have shape [1, 4]"),
        (
            lambda: attention.step({}, CASES["one key head"], jnp.ones((1, 8)), None),
            "cfg.causal must be True",
        ),
    ],
)
def test_bad_input_is_explained(call, message):
    with pytest.raises(ValueError) as error:
        call()
    assert message in str(error.value)


def _run(x=None, **kwargs):
    cfg = CASES["plain"]
    p = _layer(cfg)
    return apply(p, cfg, jnp.ones((1, 4, 8)) if x is None else x, **kwargs)

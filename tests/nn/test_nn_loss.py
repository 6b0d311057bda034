"""Cross-entropy against scipy; the chunked form against the plain one, and its memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from scipy import special

from jaxml.nn import loss


def _random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def _case(batch=2, length=7, width=5, vocab=11, dtype=np.float32):
    rng = np.random.default_rng(3)
    x = rng.normal(size=(batch, length, width)).astype(dtype)
    table = rng.normal(size=(vocab, width)).astype(dtype)
    labels = rng.integers(0, vocab, (batch, length))
    return x, table, labels, rng.random((batch, length)) < 0.7


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropy_equals_scipy(smoothing):
    x, table, labels, mask = _case(dtype=np.float64)
    logits = x @ table.T
    target = np.eye(11)[labels] * (1 - smoothing) + smoothing / 11
    nll = -(target * special.log_softmax(logits, -1)).sum(-1)
    with jax.enable_x64(True):
        got, count = loss.cross_entropy(jnp.asarray(logits), labels, mask, smoothing)
    np.testing.assert_allclose(got, nll[mask].mean(), rtol=1e-12)
    assert float(count) == mask.sum()


def test_z_loss_equals_scipy():
    logits, mask = _random(3, 4, 6), np.array([[1, 1, 0, 1]] * 3, bool)
    want = (special.logsumexp(logits, -1) ** 2)[mask].mean()
    np.testing.assert_allclose(loss.z_loss(jnp.asarray(logits), mask), want, rtol=1e-6)


@pytest.mark.parametrize(("chunk", "use_mask"), [(1, True), (3, True), (4, False), (9, True)])
def test_chunked_loss_and_gradients_equal_the_plain_ones(chunk, use_mask):
    x, table, labels, mask = _case(dtype=np.float64)
    mask = mask if use_mask else None

    def chunked(x, table):
        return loss.chunked_cross_entropy(x, table, labels, mask, chunk)

    def plain(x, table):
        return loss.cross_entropy(x @ table.T, labels, mask)

    with jax.enable_x64(True):
        both = [jax.value_and_grad(f, (0, 1), has_aux=True) for f in (chunked, plain)]
        got, want = (jax.jit(f)(x, table) for f in both)
        alone = jax.jit(chunked)(x, table)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-14), got, want)
    np.testing.assert_allclose(alone, want[0], rtol=1e-12)


def test_chunked_gradient_against_finite_differences():
    x, table, labels, mask = _case(1, 4, 3, 5, np.float64)
    with jax.enable_x64(True):
        run = jax.jit(lambda x, table: loss.chunked_cross_entropy(x, table, labels, mask, 2)[0])
        check_grads(run, (x, table), 1, ["rev"])


def test_upstream_gradients_scale_the_result():
    x, table, labels, mask = _case()

    def run(x, scale):
        return scale * loss.chunked_cross_entropy(x, table, labels, mask, 3)[0]

    once, five = (jax.jit(jax.grad(run))(x, scale) for scale in (1.0, 5.0))
    np.testing.assert_allclose(five, 5 * once, rtol=1e-6)


def test_per_example_gradients_by_vmap():
    x, table, labels, _ = _case()

    def run(table, x, labels):
        return loss.chunked_cross_entropy(x[None], table, labels[None], chunk=4)[0]

    each = jax.jit(jax.vmap(jax.grad(run), (None, 0, 0)))(table, x, labels)
    want = [jax.jit(jax.grad(run))(table, x[i], labels[i]) for i in range(2)]
    np.testing.assert_allclose(each, np.stack(want), atol=1e-6)


def test_half_precision_is_near_and_sums_are_float32():
    x, table, labels, mask = _case(2, 64, 32, 50)
    run = jax.jit(jax.value_and_grad(loss.chunked_cross_entropy, (0, 1), has_aux=True))
    (want, _), slopes = run(x, table, labels, mask)
    (got, _), half = run(jnp.asarray(x, jnp.bfloat16), table, labels, mask)
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, want, rtol=5e-3)
    assert [s.dtype for s in half] == [jnp.bfloat16, jnp.float32]
    for a, b in zip(half, slopes, strict=True):
        np.testing.assert_allclose(a.astype(jnp.float32), b, atol=0.02 * abs(b).max())


def _largest(function, *args):
    """Elements of the largest array that a compiled program ever names."""
    sizes = [0]

    def walk(jaxpr):
        for equation in jaxpr.eqns:
            sizes.extend(v.aval.size for v in equation.outvars)
            for value in jax.tree.leaves(
                list(equation.params.values()), is_leaf=lambda v: hasattr(v, "eqns")
            ):
                inner = getattr(value, "jaxpr", value)
                if hasattr(inner, "eqns"):
                    walk(inner)

    walk(jax.make_jaxpr(function)(*args).jaxpr)
    return max(sizes)


def test_full_logits_never_exist():
    x, table, labels, _ = _case(2, 512, 4, 100)

    def plain(x, table):
        return loss.cross_entropy(x @ table.T, labels)[0]

    def chunked(x, table):
        return loss.chunked_cross_entropy(x, table, labels, chunk=16)[0]

    assert _largest(jax.grad(plain, (0, 1)), x, table) == 2 * 512 * 100
    assert _largest(jax.grad(chunked, (0, 1)), x, table) <= 2 * 512 * 4
    compiled = [
        jax.jit(jax.grad(f, (0, 1))).lower(x, table).compile().memory_analysis()
        for f in (plain, chunked)
    ]
    if all(compiled):
        assert compiled[1].temp_size_in_bytes < compiled[0].temp_size_in_bytes / 4


def test_masked_labels_may_be_anything():
    x, table, labels, mask = _case()
    wild = np.where(mask, labels, -100)
    for make in (labels, wild):
        plain = loss.cross_entropy(jnp.asarray(x @ table.T), make, mask)
        chunked = loss.chunked_cross_entropy(x, table, make, mask, 4)
        np.testing.assert_allclose(plain[0], chunked[0], rtol=1e-6)
        assert np.isfinite(plain[0])


def test_nothing_kept_is_zero():
    x, table, labels, mask = _case()
    run = jax.value_and_grad(
        lambda x: loss.chunked_cross_entropy(x, table, labels, mask & False)[0]
    )
    value, slope = run(x)
    assert value == 0
    assert (slope == 0).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda x, table, labels: loss.chunked_cross_entropy(x, table[:, :3], labels),
            "embedding_vd must have shape [v, 5]",
        ),
        (
            lambda x, table, labels: loss.chunked_cross_entropy(x, table, labels, chunk=0),
            "chunk must be > 0; got chunk=0.",
        ),
        (
            lambda x, table, labels: loss.cross_entropy(x, labels[:, 1:]),
            "labels must have shape [2, 7]",
        ),
        (
            lambda x, table, labels: loss.cross_entropy(x, labels, labels[0]),
            "mask must have shape [2, 7]",
        ),
        (
            lambda x, table, labels: loss.cross_entropy(x, labels, label_smoothing=1.0),
            "label_smoothing must lie in [0, 1); got label_smoothing=1.0.",
        ),
    ],
)
def test_bad_input_is_explained(call, message):
    with pytest.raises(ValueError) as error:
        call(*_case()[:3])
    assert message in str(error.value)


@pytest.mark.parametrize(("rows", "steps"), [(1, 16), (2, 8), (8, 4)])
def test_as_many_tokens_at_once_whatever_the_rows(rows, steps, monkeypatch):
    monkeypatch.setattr(loss, "AT_ONCE", 16)
    monkeypatch.setattr(loss, "FEWEST", 4)
    x, table, labels, _ = _case(batch=rows, length=32)
    text = str(jax.make_jaxpr(lambda x: loss.chunked_cross_entropy(x, table, labels)[0])(x))
    assert f"f32[{rows},{steps},11]" in text

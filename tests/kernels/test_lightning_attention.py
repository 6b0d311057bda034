"""One suite for every implementation that can run here, against the float64 quadratic form."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxml_kernels import dispatch
from jaxml_kernels.lightning_attention import (
    api,
    lightning_attention,
    lightning_attention_step,
    xla,
)
from jaxml_kernels.lightning_attention.cases import SMALL, Case
from jaxml_kernels.lightning_attention.problem import Problem
from jaxml_kernels.lightning_attention.vjp import differentiable
from tests.kernels.oracle import distance, quadratic

NAMES = ("xla", "reference")
# The exact gap between float32 and float64 grows with how much an output cancels; the fully
# remembering cases sum hundreds of terms of both signs.
TOLERANCE = {"float32": 2e-6, "bfloat16": 8e-3}


def _grads(function, arrays, wo, ws):
    def loss(*arrays):
        o, s = function(*arrays)
        return jnp.sum(o.astype(jnp.float32) * wo) + jnp.sum(s * ws), (o, s)

    grad = jax.jit(jax.value_and_grad(loss, range(len(arrays)), has_aux=True))
    (_, out), grads = grad(*arrays)
    return out, dict(zip(("q", "k", "v", "log_decay", "initial"), grads, strict=True))


def _call(name, segment_ids=None):
    def run(q, k, v, log_decay, initial):
        return lightning_attention(
            q,
            k,
            v,
            log_decay,
            initial_state=initial,
            segment_ids=segment_ids,
            return_final_state=True,
            implementation=name,
        )

    return run


def _problem(case, seed=0):
    """Inputs with unit variance (queries over the root of their width), and cotangent weights."""
    draw = np.random.default_rng(seed).standard_normal
    wide = (case.batch, case.seq_len, case.num_heads, case.key_width)
    out, dtype = (*wide[:3], case.value_width), jnp.dtype(case.dtype)
    state = (case.batch, case.num_heads, case.key_width, case.value_width)
    q, k = draw(wide) * case.key_width**-0.5, draw(wide)
    q, k, v, wo = (x.astype(dtype) for x in (q, k, draw(out), draw(out)))
    initial, ws = (draw(state).astype(np.float32) for _ in range(2))
    return (q, k, v, case.log_decay, initial), wo.astype(np.float32), ws


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("case", SMALL, ids=lambda c: c.name)
def test_outputs_states_and_gradients(case, name):
    arrays, wo, ws = _problem(case)
    (o, s), grads = _grads(_call(name), arrays, wo, ws)
    want_o, want_s, want = quadratic(*arrays, wo=wo, ws=ws)
    limit = TOLERANCE[case.dtype]
    errors = {"o": distance(o, want_o), "s": distance(s, want_s)}
    slopes = {n: distance(g, want[n]) for n, g in grads.items() if n != "log_decay"}
    assert o.dtype == arrays[2].dtype
    assert s.dtype == jnp.float32
    assert max(errors.values()) <= limit, errors
    assert max(slopes.values()) <= 2 * limit, slopes
    # sums of terms that cancel: judged against their size, not against the sum
    scale = np.abs(want["log_decay"]).max() + case.seq_len
    assert np.abs(grads["log_decay"] - want["log_decay"]).max() <= 20 * limit * scale


@pytest.mark.parametrize("name", NAMES)
def test_segments_equal_separate_rows(name):
    case = Case("seg", 2, 300, 3, 16, 24, "float32")
    arrays, wo, ws = _problem(case)
    ids = np.sort(np.random.default_rng(5).integers(0, 6, (2, 300)), 1).astype(np.int32)
    (o, s), grads = _grads(_call(name, ids), arrays, wo, ws)
    want_o, want_s, want = quadratic(*arrays, runs=ids, wo=wo, ws=ws)
    assert distance(o, want_o) <= 2e-6
    assert distance(s, want_s) <= 2e-6
    for n, g in grads.items():
        assert distance(g, want[n]) <= 1e-5, n


@settings(max_examples=4)
@given(
    seq_len=st.integers(1, 200),
    chunk=st.integers(1, 70),
    block=st.integers(1, 200),
    num_segments=st.integers(1, 9),
)
def test_any_chunk_and_block_size(seq_len, chunk, block, num_segments):
    case = Case("any", 1, seq_len, 2, 5, 3, "float32")
    arrays, wo, ws = _problem(case)
    runs = np.sort(np.random.default_rng(seq_len).integers(0, num_segments, (1, seq_len)), 1)
    runs = np.cumsum(np.diff(runs, prepend=runs[:, :1]) != 0, 1)
    sizes = {"chunk": chunk, "block": block}

    @jax.jit
    def both(q, k, v, d, initial, runs, wo, ws):
        arrays = (q, k, v, d, initial, runs)
        return xla.forward(*arrays, **sizes), xla.backward(*arrays, wo, ws, **sizes)

    (o, s), got = both(*arrays, runs, wo, ws)
    want_o, want_s, want = quadratic(*arrays, runs=runs, wo=wo, ws=ws)
    assert distance(o, want_o) <= 2e-6
    assert distance(s, want_s) <= 2e-6
    for n, g in zip(("q", "k", "v", "initial"), got, strict=True):
        assert distance(g, want[n]) <= 4e-6, n


@pytest.mark.parametrize("slope", ["alibi", "steep", "none"])
@pytest.mark.parametrize("split", [1, 100, 256, 299])
def test_split_and_continue(slope, split):
    case = Case("split", 1, 300, 4, 16, 16, "float32", slope)
    q, k, v, d = case.inputs(jax.random.key(0))
    whole, final = lightning_attention(q, k, v, d, return_final_state=True)
    run = functools.partial(lightning_attention, log_decay_h=d, return_final_state=True)
    first, state = run(q[:, :split], k[:, :split], v[:, :split])
    rest, last = run(q[:, split:], k[:, split:], v[:, split:], initial_state=state)
    assert distance(jnp.concatenate([first, rest], 1), whole) <= 2e-6
    assert distance(last, final) <= 2e-6


@pytest.mark.parametrize("slope", ["alibi", "steep"])
def test_decode_equals_prefill(slope):
    case = Case("decode", 2, 130, 4, 16, 24, "float32", slope)
    q, k, v, d = case.inputs(jax.random.key(0))
    want, final = lightning_attention(q, k, v, d, return_final_state=True)

    def step(state, token):
        o, state = lightning_attention_step(*token, d, state)
        return state, o

    tokens = tuple(jnp.moveaxis(x, 1, 0) for x in (q, k, v))
    state, o = jax.lax.scan(step, jnp.zeros_like(final), tokens)
    assert distance(jnp.moveaxis(o, 0, 1), want) <= 1e-5
    assert distance(state, final) <= 1e-5


def _packed(lengths):
    case = Case("packed", 1, sum(lengths), 3, 16, 8, "float32")
    (q, k, v, d, _), wo, _ = _problem(case)
    cu = np.concatenate([[0], np.cumsum(lengths)])
    shape = (len(lengths), 3, 16, 8)
    initial, ws = np.random.default_rng(7).standard_normal((2, *shape)).astype(np.float32)
    return (q, k, v, d, initial), wo, ws, cu.astype(np.int32)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("lengths", [(5,), (64, 1, 200), (0, 3, 0, 130, 0), (1, 1, 1)], ids=str)
def test_packed_equals_separate(lengths, name):
    arrays, wo, ws, cu = _packed(lengths)

    def run(q, k, v, d, initial):
        return lightning_attention(
            q,
            k,
            v,
            d,
            initial_state=initial,
            cu_seqlens=jnp.asarray(cu),
            return_final_state=True,
            implementation=name,
        )

    (o, s), grads = _grads(run, arrays, wo, ws)
    q, k, v, d, initial = arrays
    total = np.zeros(3)
    for n, (a, b) in enumerate(zip(cu[:-1], cu[1:], strict=True)):
        if a == b:
            assert distance(s[n], initial[n]) == 0
            assert distance(grads["initial"][n], ws[n]) == 0
            continue
        cut = slice(a, b)
        want_o, want_s, want = quadratic(
            q[:, cut], k[:, cut], v[:, cut], d, initial[n : n + 1], wo=wo[:, cut], ws=ws[n : n + 1]
        )
        assert distance(o[:, cut], want_o) <= 2e-6
        assert distance(s[n : n + 1], want_s) <= 2e-6
        for field in "qkv":
            assert distance(grads[field][:, cut], want[field]) <= 4e-6
        assert distance(grads["initial"][n : n + 1], want["initial"]) <= 4e-6
        total += want["log_decay"]
    assert distance(grads["log_decay"], total) <= 1e-4


def test_no_decay_is_a_cumulative_sum(key):
    q, k, v, _ = Case("sum", 1, 90, 2, 8, 8, "float32").inputs(key)
    outer = np.cumsum(np.einsum("bthc,bthe->bthce", *map(np.float64, (k, v))), 1)
    want = np.einsum("bthc,bthce->bthe", np.float64(q), outer)
    assert distance(lightning_attention(q, k, v, jnp.zeros(2))[0], want) <= 2e-6


def test_full_decay_sees_only_itself(key):
    q, k, v, _ = Case("self", 1, 90, 2, 8, 8, "float32").inputs(key)
    want = np.sum(np.float64(q) * np.float64(k), -1, keepdims=True) * np.float64(v)
    assert distance(lightning_attention(q, k, v, jnp.full(2, -1e4))[0], want) <= 2e-6


@pytest.mark.parametrize("name", NAMES)
def test_causal(name, key):
    q, k, v, d = Case("causal", 1, 200, 2, 8, 8, "float32").inputs(key)
    before = lightning_attention(q, k, v, d, implementation=name)[0]
    future = [x.at[:, 131:].set(1e6) for x in (q, k, v)]
    after = lightning_attention(*future, d, implementation=name)[0]
    np.testing.assert_array_equal(before[:, :131], after[:, :131])


def test_vmap_jit_checkpoint_and_second_derivative(key):
    q, k, v, d = Case("many", 2, 70, 2, 8, 8, "float32").inputs(key)
    many = jax.vmap(lambda q: lightning_attention(q, k, v, d)[0])(jnp.stack([q, 2 * q]))
    one = lightning_attention(q, k, v, d)[0]
    assert distance(many[1], 2 * one) <= 2e-6

    def loss(q, name):
        run = jax.checkpoint(lambda q: lightning_attention(q, k, v, d, implementation=name)[0])
        return jnp.sum(run(q) ** 3)

    got, want = (jax.grad(lambda q, n=n: jnp.sum(jax.grad(loss)(q, n) ** 2))(q) for n in NAMES)
    assert distance(got, want) <= 2e-5


def test_memory_of_the_gradient_grows_with_the_length(key):
    def temporary(seq_len):
        q, k, v, d = Case("mem", 1, seq_len, 2, 64, 64, "float32").inputs(key)
        grad = jax.jit(jax.grad(lambda q: jnp.sum(lightning_attention(q, k, v, d)[0])))
        return grad.lower(q).compile().memory_analysis().temp_size_in_bytes

    assert temporary(32_768) / temporary(8_192) <= 4.5


GOOD = Case("good", 1, 6, 2, 4, 4, "float32")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": np.zeros((1, 6, 3, 4))}, r"k must have shape \[1, 6, 2, 4\]"),
        ({"q": np.zeros((6, 2, 4))}, r"q must have shape \[b, t, h, c\]"),
        ({"q": np.zeros((1, 0, 2, 4)), "k": np.zeros((1, 0, 2, 4))}, "at least one token"),
        ({"v": np.zeros((1, 6, 2, 4), np.float16)}, "one floating dtype"),
        ({"log_decay": np.array([0.1, -1])}, "log_decay must be <= 0"),
        ({"log_decay": np.zeros(3)}, r"log_decay must have shape \[2\]"),
        (
            {"initial_state": np.zeros((2, 2, 4, 4))},
            r"initial_state must have shape \[1, 2, 4, 4\]",
        ),
        ({"segment_ids": np.zeros((1, 5), int)}, r"segment_ids must have shape \[1, 6\]"),
        ({"cu_seqlens": np.array([0, 4, 2, 6])}, "must rise from 0 to t=6"),
        ({"cu_seqlens": np.array([0, 5])}, "must rise from 0 to t=6"),
        (
            {"cu_seqlens": np.array([0, 6]), "segment_ids": np.zeros((1, 6), int)},
            "give one",
        ),
        (
            {"cu_seqlens": np.array([0, 2, 6]), "initial_state": np.zeros((1, 2, 4, 4))},
            r"initial_state must have shape \[2, 2, 4, 4\]",
        ),
        ({"implementation": "magic"}, "must be one of auto, "),
    ],
)
def test_bad_input(change, message, key):
    arguments = dict(zip(("q", "k", "v", "log_decay"), GOOD.inputs(key), strict=True))
    arguments |= change
    cast = {
        n: jnp.asarray(x, {"f": jnp.float32, "i": jnp.int32}[x.dtype.kind])
        if isinstance(x, np.ndarray) and x.dtype != np.float16
        else x
        for n, x in arguments.items()
    }
    first = [cast.pop(n) for n in ("q", "k", "v", "log_decay")]
    with pytest.raises(ValueError, match=message):
        lightning_attention(*first, **cast)


def test_a_named_implementation_that_cannot_run_raises():
    never = dispatch.Implementation("never", lambda _: "it never runs", None)
    with pytest.raises(dispatch.UnsupportedError, match="'never' cannot run this: it never runs"):
        dispatch.choose([never, *api.IMPLEMENTATIONS], None, "never")
    spec = Problem(1, 8, 1, 4, 4, "float32", False, "cpu", "cpu")
    assert dispatch.choose([never, *api.IMPLEMENTATIONS], spec).name == "xla"
    assert dispatch.explain([never], None) == [dispatch.Verdict("never", "it never runs")]
    untried = dispatch.Implementation("untried", lambda _: None, None, lambda _: False)
    assert dispatch.choose([untried, *api.IMPLEMENTATIONS], None, "untried") is untried
    with pytest.raises(dispatch.UnsupportedError, match="no implementation can run"):
        dispatch.choose([untried], None)
    assert "by name only" in str(dispatch.explain([untried], None)[0].reason)


def test_float64_is_exact(key):
    with jax.enable_x64(True):
        case = Case("f64", 1, 150, 2, 8, 8, "float64")
        arrays, wo, ws = _problem(case)
        wo, ws = wo.astype(jnp.float64), ws.astype(jnp.float64)
        run = differentiable(functools.partial(xla.forward, chunk=32), xla.backward)
        arrays = (*arrays[:3], arrays[3].astype(jnp.float64), arrays[4].astype(jnp.float64))
        o, s = run(*arrays, None)
        want_o, want_s = quadratic(*arrays)
        assert distance(o, want_o) <= 1e-14
        assert distance(s, want_s) <= 1e-14

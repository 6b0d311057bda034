"""Which tokens may be drawn, and how often."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from jaxml.nn import sampling

LOGITS = np.array([0.3, 2.0, -1.0, 1.5, 0.0, 2.5], np.float32)
many = jax.jit(jax.vmap(sampling.sample, (0, None, None, None, None)), static_argnames=("top_k",))
KEYS = jax.random.split(jax.random.key(1), 4000)


def _draw(temperature=1.0, top_k=None, top_p=None):
    run = jax.jit(jax.vmap(lambda key: sampling.sample(key, LOGITS, temperature, top_k, top_p)))
    return np.asarray(run(KEYS))


def _support(probability, top_k, top_p):
    """The allowed tokens, by brute force over the sorted list."""
    order = sorted(range(6), key=lambda i: -probability[i])[: top_k or 6]
    total, kept = sum(probability[i] for i in order), []
    for i in order:
        if top_p is not None and kept and sum(probability[j] for j in kept) / total >= top_p:
            break
        kept.append(i)
    return set(kept)


@pytest.mark.parametrize("temperature", [0.7, 2.0])
@pytest.mark.parametrize(
    ("top_k", "top_p"), [(None, None), (1, None), (3, None), (None, 0.6), (4, 0.8), (None, 1e-6)]
)
def test_draws_have_the_support_and_the_frequencies(temperature, top_k, top_p):
    probability = special.softmax(LOGITS.astype(np.float64) / temperature)
    kept = sorted(_support(probability, top_k, top_p))
    counts = np.bincount(_draw(temperature, top_k, top_p), minlength=6)
    assert set(np.flatnonzero(counts)) <= set(kept)
    want = probability[kept] / probability[kept].sum() * len(KEYS)
    assert len(kept) == 1 or stats.chisquare(counts[kept], want).pvalue > 1e-4


def test_temperature_zero_is_greedy_even_when_traced(key):
    logits = np.random.default_rng(0).normal(size=(3, 4, 9)).astype(np.float32)
    run = jax.jit(lambda t: sampling.sample(key, logits, t))
    np.testing.assert_array_equal(run(0.0), logits.argmax(-1))
    np.testing.assert_array_equal(sampling.greedy(logits), logits.argmax(-1))
    assert run(0.0).dtype == sampling.greedy(logits).dtype == jnp.int32


@settings(max_examples=12)
@given(st.lists(st.integers(-3, 3), min_size=2, max_size=8), st.sampled_from([1, 3, 7]))
def test_top_k_allows_exactly_k_even_among_equals(values, k):
    logits = jnp.asarray(values + [-9] * (8 - len(values)), jnp.float32)
    drawn = set(np.asarray(many(KEYS[:200], logits, 5.0, k, None)).tolist())
    order = sorted(range(8), key=lambda i: (-float(logits[i]), i))
    assert drawn <= set(order[:k])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"top_k": 0}, "top_k must lie in [1, 6]; got top_k=0."),
        ({"top_k": 7}, "top_k must lie in [1, 6]"),
        ({"top_p": 0.0}, "top_p must lie in (0, 1]; got top_p=0.0."),
        ({"temperature": -1.0}, "temperature must be >= 0; got temperature=-1.0."),
    ],
)
def test_bad_input_is_explained(key, wrong, message):
    with pytest.raises(ValueError) as error:
        sampling.sample(key, jnp.asarray(LOGITS), **wrong)
    assert message in str(error.value)

"""Serving: streams equal generation, unequal prompts equal single ones, contexts survive a disk."""

import jax
import numpy as np
import pytest

from jaxml.core.weights import WeightsError
from jaxml.tnl import generate, model, serve
from jaxml.tnl.config import TNLConfig

LM = model.language_model(TNLConfig(19, 16, 2, 2, 24, init_std=0.3))


@pytest.fixture(scope="module")
def params():
    return LM.init(jax.random.key(0))


def _drawn(params, context, num_tokens=6, block=3, **how):
    key = jax.random.key(5)
    blocks = serve.stream(LM, params, context, key, num_tokens=num_tokens, block=block, **how)
    return np.concatenate([ids for ids, _ in blocks], 1)


def test_a_stream_draws_what_generate_draws(params):
    prompt = [[3, 1, 4, 1, 5]]
    want = generate(LM, params, np.asarray(prompt), jax.random.key(5), num_tokens=6, top_p=0.9)
    context = serve.start(LM, params, prompt)
    np.testing.assert_array_equal(_drawn(params, context, top_p=0.9), want)
    np.testing.assert_array_equal(_drawn(params, context, top_p=0.9), want)  # nothing was kept


def test_prompts_of_unequal_length_do_not_see_each_other(params):
    prompts = [[3, 1, 4, 1, 5], [9, 2]]
    together = _drawn(params, serve.start(LM, params, prompts), temperature=0)
    for prompt, row in zip(prompts, together, strict=True):
        alone = _drawn(params, serve.start(LM, params, [prompt]), temperature=0)
        np.testing.assert_array_equal(alone[0], row)


def test_a_saved_context_goes_on_where_it_was(params, tmp_path):
    whole = serve.start(LM, params, [[3, 1, 4, 1, 5, 9, 2, 6]])
    first = serve.start(LM, params, [[3, 1, 4, 1]])
    serve.save(tmp_path / "context.safetensors", first)
    again = serve.more(LM, params, serve.load(tmp_path / "context.safetensors", LM), [[5, 9, 2, 6]])
    np.testing.assert_allclose(again.hidden, whole.hidden, rtol=2e-5, atol=2e-5)
    np.testing.assert_array_equal(
        _drawn(params, again, temperature=0), _drawn(params, whole, temperature=0)
    )
    assert (tmp_path / "context.safetensors").stat().st_size < 10_000


def test_bad_input_is_named(params, tmp_path):
    with pytest.raises(ValueError, match="got an empty one"):
        serve.start(LM, params, [[1], []])
    with pytest.raises(ValueError, match="got id 19"):
        serve.start(LM, params, [[1, 19]])
    with pytest.raises(ValueError, match="block must be > 0"):
        next(serve.stream(LM, params, None, jax.random.key(0), num_tokens=1, block=0))
    path = tmp_path / "context.safetensors"
    serve.save(path, serve.start(LM, params, [[1, 2]]))
    other = model.language_model(TNLConfig(19, 32, 2, 2, 24))
    with pytest.raises(WeightsError, match="is no context of this model: state/memory/0 must be"):
        serve.load(path, other)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(WeightsError, match="not an intact safetensors file"):
        serve.load(path, LM)

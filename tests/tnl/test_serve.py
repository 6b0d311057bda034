"""Serving: streams equal generation, unequal prompts equal single ones, contexts survive a disk."""

import jax
import numpy as np
import pytest

from jaxml.core.weights import WeightsError
from jaxml.inputs import bpe, tokenizer
from jaxml.tnl import Generator, generate, model, serve
from jaxml.tnl.config import TNLConfig
from jaxml.tnl.generator import Words
from tests.tnl import oracle

HYBRID = model.language_model(
    TNLConfig(19, 16, 2, 2, 24, init_std=0.3, softmax_layers=(1,), dtype="bfloat16")
)
LM = model.language_model(TNLConfig(19, 16, 2, 2, 24, lrpe_layers=(0, 1), init_std=0.3))


@pytest.fixture(scope="module")
def params():
    return oracle.drawn(LM)


def _drawn(params, context, num_tokens=6, block=3, **how):
    key = jax.random.key(5)
    blocks = serve.stream(LM, params, context, key, num_tokens=num_tokens, block=block, **how)
    return np.concatenate([ids for ids, _ in blocks], 1)


def test_a_stream_draws_what_generate_draws(params):
    prompt = [[3, 1, 4, 1, 5, 9, 2, 6]]  # eight, as all prompts here are padded to: one program
    want = generate(LM, params, np.asarray(prompt), jax.random.key(5), num_tokens=6, top_p=0.9)
    context = serve.start(LM, params, prompt)
    np.testing.assert_array_equal(_drawn(params, context, top_p=0.9), want)
    np.testing.assert_array_equal(_drawn(params, context, top_p=0.9), want)  # nothing was kept


def test_prompts_of_unequal_length_do_not_see_each_other(params):
    prompts = [[3, 1, 4, 1, 5], [9, 2, 6, 5, 3, 5]]
    together = _drawn(params, serve.start(LM, params, prompts), temperature=0)
    for prompt, row in zip(prompts, together, strict=True):
        alone = _drawn(params, serve.start(LM, params, [prompt]), temperature=0)
        np.testing.assert_array_equal(alone[0], row)


def test_a_saved_context_goes_on_where_it_was(params, tmp_path):
    whole = serve.start(LM, params, [[3, 1, 4, 1, 5, 9, 2, 6]])
    first = serve.start(LM, params, [[3, 1, 4, 1, 5, 9]])
    serve.save(tmp_path / "context.safetensors", first)
    again = serve.more(LM, params, serve.load(tmp_path / "context.safetensors", LM), [[2, 6]])
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


def test_long_prompts_are_read_piece_by_piece(params):
    prompts = [np.random.default_rng(n).integers(0, 19, n).tolist() for n in (14, 9)]
    whole = serve.start(LM, params, prompts)
    pieces = serve.start(LM, params, prompts, block=8)
    np.testing.assert_allclose(pieces.hidden, whole.hidden, rtol=2e-5, atol=2e-5)
    assert pieces.state.memory[0].shape == whole.state.memory[0].shape


def test_a_hybrid_context_has_room_precision_and_weights_of_its_own(tmp_path):
    params = oracle.drawn(HYBRID)
    context = serve.start(HYBRID, params, [[1, 2, 3]], max_len=8)
    with pytest.raises(ValueError, match="room for 6 more tokens; got room for 5"):
        next(serve.stream(HYBRID, params, context, jax.random.key(0), num_tokens=6))
    with pytest.raises(ValueError, match="room for 6 more tokens"):
        serve.more(HYBRID, params, context, [[1] * 6])
    serve.save(tmp_path / "c.safetensors", context, params)
    again = serve.load(tmp_path / "c.safetensors", HYBRID, params)
    jax.tree.map(np.testing.assert_array_equal, again, context)
    with pytest.raises(WeightsError, match="was read by other weights"):
        serve.load(tmp_path / "c.safetensors", HYBRID, oracle.drawn(HYBRID, 1))
    small = serve.narrow(params, "bfloat16")
    assert small["stretch_0"]["lrpe"]["theta"].dtype == np.float32
    assert small["embed"]["embedding"].dtype == jax.numpy.bfloat16
    narrow = serve.start(HYBRID, small, [[1, 2, 3]], max_len=8)
    jax.tree.map(np.testing.assert_array_equal, narrow, context)
    serve.load(tmp_path / "c.safetensors", HYBRID, small)


CHARACTERS = tokenizer.CharTokenizer.of("abcdefghijklmnop ")  # two ids fewer than the model has


def test_a_generator_writes_text_and_stops(params, tmp_path):
    generator = Generator(LM, params, CHARACTERS)
    prompts = ["abba c", "a bad"]
    how = {"num_tokens": 6, "temperature": 2.0, "seed": 3, "block": 3}
    texts = generator.generate(prompts, **how)
    assert [len(text) for text in texts] == [6, 6]
    generator.save(tmp_path / "c.safetensors", generator.read(prompts))
    known = generator.open(tmp_path / "c.safetensors")
    pieces = list(generator.stream(known, **how))
    assert ["".join(row) for row in zip(*(p.texts for p in pieces), strict=True)] == texts
    word = texts[0][2:4]
    cut = generator.generate(prompts, **how, stop=[word])
    assert cut[0] == texts[0][: texts[0].find(word)]
    with pytest.raises(ValueError, match="stop must hold words"):
        next(generator.stream(known, num_tokens=1, stop=["a", ""]))
    with pytest.raises(ValueError, match=r"top_p must lie in \(0, 1\]; got top_p=1.5"):
        next(generator.stream(known, num_tokens=1, top_p=1.5))


def test_a_tokenizer_with_more_words_than_the_model(params):
    many = tokenizer.CharTokenizer.of("".join(map(chr, range(48, 70))))
    with pytest.raises(ValueError, match=r"vocab_size must be >= the tokenizer's; got 19"):
        Generator(LM, params, many)


def test_streamed_text_is_the_text_of_all_tokens():
    text = "naïve café 日本 🙂 end"
    words = bpe.train_bpe(["aaaa"], 258)  # nearly every byte is a token of its own
    ids = words.encode(text).tolist()
    row = Words(words)
    parts = [row.add([i], last=n == len(ids) - 1) for n, i in enumerate(ids)]
    assert "".join(parts) == text
    assert not any("\ufffd" in part for part in parts)
    row = Words(words, stop=["本 x", "🙂"])
    assert "".join(row.add([i]) for i in ids) == "naïve café 日本 "
    assert row.done

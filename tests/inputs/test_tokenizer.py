import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxml.inputs import tokenizer

TEXTS = ["the cat sat on the mat. " * 20, "the dog sat on the log; caf\u00e9 \U0001f600. " * 20]


@pytest.fixture(scope="module")
def bpe():
    return tokenizer.train_bpe(TEXTS, 300, special_tokens=["<eos>"])


@given(st.text(min_size=1, max_size=40))
def test_characters_come_back(text):
    chars = tokenizer.CharTokenizer.of(text)
    ids = chars.encode(text)
    assert ids.dtype == np.int32
    assert chars.decode(ids) == text
    assert chars.vocab_size == len(set(text))
    assert ids.tolist() == [sorted(set(text)).index(c) for c in text]


def test_any_order_of_the_vocabulary():
    chars = tokenizer.CharTokenizer(("z", "a", "m"))
    assert chars.encode("amz").tolist() == [1, 2, 0]
    assert chars.encode("").tolist() == []


def test_a_strange_character():
    with pytest.raises(ValueError, match=r"only the 3 characters .* got 'x' at position 2"):
        tokenizer.CharTokenizer.of("abc").encode("abxc")
    chars = tokenizer.CharTokenizer.of("abc", unknown="?")
    assert chars.decode(chars.encode("axbyc\U0001f600")) == "a?b?c?"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((),), "vocab must hold each character once; got 0 entries"),
        ((("a", "a"),), "each character once; got 2 entries"),
        ((("a", "bc"),), "single characters; got 'bc'"),
        ((("a", ""),), "single characters; got ''"),
        ((("a",), "?"), r"unknown must be in vocab; got unknown='\?'"),
    ],
)
def test_what_is_no_vocabulary(arguments, message):
    with pytest.raises(ValueError, match=message):
        tokenizer.CharTokenizer(*arguments)


@pytest.mark.parametrize("ids", [[3], [-1], [0, 99]])
def test_ids_outside_the_vocabulary(ids, bpe):
    with pytest.raises(ValueError, match=r"ids must lie in \[0, 3\)"):
        tokenizer.CharTokenizer.of("abc").decode(ids)
    with pytest.raises(ValueError, match="ids must lie in"):
        bpe.decode([bpe.vocab_size])


@pytest.mark.parametrize("unknown", [None, "a"])
def test_characters_are_saved_and_loaded(tmp_path, unknown):
    chars = tokenizer.CharTokenizer(("\u00e9", "a", "\n", "\U0001f600"), unknown)
    chars.save(tmp_path / "chars.json")
    assert tokenizer.load(tmp_path / "chars.json") == chars


@given(text=st.text(max_size=60))
def test_byte_pairs_code_any_text(text, bpe):
    text = text.encode("utf-8", "ignore").decode()
    assert bpe.decode(bpe.encode(text)) == text


def test_byte_pairs_are_learnt_and_repeatable(bpe):
    again = tokenizer.train_bpe(TEXTS, 300, special_tokens=["<eos>"])
    assert bpe.model.to_str() == again.model.to_str()
    assert 257 < bpe.vocab_size <= 300
    ids = bpe.encode(TEXTS[0])
    assert ids.dtype == np.int32
    assert len(ids) < len(TEXTS[0]) / 2
    assert bpe.token_id("<eos>") == 0
    with pytest.raises(ValueError, match="token must be in the vocabulary; got token='<pad>'"):
        bpe.token_id("<pad>")


def test_bytes_need_room():
    with pytest.raises(ValueError, match="vocab_size must be >= 257; got vocab_size=256"):
        tokenizer.train_bpe(TEXTS, 256, special_tokens=["<eos>"])


def test_byte_pairs_are_saved_and_loaded(tmp_path, bpe):
    bpe.save(tmp_path / "tokenizer.json")
    for path in (tmp_path, tmp_path / "tokenizer.json"):
        loaded = tokenizer.load(path)
        assert loaded.encode(TEXTS[1]).tolist() == bpe.encode(TEXTS[1]).tolist()
        assert loaded.vocab_size == bpe.vocab_size


@pytest.mark.parametrize("prefix", ["", "gpt2_"])
def test_vocabulary_and_merges_of_gpt2(tmp_path, bpe, prefix):
    model = json.loads(bpe.model.to_str())["model"]
    (tmp_path / f"{prefix}vocab.json").write_text(json.dumps(model["vocab"]))
    merges = "\n".join(" ".join(pair) for pair in model["merges"])
    (tmp_path / f"{prefix}merges.txt").write_text("#version: 0.2\n" + merges + "\n")
    loaded = tokenizer.load(tmp_path)
    assert loaded.encode(TEXTS[1]).tolist() == bpe.encode(TEXTS[1]).tolist()
    assert loaded.decode(loaded.encode(TEXTS[1])) == TEXTS[1]
    (tmp_path / f"{prefix}merges.txt").unlink()
    with pytest.raises(FileNotFoundError, match="vocab.json needs its merges"):
        tokenizer.load(tmp_path)


def test_nothing_there(tmp_path):
    for path in (tmp_path, tmp_path / "gone.json"):
        with pytest.raises(FileNotFoundError, match="holds no tokenizer; expected tokenizer.json"):
            tokenizer.load(path)


@pytest.mark.parametrize("content", ["", "not json", "[1]", "{}", '{"model": 3}', "\udcff"])
def test_what_is_no_tokenizer(tmp_path, content):
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(ValueError, match="tokenizer.json is not a tokenizer"):
        tokenizer.load(path)


@pytest.mark.parametrize("vocab", [None, 3, [], ["a", "a"], ["ab"], [1, 2]])
def test_characters_of_a_broken_file(tmp_path, vocab):
    (tmp_path / "c.json").write_text(json.dumps({"kind": "characters", "vocab": vocab}))
    with pytest.raises(ValueError, match="c.json is not a tokenizer of characters"):
        tokenizer.load(tmp_path / "c.json")


def test_vocabulary_of_the_wrong_kind(tmp_path):
    (tmp_path / "vocab.json").write_text(json.dumps({"a": 0, "b": 1}))
    (tmp_path / "merges.txt").write_text("a c\n")
    with pytest.raises(ValueError, match="vocab.json and merges.txt are not a tokenizer"):
        tokenizer.load(tmp_path)


def test_both_are_tokenizers(bpe):
    assert isinstance(bpe, tokenizer.Tokenizer)
    assert isinstance(tokenizer.CharTokenizer.of("a"), tokenizer.Tokenizer)

import re
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxml.curate import text


def slow_normalise(s):
    """The rules of the text, one after the other."""
    s = re.sub(r"\d+(\.\d+)?", "0", s.lower())
    s = "".join(
        " " if unicodedata.category(c)[0] in "PS" or unicodedata.category(c) in ("Cc", "Cf") else c
        for c in s
    )
    s = unicodedata.normalize("NFD", " ".join(s.split()))
    return " ".join("".join(c for c in s if unicodedata.category(c) != "Mn").split())


SAMPLES = [
    "The QUICK (brown) fox; 1.2.3 and 4,000 times",
    "  Crème  brûlée\tà la carte — naïve £5 ",
    "",
    "\n\n",
    "… --- !!!",
    "Ünïcödé и кириллица ٣٤ digits 日本語",
    "a\x00b\x1fc",
]


@pytest.mark.parametrize("sample", SAMPLES)
def test_normalise_is_its_rules(sample):
    assert text.normalise(sample) == slow_normalise(sample)


@given(st.lists(st.text(max_size=40), max_size=5))
def test_pack_holds_the_normalised_documents(texts):
    packed = text.pack(texts)
    assert packed.num_docs == len(texts)
    for i, one in enumerate(texts):
        begin, end = packed.doc_offsets[i : i + 2]
        got = packed.bytes[begin:end].tobytes().decode()
        assert " ".join(got.split()) == text.normalise(one)


def test_pack_survives_lone_surrogates():
    packed = text.pack(["a \ud800 b"])
    assert packed.bytes.tobytes().split() == [b"a", b"b"]


def grams(doc, n):
    """The shingles of a document as strings."""
    w = text.normalise(doc).split()
    return [" ".join(w[i : i + n]) for i in range(max(len(w) - n + 1, 1))] if w else []


@pytest.mark.parametrize("n", [1, 2, 5])
def test_shingles_hash_the_grams_of_each_document(n):
    rng = np.random.default_rng(0)
    vocabulary = ["ab", "ba", "a", "b", "aab", "été", "c3"]
    docs = [" ".join(rng.choice(vocabulary, k)) for k in (0, 1, 3, 4, 5, 6, 40, 0, 12)]
    got = text.shingle(text.pack(docs), n)
    want = [(gram, i) for i, doc in enumerate(docs) for gram in grams(doc, n)]
    assert got.doc.tolist() == [i for _, i in want]
    assert got.hash.dtype == np.uint32
    by_gram = {}
    for (gram, _), value in zip(want, got.hash.tolist(), strict=True):
        assert by_gram.setdefault(gram, value) == value
    assert len(set(by_gram.values())) == len(by_gram)  # no collisions among so few


def test_a_document_is_hashed_the_same_wherever_it_lies():
    doc = "one two three four five six seven"
    alone = text.shingle(text.pack([doc])).hash
    filler = "filler words " * 400_000  # longer than a block
    among = text.shingle(text.pack([filler, "", doc, filler]))
    np.testing.assert_array_equal(among.hash[among.doc == 2], alone)


def test_hashes_are_stable_and_use_all_bits():
    got = text.shingle(text.pack(["alpha beta gamma delta epsilon zeta"]))
    assert got.hash.tolist() == [int(h) for h in got.hash]
    many = text.shingle(
        text.pack([" ".join(f"w{chr(97 + i % 26)}{chr(97 + i // 26)}" for i in range(600))]), 1
    )
    ones = ((many.hash[:, None] >> np.arange(32)) & 1).mean(0)
    assert np.all(np.abs(ones - 0.5) < 0.1)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="n must be >= 1; got n=0"):
        text.shingle(text.pack(["a"]), 0)
    with pytest.raises(TypeError, match="sequence of strings"):
        text.pack("abc")

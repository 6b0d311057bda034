import hashlib
import platform

import pytest

from jaxml.inputs import source, text
from jaxml.inputs.builders import writer


def test_english_is_shakespeare_where_it_is(tiny):
    found = text.english()
    whole = "".join(found.train + found.val + found.test)
    assert whole == tiny.text
    encoded = whole.encode()
    assert found.provenance == source.Provenance(
        "tiny_shakespeare",
        "JAXML_DATA",
        hashlib.sha256(encoded).hexdigest(),
        len(encoded),
        "public domain",
    )


def test_provenance_names_the_place_not_the_path(tiny, tmp_path):
    writer.prepare("tiny_shakespeare", out=tmp_path / "out")
    raw, stored = text.english(), text.english(tmp_path / "out")
    assert raw.train == stored.train
    assert raw.provenance.sha256 == stored.provenance.sha256
    assert (raw.provenance.where, stored.provenance.where) == ("JAXML_DATA", "path")
    assert str(tmp_path) not in repr(stored.provenance)


def test_english_falls_back_and_says_so(no_data):
    found = text.english()
    assert found.provenance.name == "python"
    assert found.provenance.where == f"Python standard library {platform.python_version()}"
    assert found.provenance.licence == "PSF-2.0"
    assert found == text.english()


def test_an_explicit_path_or_a_corrupt_file_never_falls_back(tiny, tmp_path):
    with pytest.raises(source.DataNotFoundError):
        text.english(tmp_path)
    path = tiny.root / "tnl" / "tinyshakespeare.txt.gz"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(source.DataCorruptError, match="tinyshakespeare.txt.gz"):
        text.english()


def test_python_text_is_prose_in_whole_documents(no_data):
    found = text.python_text()
    every = found.train + found.val + found.test
    num_bytes = sum(len(document.encode("utf-8", "surrogatepass")) for document in every)
    assert found.provenance.num_bytes == num_bytes > 1_000_000
    assert len(found.val) == len(found.test) == len(every) // 20
    assert not set(found.train) & set(found.test)
    words = " ".join(every)
    assert "The for statement" in words.replace("``", "").replace('"', "")
    assert sum(c.isalpha() or c.isspace() for c in words) / len(words) > 0.8


def test_documents_by_split(tiny):
    assert text.documents("english_docs", "test") == ("text 3 \u2028 of test",)
    assert text.documents("wikitext2", "val") == tuple(tiny.articles["valid"])
    assert len(text.documents("corpus", "train")) == len(tiny.corpus)
    assert text.documents("python", "val") == text.python_text().val


def test_a_set_without_a_split_has_no_documents_there(tiny):
    assert text.load("wikitext2").train == ()
    with pytest.raises(ValueError, match="split must be one of val, test; got split='train'"):
        text.documents("wikitext2", "train")
    with pytest.raises(ValueError, match="split must be one of train, val, test"):
        text.documents("python", "dev")


def test_pictures_are_no_text(tiny):
    with pytest.raises(ValueError, match="mnist has image, label"):
        text.load("mnist")


def test_one_of_twenty_is_held_out():
    splits = [text.split_of(index) for index in range(100)]
    assert [splits.count(name) for name in text.SPLITS] == [90, 5, 5]
    assert splits[18:20] == ["val", "test"]

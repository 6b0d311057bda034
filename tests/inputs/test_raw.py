import numpy as np
import pytest

from jaxml.inputs import raw, source
from jaxml.inputs.integrity import DataCorruptError

from .conftest import idx


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10", "cifar10_complete"])
@pytest.mark.parametrize("split", ["train", "test"])
def test_pictures(tiny, name, split):
    rows = source.records(name, split)
    images, labels = tiny.images[name, split], tiny.labels[name, split]
    assert len(rows) == len(images)
    np.testing.assert_array_equal(rows.columns["image"], images)
    np.testing.assert_array_equal(rows.columns["label"], labels)
    assert rows[3]["label"] == labels[3]
    np.testing.assert_array_equal(rows[1:4].columns["image"], images[1:4])


def test_one_text_is_cut_at_lines(tiny):
    parts = [source.records("tiny_shakespeare", s)[0]["text"] for s in ("train", "val", "test")]
    assert "".join(parts) == tiny.text
    assert all(part.endswith("\n") for part in parts)
    assert abs(len(parts[0]) / len(tiny.text) - 0.9) < 0.01
    assert abs(len(parts[1]) / len(tiny.text) - 0.05) < 0.01


def test_articles_begin_with_their_titles(tiny):
    for split, part in (("val", "valid"), ("test", "test")):
        found = [row["text"] for row in source.records("wikitext2", split)]
        assert found == tiny.articles[part]


def test_documents_keep_their_split(tiny):
    for split in ("train", "val", "test"):
        want = [row for row in tiny.documents if row["split"] == split]
        rows = source.records("english_docs", split)
        assert [row["text"] for row in rows] == [row["text"] for row in want]
        assert [row["name"] for row in rows] == [row["name"] for row in want]


def test_corpus_columns(tiny):
    assert list(source.records("corpus", "train")) == tiny.corpus


def test_job_shops(tiny):
    first, second = source.records("jsp", "test")
    assert (first["name"], first["ub_paper"], second["ub_paper"]) == ("a1", -1, 17)
    assert second["machines"].tolist() == [[2, 0, 1]]
    assert first["durations"].dtype == np.int32
    assert (second["lb"], second["ub"], second["status"]) == (15, 16, "open")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not an IDX file of bytes with 3 axes"),
        (b"\x00\x00\x0d\x03" + bytes(12), "is not an IDX file"),
        (idx(np.zeros((2, 2))), "with 3 axes"),
        (idx(np.zeros((2, 2, 2)))[:-1], "must hold 8 bytes after its header; got 7"),
        (idx(np.zeros((2, 2, 2))) + b"!", "got 9"),
    ],
)
def test_what_is_no_idx_file(content, message):
    with pytest.raises(DataCorruptError, match=message):
        raw.idx_array(content, "file", 3)

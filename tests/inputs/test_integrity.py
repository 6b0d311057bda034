import gzip
import hashlib
import io
import json
import lzma
import tarfile

import pytest

from jaxml.inputs import integrity
from jaxml.inputs.sets import SETS

CONTENT = b"to be, or not to be\n" * 100


def data_file(path, content=CONTENT):
    return integrity.DataFile(path, hashlib.sha256(content).hexdigest(), 1)


@pytest.mark.parametrize(
    ("name", "pack"), [("a.txt", bytes), ("a.txt.gz", gzip.compress), ("a.txt.xz", lzma.compress)]
)
def test_content_is_the_same_however_packed(tmp_path, name, pack):
    (tmp_path / name).write_bytes(pack(CONTENT))
    assert integrity.content(tmp_path / name) == CONTENT
    assert integrity.verified(tmp_path / name, data_file("a.txt.xz")) == CONTENT


def test_an_archive_is_hashed_as_it_lies(tmp_path):
    path = tmp_path / "a.tar.xz"
    with tarfile.open(path, "w:xz") as archive:
        info = tarfile.TarInfo("inside")
        info.size = len(CONTENT)
        archive.addfile(info, io.BytesIO(CONTENT))
    assert integrity.content(path) == path.read_bytes()


@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".xz", lzma.compress)])
@pytest.mark.parametrize("keep", [0, 10, -5])
def test_a_truncated_stream_is_named(tmp_path, suffix, pack, keep):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(pack(CONTENT)[:keep])
    with pytest.raises(integrity.DataCorruptError, match=rf"a\{suffix}.*get it again"):
        integrity.verified(path, data_file(f"a{suffix}"))


def test_every_flipped_byte_is_noticed(tmp_path):
    path = tmp_path / "a.txt.gz"
    packed = gzip.compress(CONTENT, mtime=0)
    for at in range(10, len(packed)):
        path.write_bytes(packed[:at] + bytes([packed[at] ^ 1]) + packed[at + 1 :])
        with pytest.raises(integrity.DataCorruptError, match="a.txt.gz"):
            integrity.verified(path, data_file("a.txt.gz"))


def test_another_version_is_named(tmp_path):
    (tmp_path / "a.txt").write_bytes(CONTENT + b"!")
    with pytest.raises(integrity.DataCorruptError, match="SHA-256 of its content must be"):
        integrity.verified(tmp_path / "a.txt", data_file("a.txt"))


def test_spellings():
    assert data_file("d/a.txt.xz").spellings() == ("a.txt.xz", "a.txt.gz", "a.txt")
    assert data_file("d/a.tar.xz").spellings() == ("a.tar.xz",)
    assert data_file("d/a.npz").spellings() == ("a.npz",)


def test_the_table_of_a_folder(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.txt.gz").write_bytes(gzip.compress(CONTENT))
    (tmp_path / "set" / "SOURCE.md").write_text("not data")
    (tmp_path / ".hidden").write_text("not data")
    integrity.write_table(tmp_path / "table.json", tmp_path)
    table = json.loads((tmp_path / "table.json").read_text())
    size = (tmp_path / "set" / "a.txt.gz").stat().st_size
    digest = hashlib.sha256(CONTENT).hexdigest()
    assert table == {"set/a.txt.gz": {"sha256": digest, "num_bytes": size}}


def test_every_known_file_belongs_to_one_set():
    owned = [file.path for row in SETS.values() for file in row.files]
    assert sorted(owned) == sorted(integrity.known_files())


def test_rows_of_the_registry_are_complete():
    for name, row in SETS.items():
        assert row.name == name
        assert row.about and row.licence and row.used_by and row.get
        assert bool(row.layout) == bool(row.splits) == bool(row.tfds)
        assert row.files or name == "python"

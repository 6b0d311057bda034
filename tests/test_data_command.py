import gzip
import hashlib
import json
import sys

import pytest

from jaxml import cli
from jaxml.inputs import source
from jaxml.inputs.integrity import DataFile
from jaxml.inputs.sets import SETS

JOBS = {
    "a": {"machines": [[0, 1]], "durations": [[3, 2]], "lb": 5, "ub": 5, "status": "closed"},
}


@pytest.fixture
def folder(tmp_path, monkeypatch, no_data):
    """A folder with one small job-shop file, known to the registry."""
    content = json.dumps(JOBS).encode()
    path = tmp_path / "raw" / "jsp" / "jsp_benchmarks.json.gz"
    path.parent.mkdir(parents=True)
    path.write_bytes(gzip.compress(content))
    file = DataFile("jsp/jsp_benchmarks.json.gz", hashlib.sha256(content).hexdigest(), 100)
    row = {**vars(SETS["jsp"]), "files": (file,), "splits": (("test", 1),)}
    monkeypatch.setitem(SETS, "jsp", source.DataSet(**row))
    return tmp_path / "raw"


def line_of(name, output):
    (line,) = [line for line in output.splitlines() if line.startswith(f"{name} ")]
    return " ".join(line.split())


def fails(monkeypatch, capsys, *words):
    """Runs the entry point; returns the one line of its error."""
    monkeypatch.setattr(sys, "argv", ["jaxml", *words])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("\n") == 1
    return output.err


def test_the_list_of_a_machine_without_data(no_data, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    assert cli.run(["data", "list"]) == 0
    output = capsys.readouterr().out
    assert len(output.splitlines()) == len(SETS) + 1
    assert line_of("mnist", output).startswith("mnist 9.29 not found dp, merge, nfard, univilm CC")
    assert "Python standard library 3." in line_of("python", output)
    assert "BCCD" not in output and "blood-cell" in line_of("bccd", output)


def test_names_are_whole_on_a_narrow_terminal(no_data, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert cli.run(["data", "list"]) == 0
    output = capsys.readouterr().out
    assert all(name in output for name in SETS)


def test_what_is_found_and_verified(folder, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setenv("JAXML_DATA", str(folder))
    assert cli.run(["data", "list"]) == 0
    assert line_of("jsp", capsys.readouterr().out).startswith("jsp 0.00 JAXML_DATA jsp CC BY-SA")
    assert cli.run(["data", "list", "--verify"]) == 0
    assert "JAXML_DATA, intact" in line_of("jsp", capsys.readouterr().out)


def test_verify_finds_a_corrupt_file(folder, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.setenv("JAXML_DATA", str(folder))
    path = folder / "jsp" / "jsp_benchmarks.json.gz"
    path.write_bytes(gzip.compress(b"{}"))
    assert cli.run(["data", "list"]) == 0
    assert cli.run(["data", "list", "--verify"]) == 1
    assert "corrupt: " in line_of("jsp", capsys.readouterr().out.split("name")[-1])


def test_prepare_writes_and_says_where(folder, tmp_path, capsys):
    words = ["data", "prepare", "jsp", "--source", str(folder), "--out", str(tmp_path / "out")]
    assert cli.run(words) == 0
    assert capsys.readouterr().out == f"wrote {tmp_path}/out/jaxml_jsp/1.0.0\n"
    (record,) = source.records("jsp", "test", tmp_path / "out")
    assert record["durations"].tolist() == [[3, 2]]
    assert cli.run([*words, "--force"]) == 0


def test_prepare_fills_the_tfds_directory(folder, capsys):
    assert cli.run(["data", "prepare", "jsp", "--source", str(folder)]) == 0
    assert source.find("jsp").how == "TFDS"


def test_errors_are_one_line(folder, tmp_path, capsys, monkeypatch):
    error = fails(monkeypatch, capsys, "data", "prepare", "mnist")
    assert "data set 'mnist' not found. Looked in TFDS" in error
    error = fails(monkeypatch, capsys, "data", "prepare", "mnits")
    assert "did you mean 'mnist'?" in error
    cli.run(["data", "prepare", "jsp", "--source", str(folder)])
    capsys.readouterr()
    error = fails(monkeypatch, capsys, "data", "prepare", "jsp", "--source", str(folder))
    assert "is there and intact ({'test': 1}); use --force to replace it" in error
    (folder / "jsp" / "jsp_benchmarks.json.gz").write_bytes(b"broken")
    where = ("--source", str(folder), "--force")
    error = fails(monkeypatch, capsys, "data", "prepare", "jsp", *where)
    assert "jsp_benchmarks.json.gz is corrupt or truncated" in error

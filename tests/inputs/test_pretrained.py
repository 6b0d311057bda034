import pytest

from jaxml.inputs import pretrained
from jaxml.inputs.integrity import DataNotFoundError


def test_a_package_or_a_path_carries_the_files(tmp_path, monkeypatch):
    inside = tmp_path / "some_weights" / "deep"
    inside.mkdir(parents=True)
    (inside.parent / "__init__.py").write_text("raise RuntimeError('never run')")
    (inside / "a.bin").touch()
    monkeypatch.syspath_prepend(tmp_path)
    packages = ("not_there", "some_weights")
    with pytest.raises(DataNotFoundError, match="a net was not found in the installed packages.*!"):
        pretrained.folder("a net", None, packages, ("a.bin", "b.txt"), "buy it!")
    (inside / "b.txt").touch()
    want = pretrained.folder("a net", None, packages, ("a.bin", "b.txt"), "buy it!")
    assert want == inside == pretrained.folder("a net", inside, (), ("a.bin",), "")
    with pytest.raises(DataNotFoundError, match="was not found in .*some_weights. To have it"):
        pretrained.folder("a net", inside.parent, packages, ("a.bin",), "buy it!")

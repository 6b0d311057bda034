"""A result names the commit it was made by, also on a machine without the checkout."""

from jaxml.report import environment


def _copied_to(folder, monkeypatch):
    monkeypatch.delenv("JAXML_COMMIT", raising=False)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(folder))
    monkeypatch.setattr(environment, "__file__", str(folder / "jaxml/report/environment.py"))


def test_a_copy_without_a_checkout_is_told_its_commit(tmp_path, monkeypatch):
    _copied_to(tmp_path, monkeypatch)
    assert environment.commit() == "unknown"
    (tmp_path / "COMMIT").write_text("0123abc\n")
    assert environment.commit() == "0123abc"
    monkeypatch.setenv("JAXML_COMMIT", "4567def+")
    assert environment.commit() == "4567def+"


def test_what_is_told_is_believed_before_a_checkout(monkeypatch):
    """A copy on another machine may lie in a checkout of another commit."""
    monkeypatch.setenv("JAXML_COMMIT", "told")
    assert environment.commit() == "told"
    monkeypatch.delenv("JAXML_COMMIT")
    assert environment.commit() != "told"

"""Texts as documents in splits, and one that is on every machine."""

import dataclasses
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

from jaxml.core import check
from jaxml.inputs import source
from jaxml.inputs.source import Provenance

SPLITS = ("train", "val", "test")


@dataclasses.dataclass(frozen=True)
class TextSet:
    """Documents of a text by split, and where they came from.

    Attributes:
      train: documents to learn from.
      val: documents to choose by; may be empty.
      test: documents to report on; may be empty.
      provenance: name, place, checksum and size of all the text, licence.
    """

    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]
    provenance: Provenance


def load(name: str | source.DataSet, path: Path | str | None = None) -> TextSet:
    """All splits of a text.

    Args:
      name: "tiny_shakespeare", "wikitext2" (no train split), "english_docs", "corpus", or
        "python" (see `python_text`).
      path: see `source.find`.

    Raises:
      ValueError: no such set, or one whose records hold no text.
      DataNotFoundError, DataCorruptError: see `source.find`.
    """
    wanted = source.dataset(name)
    if wanted.name == "python":
        return python_text()
    where = source.find(wanted, path).how
    splits = {split: _texts(wanted, split, path) for split, _ in wanted.splits}
    documents = {split: splits.get(split, ()) for split in SPLITS}
    return _text_set(documents, wanted.name, where, wanted.licence)


def _texts(wanted: source.DataSet, split: str, path: Path | str | None) -> tuple[str, ...]:
    rows = source.records(wanted, split, path)
    if len(rows) and "text" not in rows[0]:
        raise ValueError(f"name must be a set of texts; {wanted.name} has {', '.join(rows[0])}.")
    return tuple(rows[i]["text"] for i in range(len(rows)))


def documents(
    name: str | source.DataSet, split: str, path: Path | str | None = None
) -> tuple[str, ...]:
    """The documents of one split; arguments and errors as in `load`.

    Raises:
      ValueError: also if the set has no such split.
    """
    wanted = source.dataset(name)
    if wanted.name == "python":
        check.one_of(SPLITS, split=split)
        return getattr(python_text(), split)
    return _texts(wanted, split, path)


def english(path: Path | str | None = None) -> TextSet:
    """Tiny Shakespeare if it is found, else the documentation inside Python.

    The provenance says which. An explicit `path` that holds no tiny Shakespeare, and a corrupt
    copy anywhere, are errors: they never fall back.
    """
    try:
        return load("tiny_shakespeare", path)
    except source.DataNotFoundError:
        if path is not None:
            raise
        return python_text()


_PROSE = re.compile(r'^[ \t]*[rRuU]?"""(.+?)"""', re.MULTILINE | re.DOTALL)
_SKIP = {"test", "tests", "site-packages", "dist-packages", "__pycache__", "idlelib"}


def python_text() -> TextSet:
    """What Python's standard library says about itself; on every machine, no download.

    One document for each help topic, one for each module with documentation strings, and the
    licence, in the order of their names; of every twenty documents one goes to val, one to test.
    The text changes with the version of Python, which the provenance names.
    """
    located = source.find("python")
    parts: dict[str, list[str]] = {split: [] for split in SPLITS}
    for index, document in enumerate(_python_documents(located.path)):
        parts[split_of(index)].append(document)
    licence = source.dataset("python").licence
    every = {split: tuple(found) for split, found in parts.items()}
    return _text_set(every, "python", located.how, licence)


def _python_documents(library: Path) -> Iterator[str]:
    from pydoc_data.topics import topics

    licence = library / "LICENSE.txt"
    if licence.is_file():
        yield licence.read_text(encoding="utf-8")
    yield from (topics[name] for name in sorted(topics))
    for path in sorted(library.rglob("*.py")):
        inside = path.relative_to(library)
        if _SKIP.isdisjoint(inside.parts) and inside.parts[0] != "pydoc_data":
            strings = _PROSE.findall(path.read_text(encoding="utf-8", errors="replace"))
            if strings:
                yield "\n\n".join(text.strip("\n") for text in strings) + "\n"


def split_of(index: int) -> str:
    """The split of the index-th document: of every twenty, the 19th val and the 20th test."""
    return {18: "val", 19: "test"}.get(index % 20, "train")


def _text_set(
    documents: dict[str, tuple[str, ...]], name: str, where: str, licence: str
) -> TextSet:
    digest, num_bytes = hashlib.sha256(), 0
    for split in SPLITS:
        for document in documents[split]:
            encoded = document.encode("utf-8", "surrogatepass")
            digest.update(encoded)
            num_bytes += len(encoded)
    provenance = Provenance(name, where, digest.hexdigest(), num_bytes, licence)
    return TextSet(documents["train"], documents["val"], documents["test"], provenance)

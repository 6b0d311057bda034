"""Sentences with intents in many languages: xSID, MTOD, CSV files, and a small set of our own.

Labels of one language (English) are for training; of the others only unlabelled sentences are.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxml.core import check
from jaxml.inputs import source
from jaxml.inputs.integrity import DataFile
from jaxml.inputs.order import generator
from jaxml.inputs.source import Provenance

CORE = ("de", "it", "nl", "da", "tr", "ar", "id", "ja", "zh", "kk", "sr")
"""The languages of xSID beside English that are read by default."""
SOURCE = "en"


class Sentences(NamedTuple):
    """Sentences with labels int32 [n] (-1: none) and ids int32 [n]: equal ids are translations."""

    text: tuple[str, ...]
    label: np.ndarray
    pid: np.ndarray

    def rows(self, which: Any) -> "Sentences":
        """Some of them: indices, or a mask."""
        chosen = np.arange(len(self.text))[which]
        return Sentences(tuple(self.text[i] for i in chosen), self.label[chosen], self.pid[chosen])


class Corpus(NamedTuple):
    """A task.

    Attributes:
      name: of the set.
      labels: the intents.
      train: in the source language.
      valid: by language, the source first: to choose by, and the unlabelled pool of a final run.
      test: by language.
      provenance: where it came from.
      parallel: whether equal ids are translations.
    """

    name: str
    labels: tuple[str, ...]
    train: Sentences
    valid: dict[str, Sentences]
    test: dict[str, Sentences]
    provenance: Provenance
    parallel: bool = True

    @property
    def languages(self) -> tuple[str, ...]:
        """The source language first."""
        return tuple(self.valid)


def load(
    name: str = "xsid", languages: Sequence[str] = CORE, path: Path | str | None = None
) -> Corpus:
    """A task by name.

    Args:
      name: "xsid", "mtod" (Spanish and Thai), "clinc150" (English, with sentences out of scope,
        whose label is -1) or "toy".
      languages: of xSID beside English.
      path: where the data lies (see `source.find`).

    Raises:
      ValueError: no such set or language.
      DataNotFoundError: the data is not here; says how to get it.
    """
    check.one_of(("xsid", "mtod", "clinc150", "toy"), name=name)
    if name == "toy":
        return toy()
    files = _Files("intent_en" if name == "clinc150" else "intent_multi", path)
    if name == "xsid":
        return _xsid(files, languages)
    return _mtod(files) if name == "mtod" else _clinc(files)


class _Files:
    """The tables of a data set."""

    def __init__(self, dataset: str, path: Path | str | None):
        self.located, self.set = source.find(dataset, path), source.dataset(dataset)

    def table(self, name: str) -> list[dict[str, Any]]:
        """The rows of one file."""
        import pyarrow.parquet

        content = source.read(self.located, self._file(name))
        return pyarrow.parquet.read_table(io.BytesIO(content)).to_pylist()

    def about(self, corpus: str, name: str) -> Provenance:
        """Where a corpus came from, by one of its files."""
        used = self._file(name)
        return Provenance(corpus, self.located.how, used.sha256, used.num_bytes, self.set.licence)

    def _file(self, name: str) -> DataFile:
        return next(f for f in self.set.files if f.path.endswith(f"/{name}.parquet"))


def _sentences(rows: Sequence[Mapping[str, Any]], labels: Sequence[str], id: str) -> Sentences:
    number = {label: i for i, label in enumerate(labels)}
    return Sentences(
        tuple(r["sentence"] for r in rows),
        np.array([number.get(r["intent"], -1) for r in rows], np.int32),
        np.array([r[id] for r in rows], np.int32),
    )


def _xsid(files: _Files, languages: Sequence[str]) -> Corpus:
    every, train = files.table("xsid07"), files.table("xsid_train_en")
    known = {r["lang"] for r in every}
    for language in languages:
        check.one_of(sorted(known), languages=language)
    labels = tuple(sorted({r["intent"] for r in every}))
    parts = [
        {
            lang: _sentences(
                [r for r in every if (r["lang"], r["split"]) == (lang, split)], labels, "pid"
            )
            for lang in (SOURCE, *languages)
        }
        for split in ("valid", "test")
    ]
    kept = _sentences([r for r in train if r["intent"] in labels], labels, "idx")
    return Corpus("xsid", labels, kept, parts[0], parts[1], files.about("xsid", "xsid07"))


def _mtod(files: _Files) -> Corpus:
    parts = [
        {lang: files.table(f"fbmto_{lang}_{split}") for lang in (SOURCE, "es", "th")}
        for split in ("valid", "test")
    ]
    labels = tuple(sorted({r["intent"] for r in parts[1][SOURCE]}))
    rename = {label.split("/")[-1].replace("_", "").lower(): label for label in labels}
    seen = {r["sentence"] for part in parts for r in part[SOURCE]}
    train = [
        {**r, "intent": rename.get(r["intent"].split("/")[-1].replace("_", "").lower(), "")}
        for r in files.table("xsid_train_en")
        if r["source"] == "fb" and r["sentence"] not in seen
    ]
    made = [{k: _sentences(v, labels, "idx") for k, v in part.items()} for part in parts]
    kept = _sentences([r for r in train if r["intent"]], labels, "idx")
    about = files.about("mtod", "fbmto_es_test")
    return Corpus("mtod", labels, kept, made[0], made[1], about, parallel=False)


def _clinc(files: _Files) -> Corpus:
    parts = [files.table(f"clinc150_{split}") for split in ("train", "val", "test")]
    labels = tuple(sorted({r["intent"] for r in parts[0]} - {"oos"}))
    train, valid, test = (_sentences(part, labels, "idx") for part in parts)
    inside = train.rows(train.label >= 0)
    about = files.about("clinc150", "clinc150_test")
    return Corpus("clinc150", labels, inside, {SOURCE: valid}, {SOURCE: test}, about, False)


def balanced(sentences: Sentences, per_class: int, num_classes: int, seed: int = 0) -> Sentences:
    """At most so many of each class, drawn without replacement.

    Raises:
      ValueError: a class without an example.
    """
    check.positive(per_class=per_class)
    order = generator(seed, "balanced").permutation(len(sentences.label))
    chosen = []
    for k in range(num_classes):
        mine = order[sentences.label[order] == k][:per_class]
        if not len(mine):
            raise ValueError(f"every class must have an example; class {k} has none.")
        chosen.append(mine)
    return sentences.rows(np.sort(np.concatenate(chosen)))


def read_csv(path: Path | str, *, labelled: bool) -> tuple[list[str], list[str], list[str]]:
    """Texts, intents and languages of a CSV file with a header `text[,intent][,language]`.

    Args:
      path: UTF-8.
      labelled: whether the column `intent` must be there.

    Raises:
      FileNotFoundError: no such file.
      ValueError: a column is missing, or a row is empty; names its line.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist.")
    wanted = ("text", "intent") if labelled else ("text",)
    with path.open(encoding="utf-8", newline="") as handle:
        reader = csv.DictReader(handle)
        if missing := [c for c in wanted if c not in (reader.fieldnames or ())]:
            raise ValueError(f"{path} must have columns {', '.join(wanted)}; lacks {missing[0]}.")
        rows = list(reader)
    for number, row in enumerate(rows, 2):
        if empty := [c for c in wanted if not (row[c] or "").strip()]:
            raise ValueError(f"{path} line {number} has no {empty[0]}.")
    if not rows:
        raise ValueError(f"{path} holds no rows.")
    return (
        [r["text"] for r in rows],
        [r.get("intent") or "" for r in rows],
        [r.get("language") or "" for r in rows],
    )


_TOY = {
    "weather": (
        "will it rain today|wird es heute regnen",
        "how warm is it outside|wie warm ist es draussen",
        "is it sunny in Rome|ist es sonnig in Rom",
        "do I need an umbrella|brauche ich einen Schirm",
        "what is the forecast|wie ist die Vorhersage",
    ),
    "alarm": (
        "wake me at seven|weck mich um sieben",
        "set an alarm for noon|stell einen Wecker auf Mittag",
        "cancel my alarm|losch meinen Wecker",
        "when does my alarm ring|wann klingelt mein Wecker",
        "snooze for ten minutes|schlummern fur zehn Minuten",
    ),
    "music": (
        "play some jazz|spiel etwas Jazz",
        "next song please|nachstes Lied bitte",
        "stop the music|stopp die Musik",
        "put on my playlist|mach meine Playlist an",
        "who sings this song|wer singt dieses Lied",
    ),
    "food": (
        "book a table for two|reserviere einen Tisch fur zwei",
        "find a pizza place|finde eine Pizzeria",
        "is the cafe open|hat das Cafe offen",
        "I want to eat sushi|ich will Sushi essen",
        "order two burgers|bestell zwei Burger",
    ),
}


def toy() -> Corpus:
    """Twenty sentences in English and their German translations: four intents, for tests."""
    labels = tuple(_TOY)
    pairs = [(i, p.split("|")) for i, name in enumerate(labels) for p in _TOY[name]]
    label = np.array([i for i, _ in pairs], np.int32)
    pid = np.arange(len(pairs), dtype=np.int32)
    both = {
        lang: Sentences(tuple(p[k] for _, p in pairs), label, pid)
        for k, lang in enumerate((SOURCE, "de"))
    }
    about = Provenance("toy", "part of this library", "-", 0, "Apache-2.0")
    return Corpus("toy", labels, both[SOURCE], both, both, about)

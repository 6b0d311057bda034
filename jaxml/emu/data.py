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
      name: "xsid", "mtod" (Spanish and Thai, `languages` not used) or "toy".
      languages: of xSID beside English.
      path: where the data lies (see `source.find`).

    Raises:
      ValueError: no such set or language.
      DataNotFoundError: the data is not here; says how to get it.
    """
    check.one_of(("xsid", "mtod", "toy"), name=name)
    if name == "toy":
        return toy()
    located = source.find("intent_multi", path)
    return _xsid(located, languages) if name == "xsid" else _mtod(located)


def _table(located: source.Located, name: str) -> list[dict[str, Any]]:
    import pyarrow.parquet

    row = {f.path: f for f in source.dataset("intent_multi").files}
    content = source.read(located, row[f"text/intent_multi/{name}.parquet"])
    return pyarrow.parquet.read_table(io.BytesIO(content)).to_pylist()


def _provenance(located: source.Located, name: str, file: str) -> Provenance:
    wanted = source.dataset("intent_multi")
    used = next(f for f in wanted.files if f.path.endswith(f"{file}.parquet"))
    return Provenance(name, located.how, used.sha256, used.num_bytes, wanted.licence)


def _sentences(rows: Sequence[Mapping[str, Any]], labels: Sequence[str], id: str) -> Sentences:
    number = {label: i for i, label in enumerate(labels)}
    return Sentences(
        tuple(r["sentence"] for r in rows),
        np.array([number.get(r["intent"], -1) for r in rows], np.int32),
        np.array([r[id] for r in rows], np.int32),
    )


def _xsid(located: source.Located, languages: Sequence[str]) -> Corpus:
    every, train = _table(located, "xsid07"), _table(located, "xsid_train_en")
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
    kept = [r for r in train if r["intent"] in labels]
    about = _provenance(located, "xsid", "xsid07")
    return Corpus("xsid", labels, _sentences(kept, labels, "idx"), parts[0], parts[1], about)


def _mtod(located: source.Located) -> Corpus:
    parts = [
        {lang: _table(located, f"fbmto_{lang}_{split}") for lang in (SOURCE, "es", "th")}
        for split in ("valid", "test")
    ]
    labels = tuple(sorted({r["intent"] for r in parts[1][SOURCE]}))
    rename = {label.split("/")[-1].replace("_", "").lower(): label for label in labels}
    seen = {r["sentence"] for part in parts for r in part[SOURCE]}
    train = [
        {**r, "intent": rename.get(r["intent"].split("/")[-1].replace("_", "").lower(), "")}
        for r in _table(located, "xsid_train_en")
        if r["source"] == "fb" and r["sentence"] not in seen
    ]
    made = [{k: _sentences(v, labels, "idx") for k, v in part.items()} for part in parts]
    about = _provenance(located, "mtod", "fbmto_es_test")
    kept = _sentences([r for r in train if r["intent"]], labels, "idx")
    return Corpus("mtod", labels, kept, made[0], made[1], about, parallel=False)


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


def halves(part: Mapping[str, Sentences]) -> tuple[dict[str, Sentences], dict[str, Sentences]]:
    """Sentences with even ids and with odd ones: a pool to train on, and what to choose by."""
    return tuple({k: s.rows(s.pid % 2 == odd) for k, s in part.items()} for odd in (0, 1))  # pyright: ignore[reportReturnType]


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

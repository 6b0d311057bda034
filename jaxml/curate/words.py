"""Words for the n-gram model: CCNet's normal form, a vocabulary, a model in a file."""

import json
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxml.core import check, files
from jaxml.curate import ngram
from jaxml.curate.ngram import Level, NGramLM
from jaxml.curate.text import UNMARKED


class _Plain(dict):
    """A translation table: digits become 0, punctuation ASCII, control characters nothing."""

    def __missing__(self, code: int) -> int | str | None:
        letter = chr(code)
        control = unicodedata.category(letter) == "Cc" and letter != "\n"
        self[code] = None if control else "0" if letter.isdigit() else code
        return self[code]


_PLAIN = _Plain(
    zip(
        map(ord, "，。、„”“«»１」「《》´∶：？！（）；–—．～’…━〈〉【】％►"),
        [",", ".", ",", '"', '"', '"', '"', '"', '"', '"', '"', '"', '"', "'", ":", ":", "?", "!"]
        + ["(", ")", ";", "-", " - ", ". ", "~", "'", "...", "-", "<", ">", "[", "]", "%", "-"],
        strict=True,
    )
)


def normalise(text: str) -> str:
    """CCNet's normal form: lower case, no accents, digits 0, plain punctuation, no controls.

    >>> normalise("Café «42»")
    'cafe "00"'
    """
    split = unicodedata.normalize("NFD", text.lower()).translate(UNMARKED)
    return split.translate(_PLAIN)


def vocabulary(texts: Sequence[str], size: int) -> dict[str, int]:
    """The `size - 1` most frequent white-space words, from 1 on; 0 stands for all others."""
    check.at_least(2, size=size)
    words, count = np.unique([w for t in texts for w in t.split()], return_counts=True)
    order = np.lexsort((words, -count))[: size - 1]
    return {str(word): i for i, word in enumerate(words[order], 1)}


def encode(text: str, words: Mapping[str, int]) -> list[np.ndarray]:
    """The lines of a text that are not blank, as ids of `vocabulary`."""
    lines = (line.split() for line in text.split("\n"))
    return [np.array([words.get(w, 0) for w in line], np.int64) for line in lines if line]


class WordModel(NamedTuple):
    """An n-gram model over words of normalised text.

    Attributes:
      lm: the model.
      words: its vocabulary.
    """

    lm: NGramLM
    words: dict[str, int]

    def perplexity(self, texts: Sequence[str]) -> np.ndarray:
        """Of each document over all its lines, float64 [n]; inf without a line."""
        return ngram.document_perplexity(
            self.lm, [encode(normalise(text), self.words) for text in texts]
        )


def fit(texts: Sequence[str], vocab_size: int = 30_000, order: int = 5) -> WordModel:
    """The model of good text.

    Raises:
      ValueError: no text with words, vocab_size < 2 or order < 1.
    """
    normal = [normalise(text) for text in texts]
    words = vocabulary(normal, vocab_size)
    if not words:
        raise ValueError("texts must hold words; got texts with none.")
    lines = [line for text in normal for line in encode(text, words)]
    return WordModel(ngram.fit(lines, order, len(words) + 1), words)


def save(path: Path | str, model: WordModel) -> None:
    """Writes a model as one npz."""
    arrays: dict[str, np.ndarray] = {"unigram": model.lm.unigram}
    for n, level in enumerate(model.lm.levels, 2):
        for name in ("keys", "discounted", "gamma", "discounts"):
            arrays[f"{name}{n}"] = np.asarray(getattr(level, name))
    about = json.dumps({"vocab_size": model.lm.vocab_size, "order": model.lm.order})
    arrays["about"] = np.frombuffer(about.encode(), np.uint8)
    arrays["words"] = np.frombuffer("\n".join(model.words).encode(), np.uint8)
    with files.aside(path) as aside, aside.open("wb") as handle:
        np.savez_compressed(handle, **arrays)  # pyright: ignore[reportArgumentType]


def load(path: Path | str) -> WordModel:
    """Reads a model of `save`.

    Raises:
      ValueError: the file holds something else.
    """
    try:
        with np.load(path, allow_pickle=False) as kept:
            about = json.loads(kept["about"].tobytes())
            levels = []
            for n in range(2, about["order"] + 1):
                one, two, three = map(float, kept[f"discounts{n}"])
                keys, discounted, gamma = (
                    kept[f"{name}{n}"] for name in ("keys", "discounted", "gamma")
                )
                levels.append(Level(keys, discounted, gamma, (one, two, three)))
            names = kept["words"].tobytes().decode().split("\n")
            lm = NGramLM(about["vocab_size"], kept["unigram"], tuple(levels))
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} holds no n-gram model: {error}.") from None
    return WordModel(lm, {name: i for i, name in enumerate(names, 1)})

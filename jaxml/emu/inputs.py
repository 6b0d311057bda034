"""Everything that a study feeds an encoder, made once: features or token ids of a whole corpus."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from jaxml.core import files
from jaxml.core.types import PyTree
from jaxml.emu import evaluate, objective, pool
from jaxml.emu.data import Corpus, Sentences
from jaxml.emu.encoder import Encoder
from jaxml.emu.evaluate import Scores

type Keep = Callable[[Sentences], np.ndarray]
"""Which sentences of a part, as a mask."""


class Inputs:
    """Features (or token ids) of a corpus's sentences.

    Attributes:
      encoder: as it is before.
      corpus: the task.
      train: its labelled sentences, as many of each intent as are used.
      cached: whether inputs are features.
    """

    def __init__(
        self,
        encoder: Encoder,
        corpus: Corpus,
        labelled: Sentences,
        trainable: str,
        ids: dict[str, np.ndarray] | None = None,
        folder: Path | None = None,
    ):
        """Tokenises, and computes features for `trainable="head"`.

        Args:
          encoder: the encoder.
          corpus: the task.
          labelled: some of its training sentences.
          trainable: see `EmuConfig`.
          ids: token ids by name (see `tokenised`), where there is no tokenizer.
          folder: keeps the features of this corpus and encoder for the next time.
        """
        self.encoder, self.corpus, self.train = encoder, corpus, labelled
        self.cached = trainable == "head"
        if not self.cached:
            self._x = tokenised(encoder, corpus, labelled) if ids is None else ids
            return
        path = None if folder is None else folder / f"{corpus.name}-{encoder.name}-features.npz"
        self._x = _features(encoder, corpus, labelled, ids, path)

    def __getitem__(self, name: str) -> np.ndarray:
        """Inputs by "train", or "valid/LANGUAGE", "test/LANGUAGE"."""
        return self._x[name]

    def embed(self, name: str, params: PyTree = None) -> np.ndarray:
        """Embeddings of some inputs by the encoder or by other parameters."""
        return self._embed(self._x[name], params)

    def embedded(
        self, split: str, params: PyTree = None, rows: Mapping[str, np.ndarray] | None = None
    ) -> dict[str, np.ndarray]:
        """Embeddings of a split by language, of all its sentences or of some rows.

        All languages run together: blocks of few shapes, so little to compile.
        """
        parts = {
            lang: self._x[f"{split}/{lang}"][slice(None) if rows is None else rows[lang]]
            for lang in getattr(self.corpus, split)
        }
        made = self._embed(np.concatenate(list(parts.values())), params)
        ends = np.cumsum([len(x) for x in parts.values()])[:-1]
        return dict(zip(parts, np.split(made, ends), strict=True))

    def _embed(self, x: np.ndarray, params: PyTree) -> np.ndarray:
        if self.cached:
            return pool.head_only(self.encoder, x, params)
        return self.encoder.embed(x, params)

    def pool(self, keep: Keep | None = None) -> pool.Pool:
        """What is trained on; `keep` picks among the validation sentences."""
        others = {
            lang: (slice(None) if keep is None else keep(part))
            for lang, part in self.corpus.valid.items()
        }
        original = {lang: u[others[lang]] for lang, u in self.embedded("valid").items()}
        num = len(self.corpus.labels)
        means = objective.class_means(self.embed("train"), self.train.label, num)
        inputs = {lang: self[f"valid/{lang}"][rows] for lang, rows in others.items()}
        return pool.Pool(self["train"], self.train.label, inputs, original, num, means)

    def scores(
        self, split: str, params: PyTree = None, keep: Keep | None = None
    ) -> dict[str, Scores]:
        """Scores by language on a split, or on part of it."""
        part, rows = {}, {}
        for lang, sentences in getattr(self.corpus, split).items():
            chosen = np.ones(len(sentences.pid), bool) if keep is None else keep(sentences)
            rows[lang] = np.flatnonzero(chosen)
            part[lang] = sentences.rows(rows[lang])
        return self.scored(part, self.embedded(split, params, rows))

    def scored(
        self, part: Mapping[str, Sentences], made: Mapping[str, np.ndarray]
    ) -> dict[str, Scores]:
        """Scores of embeddings that are at hand."""
        return evaluate.by_language(made, part, parallel=self.corpus.parallel)


def tokenised(encoder: Encoder, corpus: Corpus, labelled: Sentences) -> dict[str, np.ndarray]:
    """Token ids of everything a study needs, by the names of `Inputs`."""
    found = {"train": encoder.ids(labelled.text)}
    for split in ("valid", "test"):
        for lang, part in getattr(corpus, split).items():
            found[f"{split}/{lang}"] = encoder.ids(part.text)
    return found


def _features(
    encoder: Encoder,
    corpus: Corpus,
    labelled: Sentences,
    ids: dict[str, np.ndarray] | None,
    path: Path | None,
) -> dict[str, np.ndarray]:
    """Features by name; read from `path` where they were written for the same sentences."""
    if path is not None and path.exists():
        with np.load(path, allow_pickle=False) as kept:
            if np.array_equal(kept["pid"], labelled.pid):
                return {name.replace("|", "/"): kept[name] for name in kept if name != "pid"}
    every = tokenised(encoder, corpus, labelled) if ids is None else ids
    ends = np.cumsum([0, *(len(x) for x in every.values())])
    made = encoder.features(np.concatenate(list(every.values())))
    found = {n: made[a:b] for n, a, b in zip(every, ends[:-1], ends[1:], strict=True)}
    if path is not None:
        with files.aside(path) as part, part.open("wb") as out:
            np.savez(out, pid=labelled.pid, **{n.replace("/", "|"): x for n, x in found.items()})  # pyright: ignore[reportArgumentType]
    return found


def even(part: Sentences) -> np.ndarray:
    """The half of the validation sentences that choices train on."""
    return part.pid % 2 == 0


def odd(part: Sentences) -> np.ndarray:
    """The half that choices are made by."""
    return part.pid % 2 == 1

"""Text as tokens: which corpus, which tokenizer, which split is for what."""

import dataclasses
import functools
from pathlib import Path
from typing import Literal

import numpy as np

from jaxml.core import check
from jaxml.inputs import documents, source, text, tokenizer


@dataclasses.dataclass(frozen=True)
class CorpusConfig:
    """What is read, and how.

    Attributes:
      name: "english" (tiny Shakespeare, or the documentation inside Python where that is not
        found), a data set of `jaxml data list` that holds text, or "documents": files of your own
        (JSON lines, Parquet, array_record, text) such as `jaxml curate` writes.
      path: folder of the data set or of the files; None: where the set is found.
      tokens: "char", one token per character; "bpe", trained on the training split; or "file".
      tokenizer: of "file": a `tokenizer.json`, or GPT-2's `vocab.json` beside its `merges.txt`.
      vocab_size: of the BPE.
    """

    name: str = "english"
    path: str | None = None
    tokens: Literal["char", "bpe", "file"] = "char"
    tokenizer: str | None = None
    vocab_size: int = 8192

    def __post_init__(self):
        check.types(self)
        check.positive(vocab_size=self.vocab_size)
        if (self.tokens == "file") != (self.tokenizer is not None):
            raise ValueError(
                "tokens='file' and tokenizer belong together; "
                f"got tokens={self.tokens!r}, tokenizer={self.tokenizer!r}."
            )
        if self.name == "documents" and self.path is None:
            raise ValueError("path must name a file or folder where name='documents'; got None.")


@dataclasses.dataclass(frozen=True)
class Corpus:
    """Token ids of each split, uint16 or int32 [n], the tokenizer, and where the text is from.

    `documents` holds the training documents one by one, where they were asked for.
    """

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray
    tokenizer: tokenizer.Tokenizer
    provenance: source.Provenance
    documents: tuple[np.ndarray, ...] = ()

    def windows(self, split: str, seq_len: int, rows: int, most: int = 10**9) -> dict:
        """Stacked evaluation batches in order, int32 [n, rows, t]; targets one token later.

        Args:
          split: "val" or "test".
          seq_len: t.
          rows: windows per batch.
          most: upper limit of n.

        Raises:
          ValueError: the split does not fill one batch.
        """
        ids = getattr(self, split)
        num = min((len(ids) - 1) // (seq_len * rows), most)
        if num < 1:
            raise ValueError(
                f"{split} must hold more than seq_len * rows tokens; "
                f"got {len(ids)} tokens, seq_len={seq_len}, rows={rows}."
            )
        used = num * rows * seq_len
        shape = (num, rows, seq_len)
        return {
            "inputs": ids[:used].reshape(shape).astype(np.int32),
            "targets": ids[1 : used + 1].reshape(shape).astype(np.int32),
        }


def load(
    cfg: CorpusConfig, known: tokenizer.Tokenizer | None = None, *, packed: bool = False
) -> Corpus:
    """Reads and tokenises a corpus.

    Args:
      cfg: which.
      known: the tokenizer of a run that goes on.
      packed: also keep the training documents apart.

    Raises:
      ValueError: a set without training text.
      DataNotFoundError, DataCorruptError: see `inputs.source.find`.
    """
    path = None if cfg.path is None else Path(cfg.path)
    found = _texts(cfg, path)
    if not found.train:
        raise ValueError(f"name must be a set with training text; {cfg.name} has none.")
    if known is None:
        known = _make_tokenizer(cfg, found)
    encode = functools.partial(_encode, known)
    arrays = {name: encode("\n".join(getattr(found, name))) for name in ("train", "val", "test")}
    apart = tuple(map(encode, found.train)) if packed else ()
    return Corpus(**arrays, tokenizer=known, provenance=found.provenance, documents=apart)


def _texts(cfg: CorpusConfig, path: Path | None) -> text.TextSet:
    if cfg.name == "documents" and path is not None:
        return documents.load(path)
    return text.english(path) if cfg.name == "english" else text.load(cfg.name, path)


def _encode(words: tokenizer.Tokenizer, text: str) -> np.ndarray:
    return np.asarray(words.encode(text), np.uint16 if words.vocab_size <= 1 << 16 else np.int32)


def _make_tokenizer(cfg: CorpusConfig, found: text.TextSet) -> tokenizer.Tokenizer:
    if cfg.tokenizer is not None:
        return tokenizer.load(Path(cfg.tokenizer))
    if cfg.tokens == "bpe":
        return tokenizer.train_bpe(found.train, cfg.vocab_size)
    characters = "\n".join([*found.train, ""])  # documents are joined by line ends
    everywhere = characters + "".join(found.val) + "".join(found.test)
    unseen = set(everywhere) - set(characters)
    if not unseen:
        return tokenizer.CharTokenizer.of(characters)
    return tokenizer.CharTokenizer.of(characters + "\ufffd", unknown="\ufffd")

"""Text as tokens: which corpus, which tokenizer, which split is for what."""

import dataclasses
from pathlib import Path
from typing import Literal

import numpy as np

from jaxml.core import check
from jaxml.inputs import source, text, tokenizer


@dataclasses.dataclass(frozen=True)
class CorpusConfig:
    """What is read, and how.

    Attributes:
      name: "english" (tiny Shakespeare, or the documentation inside Python where that is not
        found), or a data set of `jaxml data list` that holds text.
      path: folder of the data set; None: where it is found.
      tokens: "char", one token per character, or "bpe", trained on the training split.
      vocab_size: of the BPE.
    """

    name: str = "english"
    path: str | None = None
    tokens: Literal["char", "bpe"] = "char"
    vocab_size: int = 8192

    def __post_init__(self):
        check.types(self)
        check.positive(vocab_size=self.vocab_size)


@dataclasses.dataclass(frozen=True)
class Corpus:
    """Token ids of each split, uint16 or int32 [n], the tokenizer, and where the text is from."""

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray
    tokenizer: tokenizer.Tokenizer
    provenance: source.Provenance

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


def load(cfg: CorpusConfig, known: tokenizer.Tokenizer | None = None) -> Corpus:
    """Reads and tokenises a corpus; `known` is the tokenizer of a run that goes on.

    Raises:
      ValueError: a set without training text.
      DataNotFoundError, DataCorruptError: see `inputs.source.find`.
    """
    path = None if cfg.path is None else Path(cfg.path)
    found = text.english(path) if cfg.name == "english" else text.load(cfg.name, path)
    if not found.train:
        raise ValueError(f"name must be a set with training text; {cfg.name} has none.")
    if known is None:
        known = _make_tokenizer(cfg, found)
    splits = {
        split: known.encode("\n".join(getattr(found, split))) for split in ("train", "val", "test")
    }
    kind = np.uint16 if known.vocab_size <= 1 << 16 else np.int32
    arrays = {split: np.asarray(ids, kind) for split, ids in splits.items()}
    return Corpus(**arrays, tokenizer=known, provenance=found.provenance)


def _make_tokenizer(cfg: CorpusConfig, found: text.TextSet) -> tokenizer.Tokenizer:
    if cfg.tokens == "bpe":
        return tokenizer.train_bpe(found.train, cfg.vocab_size)
    characters = "".join(found.train)
    everywhere = characters + "".join(found.val) + "".join(found.test)
    unseen = set(everywhere) - set(characters)
    if not unseen:
        return tokenizer.CharTokenizer.of(characters)
    return tokenizer.CharTokenizer.of(characters + "\ufffd", unknown="\ufffd")

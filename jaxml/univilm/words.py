"""Texts to ids: a vocabulary of whole words, or BERT's WordPiece."""

import dataclasses
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from jaxml.core import check, files

SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


class Vocabulary(Protocol):
    """What the model needs of one; padding is 0."""

    @property
    def vocab_size(self) -> int:
        """Number of ids."""
        ...

    def tokens(self, text: str) -> list[int]:
        """Ids of a text, without specials."""
        ...

    def text(self, ids: Sequence[int] | np.ndarray) -> str:
        """The text of ids, specials left out."""
        ...

    @property
    def specials(self) -> tuple[int, int, int]:
        """[CLS], [SEP] and [MASK]."""
        ...


@dataclasses.dataclass(frozen=True)
class Words:
    """One id a lower-case word, after the five specials of BERT.

    >>> v = Words.of(["a cat runs"])
    >>> v.tokens("A dog runs."), v.text([2, 5, 6, 3])
    ([5, 1, 7], 'a cat')
    """

    words: tuple[str, ...]

    def __post_init__(self):
        if len(set(self.words)) != len(self.words) or set(self.words) & set(SPECIALS):
            raise ValueError("words must be different, and none of the specials.")

    @classmethod
    def of(cls, texts: Iterable[str]) -> "Words":
        """The words of some texts, sorted."""
        return cls(tuple(sorted({w for text in texts for w in split(text)})))

    @property
    def vocab_size(self) -> int:
        """Specials and words."""
        return len(SPECIALS) + len(self.words)

    @property
    def specials(self) -> tuple[int, int, int]:
        """[CLS], [SEP] and [MASK]."""
        return 2, 3, 4

    def tokens(self, text: str) -> list[int]:
        """Ids of the words; [UNK] for others."""
        known = self._known
        return [known.get(w, 1) for w in split(text)]

    @property
    def _known(self) -> dict[str, int]:
        return {w: i + len(SPECIALS) for i, w in enumerate(self.words)}

    def text(self, ids: Sequence[int] | np.ndarray) -> str:
        """Words with a space between them; ids past the vocabulary are unknown words."""
        every = (*SPECIALS, *self.words)
        known = (int(i) if i < len(every) else 1 for i in ids)
        return " ".join(every[i] for i in known if i == 1 or i >= len(SPECIALS))

    def save(self, path: Path | str) -> None:
        """Writes JSON that `load` reads."""
        files.write_text(path, json.dumps({"words": self.words}) + "\n")


@dataclasses.dataclass(frozen=True)
class WordPiece:
    """BERT's tokenizer from its `vocab.txt`; needs the package tokenizers."""

    path: Path
    _made: Any = None

    @classmethod
    def of(cls, path: Path | str) -> "WordPiece":
        """Reads the file.

        Raises:
          FileNotFoundError: it is missing.
          ValueError: it lacks a special token, or [PAD] is not 0.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"{path} does not exist; expected BERT's vocab.txt.")
        from tokenizers import BertWordPieceTokenizer

        made = BertWordPieceTokenizer(str(path), lowercase=True)
        missing = [s for s in SPECIALS if made.token_to_id(s) is None]
        if missing or made.token_to_id("[PAD]") != 0:
            raise ValueError(f"{path} must hold {', '.join(SPECIALS)}, [PAD] first.")
        return cls(path, made)

    @property
    def vocab_size(self) -> int:
        """Lines of the file."""
        return self._made.get_vocab_size()

    @property
    def specials(self) -> tuple[int, int, int]:
        """[CLS], [SEP] and [MASK]."""
        cls_, sep, mask = (self._made.token_to_id(s) for s in SPECIALS[2:])
        return cls_, sep, mask

    def tokens(self, text: str) -> list[int]:
        """Ids of the pieces."""
        return self._made.encode(text, add_special_tokens=False).ids

    def text(self, ids: Sequence[int] | np.ndarray) -> str:
        """Pieces joined to words."""
        return self._made.decode([int(i) for i in ids if i != 0], skip_special_tokens=True)

    def save(self, path: Path | str) -> None:
        """Writes the vocabulary as it was read."""
        files.write_bytes(path, self.path.read_bytes())


def split(text: str) -> list[str]:
    """Lower-case words and numbers; punctuation is dropped.

    >>> split("Digit 3, slowly!")
    ['digit', '3', 'slowly']
    """
    return re.findall(r"[a-z0-9']+", text.lower())


def encode(vocab: Vocabulary, texts: Sequence[str], length: int) -> np.ndarray:
    """[CLS] words [SEP] of each text, cut to `length` and filled with 0: int32 [n, length]."""
    check.at_least(2, length=length)
    first, last, _ = vocab.specials
    rows = np.zeros((len(texts), length), np.int32)
    for row, text in zip(rows, texts, strict=True):
        ids = [first, *vocab.tokens(text)[: length - 2], last]
        row[: len(ids)] = ids
    return rows


def decode(vocab: Vocabulary, ids: npt.ArrayLike) -> list[str]:
    """The text of each row [n, t]."""
    return [vocab.text(row[row != 0].tolist()) for row in np.asarray(ids)]


def load(folder: Path | str) -> Words | WordPiece:
    """The vocabulary in a folder: `words.json`, or BERT's `vocab.txt`.

    Raises:
      FileNotFoundError: neither is there.
      ValueError: a damaged file.
    """
    path = Path(folder) / "words.json"
    if not path.exists():
        return WordPiece.of(Path(folder) / "vocab.txt")
    try:
        return Words(tuple(json.loads(path.read_text())["words"]))
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a vocabulary ({error}).") from None

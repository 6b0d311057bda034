"""Text to token ids and back: characters, and byte-pair encodings."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from jaxml.core import files
from jaxml.inputs.bpe import BPETokenizer, checked_ids, from_gpt2, from_json, train_bpe

__all__ = ["BPETokenizer", "CharTokenizer", "Tokenizer", "load", "train_bpe"]


@runtime_checkable
class Tokenizer(Protocol):
    """What a language model needs of a tokenizer."""

    @property
    def vocab_size(self) -> int:
        """Ids run from 0 to this, exclusive."""
        ...

    def encode(self, text: str) -> np.ndarray:
        """Token ids, int32 [t]."""
        ...

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """The text of token ids [t]."""
        ...

    def save(self, path: Path | str) -> None:
        """Writes what `load` reads."""
        ...


@dataclasses.dataclass(frozen=True)
class CharTokenizer:
    """One id per character.

    Attributes:
      vocab: the characters in the order of their ids, each once.
      unknown: the character that stands for those not in `vocab`; None makes them an error.

    Raises:
      ValueError: an empty vocabulary, a repeated or longer entry, or an unknown not in it.

    >>> tokenizer = CharTokenizer.of("hello")
    >>> tokenizer.encode("hole").tolist(), tokenizer.decode([1, 0])
    ([1, 3, 2, 0], 'he')
    """

    vocab: tuple[str, ...]
    unknown: str | None = None

    def __post_init__(self) -> None:
        """Checks the vocabulary."""
        if not self.vocab or len(set(self.vocab)) != len(self.vocab):
            raise ValueError(f"vocab must hold each character once; got {len(self.vocab)} entries.")
        longer = [entry for entry in self.vocab if len(entry) != 1]
        if longer:
            raise ValueError(f"vocab must hold single characters; got {longer[0]!r}.")
        if self.unknown is not None and self.unknown not in self.vocab:
            raise ValueError(f"unknown must be in vocab; got unknown={self.unknown!r}.")

    @classmethod
    def of(cls, text: str, unknown: str | None = None) -> "CharTokenizer":
        """The tokenizer of every character of `text` (and `unknown`), by code point."""
        return cls(tuple(sorted(set(text) | set(unknown or ""))), unknown)

    @property
    def vocab_size(self) -> int:
        """Number of characters."""
        return len(self.vocab)

    def encode(self, text: str) -> np.ndarray:
        """Ids of the characters, int32 [t].

        Raises:
          ValueError: a character outside the vocabulary, and no `unknown`.
        """
        codes = _code_points(text)
        known = _code_points("".join(self.vocab))
        order = np.argsort(known)
        place = order[np.searchsorted(known, codes, sorter=order).clip(max=len(known) - 1)]
        strange = known[place] != codes
        if strange.any():
            if self.unknown is None:
                at = int(np.flatnonzero(strange)[0])
                raise ValueError(
                    f"text must hold only the {len(known)} characters of the vocabulary; "
                    f"got {text[at]!r} at position {at}."
                )
            place = np.where(strange, self.vocab.index(self.unknown), place)
        return place.astype(np.int32)

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """The characters of the ids [t].

        Raises:
          ValueError: an id outside [0, vocab_size).
        """
        return "".join(self.vocab[i] for i in checked_ids(ids, self.vocab_size))

    def save(self, path: Path | str) -> None:
        """Writes the vocabulary as JSON, which `load` reads."""
        record = {"kind": "characters", "vocab": list(self.vocab), "unknown": self.unknown}
        files.write_text(path, json.dumps(record, indent=1) + "\n")


def load(path: Path | str) -> CharTokenizer | BPETokenizer:
    """Reads a tokenizer from a file, or from a folder that holds one.

    Understood: what `CharTokenizer.save` and `BPETokenizer.save` write, any `tokenizer.json`
    of the `tokenizers` package, and GPT-2's pair of vocabulary and merges (`vocab.json` with
    `merges.txt`, or the same names with a prefix such as `gpt2_`).

    Raises:
      FileNotFoundError: nothing there.
      ValueError: the file is no tokenizer.
    """
    path = Path(path)
    file = _tokenizer_file(path) if path.is_dir() else path
    if file is None or not file.is_file():
        raise FileNotFoundError(
            f"{path} holds no tokenizer; expected tokenizer.json, or vocab.json with merges.txt."
        )
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is not a tokenizer: not JSON ({error}).") from None
    if not isinstance(record, dict):
        raise ValueError(f"{file} is not a tokenizer: expected a JSON object.")
    if record.get("kind") == "characters":
        return _characters(file, record)
    if file.name.endswith("vocab.json"):
        return from_gpt2(file, record)
    return from_json(file, record)


def _characters(file: Path, record: dict[str, Any]) -> CharTokenizer:
    try:
        return CharTokenizer(tuple(record["vocab"]), record.get("unknown"))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{file} is not a tokenizer of characters ({error}).") from None


def _tokenizer_file(folder: Path) -> Path | None:
    whole = folder / "tokenizer.json"
    return whole if whole.is_file() else next(iter(sorted(folder.glob("*vocab.json"))), None)


def _code_points(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)

"""Text to token ids and back: characters, and byte-pair encodings."""

import dataclasses
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from jaxml.core import check, files


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
        return "".join(self.vocab[i] for i in _checked(ids, self.vocab_size))

    def save(self, path: Path | str) -> None:
        """Writes the vocabulary as JSON, which `load` reads."""
        record = {"kind": "characters", "vocab": list(self.vocab), "unknown": self.unknown}
        files.write_text(path, json.dumps(record, indent=1) + "\n")


@dataclasses.dataclass(frozen=True)
class BPETokenizer:
    """A byte-pair encoding of the `tokenizers` package.

    Attributes:
      model: a `tokenizers.Tokenizer`.
    """

    model: Any

    @property
    def vocab_size(self) -> int:
        """Number of ids, added tokens included."""
        return self.model.get_vocab_size()

    def encode(self, text: str) -> np.ndarray:
        """Ids of the tokens, int32 [t]; no special tokens are added."""
        return np.asarray(self.model.encode(text, add_special_tokens=False).ids, np.int32)

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """The text of the ids [t], special tokens included.

        Raises:
          ValueError: an id outside [0, vocab_size).
        """
        return self.model.decode(_checked(ids, self.vocab_size), skip_special_tokens=False)

    def token_id(self, token: str) -> int:
        """The id of one token, e.g. of a special one.

        Raises:
          ValueError: it is not in the vocabulary.
        """
        found = self.model.token_to_id(token)
        if found is None:
            raise ValueError(f"token must be in the vocabulary; got token={token!r}.")
        return found

    def save(self, path: Path | str) -> None:
        """Writes `tokenizer.json`, which `load` reads."""
        files.write_text(path, self.model.to_str(pretty=True) + "\n")


def train_bpe(
    texts: Iterable[str], vocab_size: int, special_tokens: Sequence[str] = ()
) -> BPETokenizer:
    """Learns a byte-level BPE: every text can be encoded, and decodes to itself.

    Args:
      texts: documents.
      vocab_size: ids wanted, the 256 bytes and the special tokens among them; fewer are learnt
        if the texts hold fewer repeated pairs.
      special_tokens: get the first ids.

    Raises:
      ValueError: `vocab_size` leaves no room for the bytes.
      ImportError: the `tokenizers` package is not installed.
    """
    check.at_least(256 + len(special_tokens), vocab_size=vocab_size)
    library = _library()
    model = library.Tokenizer(library.models.BPE())
    model.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = library.decoders.ByteLevel()
    trainer = library.trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(special_tokens),
        initial_alphabet=library.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    model.train_from_iterator(texts, trainer)
    return BPETokenizer(model)


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
        return _gpt2(file, record)
    try:
        return BPETokenizer(_library().Tokenizer.from_str(json.dumps(record)))
    except ImportError:
        raise
    except Exception as error:  # the package raises bare Exception
        raise ValueError(f"{file} is not a tokenizer ({error}).") from None


def _characters(file: Path, record: dict[str, Any]) -> CharTokenizer:
    try:
        return CharTokenizer(tuple(record["vocab"]), record.get("unknown"))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{file} is not a tokenizer of characters ({error}).") from None


def _tokenizer_file(folder: Path) -> Path | None:
    whole = folder / "tokenizer.json"
    return whole if whole.is_file() else next(iter(sorted(folder.glob("*vocab.json"))), None)


def _gpt2(file: Path, vocab: dict[str, int]) -> BPETokenizer:
    merges = file.with_name(file.name.removesuffix("vocab.json") + "merges.txt")
    if not merges.is_file():
        raise FileNotFoundError(f"{merges} not found; {file.name} needs its merges.")
    library = _library()
    lines = [line for line in merges.read_text(encoding="utf-8").splitlines() if line]
    pairs = [tuple(line.split(" ")) for line in lines if not line.startswith("#version")]
    try:
        model = library.Tokenizer(library.models.BPE(vocab=vocab, merges=pairs))
    except Exception as error:  # the package raises bare Exception
        raise ValueError(f"{file} and {merges.name} are not a tokenizer ({error}).") from None
    model.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = library.decoders.ByteLevel()
    return BPETokenizer(model)


def _library() -> Any:
    try:
        import tokenizers
        import tokenizers.decoders
        import tokenizers.models
        import tokenizers.pre_tokenizers
        import tokenizers.trainers
    except ImportError:
        raise ImportError(
            "byte-pair encodings need the package tokenizers: pip install 'jaxml-lab[recipes]'."
        ) from None
    return tokenizers


def _code_points(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def _checked(ids: Sequence[int] | np.ndarray, vocab_size: int) -> list[int]:
    plain = np.asarray(ids, np.int64).reshape(-1)
    wrong = plain[(plain < 0) | (plain >= vocab_size)]
    if wrong.size:
        raise ValueError(f"ids must lie in [0, {vocab_size}); got {wrong[0]}.")
    return plain.tolist()

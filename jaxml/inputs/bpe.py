"""Byte-pair encodings, learnt and run by the `tokenizers` package."""

import dataclasses
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxml.core import check, files


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
        return self.model.decode(checked_ids(ids, self.vocab_size), skip_special_tokens=False)

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


def from_json(file: Path, record: dict[str, Any]) -> BPETokenizer:
    """The tokenizer of a `tokenizer.json`, whose content is `record`.

    Raises:
      ValueError: the package cannot read it.
    """
    library = _library()
    try:
        return BPETokenizer(library.Tokenizer.from_str(json.dumps(record)))
    except Exception as error:  # the package raises bare Exception
        raise ValueError(f"{file} is not a tokenizer ({error}).") from None


def from_gpt2(file: Path, vocab: dict[str, int]) -> BPETokenizer:
    """The tokenizer of GPT-2's `vocab.json`, whose content is `vocab`, and its `merges.txt`.

    Raises:
      FileNotFoundError: no merges beside the vocabulary.
      ValueError: the two do not fit.
    """
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


def checked_ids(ids: Sequence[int] | np.ndarray, vocab_size: int) -> list[int]:
    """The ids as plain integers.

    Raises:
      ValueError: one outside [0, vocab_size).
    """
    plain = np.asarray(ids, np.int64).reshape(-1)
    wrong = plain[(plain < 0) | (plain >= vocab_size)]
    if wrong.size:
        raise ValueError(f"ids must lie in [0, {vocab_size}); got {wrong[0]}.")
    return plain.tolist()


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

"""Text in, text out: a trained model, its tokenizer, and contexts that can be kept.

>>> from jaxml.inputs.tokenizer import CharTokenizer
>>> from jaxml.tnl.config import PRESETS
>>> from jaxml.tnl.model import language_model
>>> model = language_model(PRESETS["tiny"])
>>> words = CharTokenizer.of("abcdefgh ")
>>> generator = Generator(model, model.init(jax.random.key(0)), words)
>>> texts = generator.generate(["a bad", "egg"], num_tokens=4, temperature=0)
>>> [len(text) for text in texts]
[4, 4]
"""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from jaxml.core.types import PyTree
from jaxml.inputs.tokenizer import Tokenizer
from jaxml.tnl import serve
from jaxml.tnl.generate import Context
from jaxml.tnl.language_model import LanguageModel, with_words


class Piece(NamedTuple):
    """What a stream gives out.

    Attributes:
      texts: what is new of each row; "" where a row has stopped, or a character is not whole yet.
      context: after the tokens drawn so far.
    """

    texts: list[str]
    context: Context


@dataclasses.dataclass
class Words:
    """The text of one row as its tokens come in, cut before the first stop word.

    Characters of several tokens are held back until they are whole, and text that may be the
    beginning of a stop word until it is known not to be.
    """

    tokenizer: Tokenizer
    stop: Sequence[str] = ()
    ids: list[int] = dataclasses.field(default_factory=list)
    shown: int = 0
    held: str = ""
    done: bool = False

    def add(self, ids: Sequence[int], last: bool = False) -> str:
        """The new text after more tokens; `last` gives out what is held back."""
        if self.done:
            return ""
        self.ids += ids
        before = self.tokenizer.decode(self.ids[: self.shown])
        whole = self.tokenizer.decode(self.ids)
        if not whole.endswith("\ufffd") or last:
            self.held += whole[len(before) :]
            self.ids, self.shown = self.ids[self.shown :], len(self.ids) - self.shown
        return self._give(last)

    def _give(self, last: bool) -> str:
        cuts = [at for word in self.stop if (at := self.held.find(word)) >= 0]
        if cuts:
            self.done = True
            return self.held[: min(cuts)]
        kept = 0
        for word in () if last else self.stop:
            sizes = range(1, len(word))
            kept = max([kept, *(n for n in sizes if self.held.endswith(word[:n]))])
        given, self.held = self.held[: len(self.held) - kept], self.held[len(self.held) - kept :]
        return given


@dataclasses.dataclass(frozen=True)
class Generator:
    """A language model that reads and writes text.

    Attributes:
      model: the language model.
      params: its parameters.
      tokenizer: its tokenizer.
      block: tokens read at once.
    """

    model: LanguageModel
    params: PyTree
    tokenizer: Tokenizer
    block: int = serve.BLOCK

    def __post_init__(self):
        model = with_words(self.model, self.tokenizer.vocab_size)
        object.__setattr__(self, "model", model)

    @classmethod
    def load(cls, folder: Path | str) -> "Generator":
        """That of a run's folder; parameters in the dtype the model computes in.

        Raises:
          FileNotFoundError, CheckpointError: see `train.load`.
        """
        from jaxml.tnl import train as training  # it needs grain, which a GPU machine may lack

        cfg, model, params, words = training.load(folder)
        return cls(model, serve.narrow(params, cfg.model.dtype), words)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of texts.

        Raises:
          ValueError: a text that the tokenizer cannot write.
        """
        return [[int(i) for i in self.tokenizer.encode(text)] for text in texts]

    def read(self, prompts: Sequence[str], max_len: int = 0) -> Context:
        """Reads prompts of any lengths in one batch, see `serve.start`."""
        ids = self.encode(prompts)
        return serve.start(self.model, self.params, ids, max_len, self.block)

    def more(self, context: Context, texts: Sequence[str]) -> Context:
        """Reads on, one text for every row, each of as many tokens, see `serve.more`."""
        return serve.more(self.model, self.params, context, self.encode(texts), self.block)

    def stream(
        self,
        context: Context,
        *,
        num_tokens: int,
        seed: int = 0,
        stop: Sequence[str] = (),
        block: int = 8,
        **how: Any,
    ) -> Iterator[Piece]:
        """Writes on after a context, and gives out text as it comes.

        Args:
          context: from `read`, `more`, `open` or an earlier piece.
          num_tokens: at most, of every row.
          seed: of the draws; the same seed writes the same text.
          stop: words that end a row; they are not given out.
          block: tokens per device call.
          **how: `temperature`, `top_k`, `top_p`, see `serve.stream`.

        Raises:
          ValueError: see `serve.stream`; an empty stop word.
        """
        if not all(stop):
            raise ValueError("stop must hold words of one character or more; got an empty one.")
        key, left = jax.random.key(seed), num_tokens
        rows = [Words(self.tokenizer, stop) for _ in range(context.hidden.shape[0])]
        how = {"num_tokens": num_tokens, "block": block, **how}
        for ids, after in serve.stream(self.model, self.params, context, key, **how):
            left -= ids.shape[1]
            pairs = zip(rows, ids.tolist(), strict=True)
            yield Piece([row.add(new, last=left == 0) for row, new in pairs], after)
            if all(row.done for row in rows):
                return

    def generate(self, prompts: Sequence[str], *, num_tokens: int, **how: Any) -> list[str]:
        """What the model writes after each prompt; arguments as in `stream`."""
        longest = max(map(len, self.encode(prompts)), default=0)
        context = self.read(prompts, longest + num_tokens)
        pieces = self.stream(context, num_tokens=num_tokens, **how)
        return ["".join(row) for row in zip(*(piece.texts for piece in pieces), strict=True)]

    def save(self, path: Path | str, context: Context) -> None:
        """Keeps a context in a small file, see `serve.save`."""
        serve.save(path, context, self.params)

    def open(self, path: Path | str) -> Context:
        """A context that `save` kept, see `serve.load`."""
        return serve.load(path, self.model, self.params)

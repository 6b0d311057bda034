"""How well a model predicts a text: nats per token, perplexity, bits per byte."""

import dataclasses
import math

import numpy as np

from jaxml.core.types import PyTree
from jaxml.tnl import objective
from jaxml.tnl.corpus import Corpus
from jaxml.tnl.language_model import LanguageModel


@dataclasses.dataclass(frozen=True)
class Perplexity:
    """Of one split.

    Attributes:
      nats: mean negative log-likelihood per token, each seeing at most `seq_len - 1` before it.
      tokens: predicted.
      text_bytes: of their text in UTF-8, so that tokenizers can be compared.
    """

    nats: float
    tokens: int
    text_bytes: int

    @property
    def perplexity(self) -> float:
        """The exponential of `nats`.

        >>> round(Perplexity(math.log(50.0), 10, 40).perplexity, 6)
        50.0
        """
        return math.exp(self.nats)

    @property
    def bits_per_byte(self) -> float:
        """Bits to write the text with, over its bytes.

        >>> Perplexity(math.log(2.0), 10, 40).bits_per_byte
        0.25
        """
        return self.nats / math.log(2) * self.tokens / self.text_bytes


def measure(
    lm: LanguageModel,
    params: PyTree,
    corpus: Corpus,
    split: str,
    *,
    seq_len: int,
    rows: int = 8,
    most: int = 10**9,
) -> Perplexity:
    """Perplexity on a split, in windows that do not overlap.

    Args:
      lm: the model.
      params: its parameters.
      corpus: the text, in the model's tokens.
      split: "val" or "test".
      seq_len: of the windows.
      rows: windows at a time.
      most: batches at most.

    Raises:
      ValueError: the split does not fill one batch.
    """
    windows = corpus.windows(split, seq_len, rows, most)
    nats = objective.evaluate(lm, params, windows)
    targets = np.asarray(windows["targets"]).reshape(-1)
    written = len(corpus.tokenizer.decode(targets).encode("utf-8", "surrogatepass"))
    return Perplexity(nats, targets.size, written)

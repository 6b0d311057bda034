"""What a sentence encoder is here: a body up to cached features, a head from there on.

Token ids are int32 [n, t]; -1 is padding, whatever the tokenizer's own padding is.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxml.core import check, tree
from jaxml.core.types import Array, PyTree
from jaxml.emu.objective import unit
from jaxml.inputs import ragged

PAD, NARROW, TOKENS = -1, 8, 16
"""The id of no token; the fewest tokens that rows are padded to; tokens a sentence of a block."""
type Tokenize = Callable[[Sequence[str], int], np.ndarray]
"""`(texts, max_len) -> ids [n, max_len]`."""


@dataclasses.dataclass(frozen=True, eq=False)
class Encoder:
    """An encoder with its weights.

    Attributes:
      name: e.g. "use".
      params: `body` and `head`.
      body: `(params["body"], ids) -> features [b, f]`.
      head: `(params["head"], features) -> embeddings [b, d]` of any norm.
      tokenize: see `Tokenize`; None where only ids are at hand.
      table: path of the word table [v, e] in `params`.
      max_len: tokens of a sentence; more are cut off.
      languages: it was trained on; others are marked in reports.
      top: `path -> multiplier` of gradients for what is trained beside the head by "top".
      flat: `(params["body"], ids [n], sentence [n], num) -> features [num, f]` of tokens laid end
        to end, for encoders whose work is by token; None: sentences are padded to a few widths.
    """

    name: str
    params: PyTree
    body: Callable[[PyTree, Array], Array]
    head: Callable[[PyTree, Array], Array]
    tokenize: Tokenize | None
    table: str
    max_len: int = 32
    languages: tuple[str, ...] = ()
    top: Callable[[str, Array], Array | float] = lambda path, leaf: 0.0
    flat: Callable[[PyTree, Array, Array, int], Array] | None = None

    def apply(self, params: PyTree, ids_bt: Array) -> Array:
        """Embeddings [b, d], not normalised."""
        return self.head(params["head"], self.body(params["body"], ids_bt))

    def ids(self, texts: Sequence[str]) -> np.ndarray:
        """Token ids int32 [n, max_len].

        Raises:
          ValueError: there is no tokenizer.
        """
        if self.tokenize is None:
            raise ValueError(f"encoder {self.name} has no tokenizer here; give it token ids.")
        return self.tokenize(texts, self.max_len)

    def features(self, ids_nt: np.ndarray, block: int = 256) -> np.ndarray:
        """What the head starts from, float32 [n, f]."""
        return _run(self, _features_only, {"body": self.params["body"]}, ids_nt, block)

    def embed(
        self, texts: Sequence[str] | np.ndarray, params: PyTree = None, block: int = 256
    ) -> np.ndarray:
        """Normalised embeddings float32 [n, d] of texts or token ids.

        Args:
          texts: n sentences, or their ids [n, t].
          params: instead of the encoder's own.
          block: sentences at a time.
        """
        ids = texts if isinstance(texts, np.ndarray) else self.ids(texts)
        params = self.params if params is None else params
        return _run(self, _Embedding(self.head), params, ids, block)


def _run(encoder: Encoder, end: Any, params: PyTree, ids: np.ndarray, block: int) -> np.ndarray:
    """What `end` makes of features, float32 [n, d]."""
    check.shape("ids", ids, ["n", "t"])
    if not len(ids):
        raise ValueError("texts must not be empty; got 0 sentences.")
    inside = ids != PAD
    if encoder.flat is not None:
        laid = functools.partial(_of_tokens, encoder.flat, end, params)
        found = ragged.end_to_end(laid, ids, inside, block, TOKENS * block, PAD)
    else:
        length, full = inside.sum(1), ids.shape[1]
        widths = {min(max(ragged.rounded(n), NARROW), full) for n in range(1, full + 1)}
        sizes = {ragged.rounded(n) for n in range(1, block + 1)}
        padded = functools.partial(_of_rows, encoder.body, end, params)
        found = ragged.in_widths(padded, (ids,), length, [*widths], block, sorted(sizes))
    return np.asarray(found, np.float32)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _of_rows(body: Any, end: Any, params: PyTree, ids: Array) -> Array:
    return end(params, body(params["body"], ids))


@functools.partial(jax.jit, static_argnums=(0, 1, 5))
def _of_tokens(flat: Any, end: Any, params: PyTree, ids: Array, row: Array, num: int) -> Array:
    return end(params, flat(params["body"], ids, row, num))


def _features_only(params: PyTree, features: Array) -> Array:
    del params
    return features


@dataclasses.dataclass(frozen=True)
class _Embedding:
    """Normalised embeddings of features, by an encoder's head."""

    head: Callable[[PyTree, Array], Array]

    def __call__(self, params: PyTree, features: Array) -> Array:
        return unit(self.head(params["head"], features))


def pad(rows: Sequence[Sequence[int]], max_len: int) -> np.ndarray:
    """Ragged ids as int32 [n, max_len]; what is too long loses its end but keeps its last id."""
    ids = np.full((len(rows), max_len), PAD, np.int32)
    for out, row in zip(ids, rows, strict=True):
        kept = list(row) if len(row) <= max_len else [*row[: max_len - 1], row[-1]]
        out[: len(kept)] = kept
    return ids


def compact(encoder: Encoder, *ids: np.ndarray) -> tuple[Encoder, list[np.ndarray]]:
    """The encoder with only the word rows that some ids use, and these ids renumbered.

    Answers stay the same; the tokenizer does not fit any more and is dropped.
    """
    rows = np.unique(np.concatenate([part[part != PAD] for part in ids]))
    leaves = tree.flatten(encoder.params)
    leaves[encoder.table] = jnp.asarray(np.asarray(leaves[encoder.table])[rows])
    small = dataclasses.replace(encoder, params=tree.unflatten(leaves), tokenize=None)
    renumbered = [np.where(x == PAD, PAD, np.searchsorted(rows, x)).astype(np.int32) for x in ids]
    return small, renumbered


def identity_head(width: int) -> PyTree:
    """Parameters of a linear head that changes nothing yet."""
    return {"kernel": jnp.eye(width), "bias": jnp.zeros(width)}

"""What a sentence encoder is here: a body up to cached features, a head from there on.

Token ids are int32 [n, t]; -1 is padding, whatever the tokenizer's own padding is.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxml.core import check, tree
from jaxml.core.types import Array, PyTree
from jaxml.emu.objective import unit

PAD, NARROW = -1, 8
"""The id of no token, and the fewest tokens that rows are padded to."""
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
        return _blocks(functools.partial(_features, self.body), self.params["body"], ids_nt, block)

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
        return _blocks(functools.partial(_embed, self.body, self.head), params, ids, block)


@functools.partial(jax.jit, static_argnums=0)
def _features(body: Any, params: PyTree, ids: Array) -> Array:
    return body(params, ids)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _embed(body: Any, head: Any, params: PyTree, ids: Array) -> Array:
    return unit(head(params["head"], body(params["body"], ids)))


def _blocks(run: Any, params: PyTree, ids: np.ndarray, block: int) -> np.ndarray:
    """Rows in blocks of one size, sorted by length; padding to a block is cut off again."""
    check.shape("ids", ids, ["n", "t"])
    if not len(ids):
        raise ValueError("texts must not be empty; got 0 sentences.")
    order, parts = [], []
    for width, rows in _by_width(ids):
        for start in range(0, len(rows), block):
            chosen = rows[start : start + block]
            size = block if len(rows) > block else min(_rounded(len(chosen)), block)
            padded = np.pad(chosen, (0, size - len(chosen)), mode="edge")
            made = np.asarray(run(params, jnp.asarray(ids[padded, :width])), np.float32)
            order.append(chosen)
            parts.append(made[: len(chosen)])
    found = np.empty((len(ids), parts[0].shape[1]), np.float32)
    found[np.concatenate(order)] = np.concatenate(parts)
    return found


def _by_width(ids: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """The rows of every padded length, shortest first: `(length, rows [m])`."""
    length, full = (ids != PAD).sum(1), ids.shape[1]
    shortest = min(full, NARROW)
    widths = np.array([min(max(_rounded(n), shortest), full) for n in range(full + 1)])[length]
    for width in np.unique(widths):
        yield int(width), np.flatnonzero(widths == width)


def _rounded(num: int) -> int:
    """The next 2^k or 3 * 2^k: few shapes to compile, little padding."""
    power = 1 << max(num - 1, 0).bit_length()
    return 3 * power // 4 if power >= 4 and num <= 3 * power // 4 else power


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

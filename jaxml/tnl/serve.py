"""Serving: prompts of unequal length in one batch, tokens as they are drawn, contexts on disk.

A context of TransNormerLLM has the same size after a million tokens as after one, so that a long
document is read once, saved, and continued at once whenever it is asked about.
"""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxml.core import check, tree, weights
from jaxml.core.types import Array, Key, PyTree
from jaxml.core.weights import WeightsError
from jaxml.nn import sampling
from jaxml.tnl.generate import Context, extend, read
from jaxml.tnl.language_model import LanguageModel, check_ids

BLOCK = 4096
"""Tokens read at once: what reading a long prompt holds in memory."""


def start(
    model: LanguageModel,
    params: PyTree,
    prompts: Sequence[Sequence[int]],
    max_len: int = 0,
    block: int = BLOCK,
) -> Context:
    """Reads prompts of any lengths, padded on the left.

    Args:
      model: the language model.
      params: its parameters.
      prompts: b lists of token ids, none empty.
      max_len: tokens a model with a cache must have room for, prompts included; TNL needs none.
      block: tokens read at once; longer prompts are read piece by piece, in constant memory.

    Raises:
      ValueError: no prompt, an empty one, or ids outside the vocabulary.
    """
    if not len(prompts) or not all(len(prompt) for prompt in prompts):
        raise ValueError("prompts must be non-empty lists of ids; got an empty one.")
    check.positive(block=block)
    length = longest = max(map(len, prompts))
    if model.room is None:  # padding costs nothing, a new length costs a compilation
        head = longest % block
        length += (min(1 << (head - 1).bit_length(), block) - head) if head else 0
    ids, mask = np.zeros((len(prompts), length), np.int32), np.zeros((len(prompts), length), bool)
    for row, prompt in enumerate(prompts):
        ids[row, length - len(prompt) :] = prompt
        mask[row, length - len(prompt) :] = True
    check_ids(ids, model.vocab_size)  # pyright: ignore[reportArgumentType]
    state = model.start(len(prompts), max(max_len, length))
    return _read(model, params, state, ids, mask, block)


def more(
    model: LanguageModel,
    params: PyTree,
    context: Context,
    ids: Sequence[Sequence[int]],
    block: int = BLOCK,
) -> Context:
    """Reads further tokens [b, t] into a context, such as the next turn of a conversation.

    Raises:
      ValueError: another number of rows, rows of unequal length, no tokens, ids outside the
        vocabulary, or a context without room for them.
    """
    if len({len(row) for row in ids}) != 1:
        raise ValueError("ids must be rows of one length; got rows of unequal length.")
    array = np.asarray(ids, np.int32)
    check_ids(array, model.vocab_size)  # pyright: ignore[reportArgumentType]
    check.shape("ids", array, [str(context.hidden.shape[0]), "t"])
    check.positive(tokens=array.shape[1], block=block)
    model.check_room(context.state, array.shape[1])
    return _read(model, params, context.state, array, np.ones(array.shape, bool), block)


def _read(
    model: LanguageModel,
    params: PyTree,
    state: PyTree,
    ids: np.ndarray,
    mask: np.ndarray,
    block: int,
) -> Context:
    """The context after tokens [b, t], in pieces of `block` behind a first, shorter one."""
    context, begin = None, 0
    for end in range((ids.shape[1] - 1) % block + 1, ids.shape[1] + 1, block):
        kept: Array | None = jnp.asarray(mask[:, begin:end])
        if mask[:, begin:end].all():
            kept = None
        context = read(params, state, jnp.asarray(ids[:, begin:end]), kept, model=model)
        state, begin = context.state, end
    assert context is not None  # there is at least one token
    return context


def stream(
    model: LanguageModel,
    params: PyTree,
    context: Context,
    key: Key,
    *,
    num_tokens: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    block: int = 8,
) -> Iterator[tuple[np.ndarray, Context]]:
    """Draws tokens and gives them out in blocks, as soon as each is there.

    The same key draws the same tokens as `generate`, whatever the block.

    Args:
      model: the language model.
      params: its parameters.
      context: what was read, from `start`, `more`, `load` or an earlier block.
      key: of all draws.
      num_tokens: how many in all.
      temperature: 0 is greedy.
      top_k: only the k likeliest.
      top_p: only the likeliest that make up this probability.
      block: tokens per device call; the last block may be shorter.

    Yields:
      Tokens int32 [b, <= block], and the context after them.

    Raises:
      ValueError: a number out of range, or a context without room for so many tokens.
    """
    check.positive(num_tokens=num_tokens, block=block)
    sampling.check_choice(model.vocab_size, temperature, top_k, top_p)
    model.check_room(context.state, num_tokens)
    for first in range(0, num_tokens, block):
        ids, context = extend(
            params,
            context,
            key,
            jnp.int32(first),
            jnp.float32(temperature),
            None if top_p is None else jnp.float32(top_p),
            model=model,
            num_tokens=min(block, num_tokens - first),
            top_k=top_k,
        )
        yield np.asarray(ids), context


def save(path: Path | str, context: Context, params: PyTree | None = None) -> None:
    """Writes a context as one safetensors file, whole or not at all.

    With the parameters that read it, the file remembers them, and `load` refuses others.
    """
    own = {} if params is None else {"weights": _mark(params)}
    weights.write(path, {**tree.flatten(context), **own})


def load(path: Path | str, model: LanguageModel, params: PyTree | None = None) -> Context:
    """Reads a context that `save` wrote for the same model; its room is as it was.

    Raises:
      FileNotFoundError: no such file.
      WeightsError: damaged; of a model of another size, the first difference is named; or read by
        other weights than `params`, if they are given and the file remembers its own.
    """
    tensors = weights.read(path)
    if params is not None and not np.array_equal(tensors.get("weights", own := _mark(params)), own):
        raise WeightsError(f"{path} was read by other weights; read the text again with these.")
    rows = tensors["hidden"].shape[0] if "hidden" in tensors else 1
    room = tensors["state/real"].shape[1] if "state/real" in tensors else 1
    abstract = {"state": jax.eval_shape(lambda: model.start(rows, room))}
    leaves = []
    for name, leaf in tree.flatten(abstract).items():
        found = tensors.get(name)
        if found is None or found.shape != leaf.shape or found.dtype != leaf.dtype:
            got = "nothing" if found is None else f"{found.dtype}{list(found.shape)}"
            want = f"{leaf.dtype}{list(leaf.shape)}"
            raise WeightsError(
                f"{path} is no context of this model: {name} must be {want}; got {got}."
            )
        leaves.append(jnp.asarray(found))
    filled = jax.tree.unflatten(jax.tree.structure(abstract), leaves)
    return Context(jnp.asarray(tensors["hidden"]), filled["state"])


def _mark(params: PyTree) -> np.ndarray:
    """32 bytes that tell weights apart, the same whatever precision they are kept in."""
    digest = hashlib.sha256()
    for name, leaf in tree.flatten(params).items():
        digest.update(name.encode())
        digest.update(np.asarray(leaf.reshape(-1)[:64].astype(jnp.bfloat16)).tobytes())
    return np.frombuffer(digest.digest(), np.uint8)


def narrow(params: PyTree, dtype: str) -> PyTree:
    """Parameters in the dtype of the computation, half the memory: what is computed stays the same.

    Position codes and norms, which are used in float32, stay float32.
    """
    exact = ("theta", "scale")
    return tree.map_with_path(
        lambda path, x: x if path.split("/")[-1] in exact else x.astype(dtype), params
    )

"""Serving: prompts of unequal length in one batch, text as it is drawn, contexts kept on disk.

A context of TransNormerLLM has the same size after a million tokens as after one, so that a long
document is read once, saved, and continued at once whenever it is asked about.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxml.core import check, tree, weights
from jaxml.core.types import Key, PyTree
from jaxml.core.weights import WeightsError
from jaxml.tnl.generate import Context, extend, read
from jaxml.tnl.language_model import LanguageModel, check_ids


def start(
    model: LanguageModel, params: PyTree, prompts: Sequence[Sequence[int]], max_len: int = 0
) -> Context:
    """Reads prompts of any lengths, padded on the left.

    Args:
      model: the language model.
      params: its parameters.
      prompts: b lists of token ids, none empty.
      max_len: tokens a model with a cache must have room for, prompts included; TNL needs none.

    Raises:
      ValueError: no prompt, an empty one, or ids outside the vocabulary.
    """
    if not prompts or not all(len(prompt) for prompt in prompts):
        raise ValueError("prompts must be non-empty lists of ids; got an empty one.")
    longest = max(map(len, prompts))
    ids = np.zeros((len(prompts), longest), np.int32)
    mask = np.zeros(ids.shape, bool)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :] = prompt
        mask[row, longest - len(prompt) :] = True
    check_ids(jnp.asarray(ids), model.vocab_size)
    state = model.start(len(prompts), max(max_len, longest))
    kept = None if mask.all() else jnp.asarray(mask)
    return read(params, state, jnp.asarray(ids), kept, model=model)


def more(
    model: LanguageModel, params: PyTree, context: Context, ids: Sequence[Sequence[int]]
) -> Context:
    """Reads further tokens [b, t] into a context, such as the next turn of a conversation."""
    array = jnp.asarray(np.asarray(ids, np.int32))
    check_ids(array, model.vocab_size)
    check.shape("ids", array, [str(context.hidden.shape[0]), "t"])
    return read(params, context.state, array, None, model=model)


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
    """
    check.positive(num_tokens=num_tokens, block=block)
    check.at_least(0, temperature=temperature)
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


def save(path: Path | str, context: Context) -> None:
    """Writes a context as one safetensors file, whole or not at all."""
    weights.write(path, tree.flatten(context))


def load(path: Path | str, model: LanguageModel, max_len: int = 0) -> Context:
    """Reads a context that `save` wrote for the same model.

    Raises:
      FileNotFoundError: no such file.
      WeightsError: damaged, or of a model of another size; the first difference is named.
    """
    tensors = weights.read(path)
    rows = tensors["hidden"].shape[0] if "hidden" in tensors else 1
    abstract = {"state": jax.eval_shape(lambda: model.start(rows, max(max_len, 1)))}
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

"""Text from a language model: read the prompt at once, then one token at a time."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxml.core import check, rng
from jaxml.core.types import Array, Key, PyTree
from jaxml.nn import sampling
from jaxml.tnl.language_model import LanguageModel, check_ids


class Context(NamedTuple):
    """What has been read so far, ready to be continued: constant in size for TNL.

    Attributes:
      hidden: the last token's hidden state [b, d].
      state: the model's.
    """

    hidden: Array
    state: Any


@functools.partial(jax.jit, static_argnames=("model", "num_tokens", "top_k"))
def extend(
    params: PyTree,
    context: Context,
    key: Key,
    first: Array,
    temperature: Array,
    top_p: Array | None,
    *,
    model: LanguageModel,
    num_tokens: int,
    top_k: int | None,
) -> tuple[Array, Context]:
    """Draws tokens number `first` and on after a context: int32 [b, n], and the context then."""

    def draw(carry: tuple[Array, Any], index: Array) -> tuple[tuple[Array, Any], Array]:
        hidden, state = carry
        logits = model.logits(params, hidden)
        ids = sampling.sample(rng.fold(key, index), logits, temperature, top_k, top_p)
        return model.step(params, state, ids), ids

    carry, ids = jax.lax.scan(draw, (context.hidden, context.state), first + jnp.arange(num_tokens))
    return ids.T, Context(*carry)


@functools.partial(jax.jit, static_argnames="model")
def read(
    params: PyTree, state: Any, ids: Array, mask: Array | None, *, model: LanguageModel
) -> Context:
    """The context after more tokens [b, t]."""
    hidden, state = model.prefill(params, state, ids, mask)
    return Context(hidden[:, -1], state)


def generate(
    model: LanguageModel,
    params: PyTree,
    prompt_bt: Array,
    key: Key,
    *,
    num_tokens: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    mask: Array | None = None,
) -> Array:
    """Continues prompts.

    Args:
      model: the language model.
      params: its parameters.
      prompt_bt: tokens [b, t], at least one; shorter prompts are padded on the left.
      key: of all draws.
      num_tokens: n, to draw.
      temperature: 0 is greedy.
      top_k: only the k likeliest.
      top_p: only the likeliest that make up this probability.
      mask: [b, t], False where a prompt is padded.

    Returns:
      New tokens, int32 [b, n].

    Raises:
      ValueError: an empty prompt, ids outside the vocabulary, a number out of range.
    """
    check.positive(num_tokens=num_tokens)
    sampling.check_choice(model.vocab_size, temperature, top_k, top_p)
    check_ids(prompt_bt, model.vocab_size)
    if prompt_bt.shape[1] == 0:
        raise ValueError("prompt must hold at least one token; got an empty prompt.")
    if mask is not None:
        check.shape("mask", mask, prompt_bt.shape)
    batch, length = prompt_bt.shape
    state = model.start(batch, length + num_tokens)
    context = read(params, state, prompt_bt, mask, model=model)
    nucleus = None if top_p is None else jnp.float32(top_p)
    return extend(
        params,
        context,
        key,
        jnp.int32(0),
        jnp.float32(temperature),
        nucleus,
        model=model,
        num_tokens=num_tokens,
        top_k=top_k,
    )[0]

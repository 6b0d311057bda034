"""Text from a language model: read the prompt at once, then one token at a time."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from jaxml.core import check, rng
from jaxml.core.types import Array, Key, PyTree
from jaxml.nn import sampling
from jaxml.tnl.language_model import LanguageModel, check_ids


@functools.partial(jax.jit, static_argnames=("model", "num_tokens", "top_k"))
def _continue(
    params: PyTree,
    state: Any,
    hidden: Array,
    key: Key,
    temperature: Array,
    top_p: Array | None,
    *,
    model: LanguageModel,
    num_tokens: int,
    top_k: int | None,
) -> tuple[Array, Any]:
    def draw(carry: tuple[Array, Any], index: Array) -> tuple[tuple[Array, Any], Array]:
        hidden, state = carry
        logits = model.logits(params, hidden)
        ids = sampling.sample(rng.fold(key, index), logits, temperature, top_k, top_p)
        return model.step(params, state, ids), ids

    (_, state), ids = jax.lax.scan(draw, (hidden, state), jnp.arange(num_tokens))
    return ids.T, state


@functools.partial(jax.jit, static_argnames="model")
def _read(params: PyTree, state: Any, ids: Array, mask: Array | None, *, model: LanguageModel):
    hidden, state = model.prefill(params, state, ids, mask)
    return hidden[:, -1], state


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
    check.at_least(0, temperature=temperature)
    check_ids(prompt_bt, model.vocab_size)
    if prompt_bt.shape[1] == 0:
        raise ValueError("prompt must hold at least one token; got an empty prompt.")
    if mask is not None:
        check.shape("mask", mask, prompt_bt.shape)
    batch, length = prompt_bt.shape
    state = model.start(batch, length + num_tokens)
    hidden, state = _read(params, state, prompt_bt, mask, model=model)
    nucleus = None if top_p is None else jnp.float32(top_p)
    return _continue(
        params,
        state,
        hidden,
        key,
        jnp.float32(temperature),
        nucleus,
        model=model,
        num_tokens=num_tokens,
        top_k=top_k,
    )[0]

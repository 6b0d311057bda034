"""The pointer decoder: which job goes next, written plainly and folded.

Plainly: x1 = W1 s + b1; x2 = relu(W2 (x1 + attention(x1)) + b2); a job's logit is
w4 leaky_relu(W3 [e, x2] + b3) + b4, with s the job's 11 context features and e the embedding of its
next operation. All from s to x2 is affine but the attention's softmax. So with s~ = [s, 1] the
scores of head h are s~_i^T A_h s~_j, and x2 = relu([s~_i, z_1, .., z_H] M) with z_h the attention's
mean of s~; A [heads, 12, 12] and M [12 (1 + heads), context] are products of the weights. W3 e + b3
is made once per operation. Same function, an eighth of the work.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxml.core.param import Param
from jaxml.core.types import Array, PyTree
from jaxml.jsp import encoder
from jaxml.jsp.config import SPNConfig
from jaxml.jsp.state import NUM_CONTEXT
from jaxml.nn import initializer, linear

MASKED = -1e30
"""Logit of a job that must not be chosen; finite, so that no softmax is ever empty."""


def _linear(width_in: int, width_out: int) -> dict[str, Param]:
    return {
        "kernel": Param((width_in, width_out), ("embed", "mlp"), initializer.uniform_fan_in),
        "bias": Param((width_out,), ("mlp",), initializer.uniform(width_in**-0.5)),
    }


def params(cfg: SPNConfig) -> dict[str, PyTree]:
    """Declared parameters."""
    inner = cfg.context_hidden * cfg.heads
    return {
        "lift": _linear(NUM_CONTEXT, inner),
        "qkv": {
            "kernel": Param((inner, 3 * inner), ("embed", "heads"), initializer.glorot_uniform),
            "bias": Param((3 * inner,), ("heads",), initializer.zeros),
        },
        "out": {
            "kernel": Param((inner, inner), ("heads", "embed"), initializer.uniform_fan_in),
            "bias": Param((inner,), ("embed",), initializer.zeros),
        },
        "mix": _linear(inner, cfg.context),
        "hidden": _linear(encoder.width(cfg) + cfg.context, cfg.classifier),
        "score": _linear(cfg.classifier, 1),
    }


def plain_logits(
    tree: PyTree, cfg: SPNConfig, embedding: Array, context: Array, job_mask: Array
) -> Array:
    """Logits [n] as the paper writes them.

    Args:
      tree: parameters of the decoder.
      cfg: their sizes.
      embedding: of every job's next operation, [n, 15 + embed].
      context: features [n, 11].
      job_mask: False for padding, which is not attended to, [n].
    """
    x = linear.apply(tree["lift"], context)
    parts = linear.apply(tree["qkv"], x).reshape(x.shape[0], 3, cfg.heads, cfg.context_hidden)
    q, k, v = parts[:, 0], parts[:, 1], parts[:, 2]
    scores = jnp.einsum("ihc,jhc->hij", q, k) * cfg.context_hidden**-0.5
    weight = jax.nn.softmax(jnp.where(job_mask[None, None, :], scores, MASKED), -1)
    mixed = jnp.einsum("hij,jhc->ihc", weight, v).reshape(x.shape)
    x = jax.nn.relu(linear.apply(tree["mix"], x + linear.apply(tree["out"], mixed)))
    hidden = linear.apply(tree["hidden"], jnp.concatenate([embedding, x], -1))
    return linear.apply(tree["score"], jax.nn.leaky_relu(hidden, cfg.slope))[:, 0]


class Folded(NamedTuple):
    """The decoder's weights multiplied out, for all instances alike.

    Attributes:
      scores: A, [12, heads * 12].
      mix: M, [12 (1 + heads), context].
      hidden: the part of W3 that x2 meets, [context, classifier].
      embedding: the part that e meets, [15 + embed, classifier].
      bias: b3, [classifier].
      score: w4, [classifier].
      offset: b4, [].
    """

    scores: Array
    mix: Array
    hidden: Array
    embedding: Array
    bias: Array
    score: Array
    offset: Array


_EXACT = jax.lax.Precision.HIGHEST


def fold(tree: PyTree, cfg: SPNConfig) -> Folded:
    """Multiplies the decoder out; differentiable."""
    inner, heads, head_width = cfg.context_hidden * cfg.heads, cfg.heads, cfg.context_hidden
    lift = jnp.concatenate([tree["lift"]["kernel"], tree["lift"]["bias"][None]])  # [12, inner]

    def product(a: Array, b: Array) -> Array:
        return jnp.matmul(a, b, precision=_EXACT)

    def with_bias(x: Array, bias: Array) -> Array:
        return x.at[-1].add(bias)

    qkv = with_bias(product(lift, tree["qkv"]["kernel"]), tree["qkv"]["bias"])
    q, k, v = (part.reshape(-1, heads, head_width) for part in jnp.split(qkv, 3, axis=1))
    scores = jnp.einsum("ahc,bhc->ahb", q, k, precision=_EXACT) * head_width**-0.5
    out = tree["out"]["kernel"].reshape(heads, head_width, inner)
    mixed = jnp.einsum("ahc,hcd->had", v, out, precision=_EXACT)  # [heads, 12, inner]
    own = with_bias(lift, tree["out"]["bias"])
    mix = product(jnp.concatenate([own, mixed.reshape(-1, inner)]), tree["mix"]["kernel"])
    mix = mix.at[NUM_CONTEXT].add(tree["mix"]["bias"])
    split = encoder.width(cfg)
    return Folded(
        scores=scores.reshape(NUM_CONTEXT + 1, -1),
        mix=mix,
        hidden=tree["hidden"]["kernel"][split:],
        embedding=tree["hidden"]["kernel"][:split],
        bias=tree["hidden"]["bias"],
        score=tree["score"]["kernel"][:, 0],
        offset=tree["score"]["bias"][0],
    )


def operation_part(folded: Folded, embedding: Array) -> Array:
    """W3 e + b3 of every operation: [..., 15 + embed] -> [..., classifier]."""
    return linear.apply({"kernel": folded.embedding, "bias": folded.bias}, embedding)


def logits(
    folded: Folded,
    cfg: SPNConfig,
    operations: Array,
    context: Array,
    job_mask: Array,
    dtype: jnp.dtype | str = jnp.float32,
) -> Array:
    """The same logits [n] from folded weights.

    Args:
      folded: from `fold`.
      cfg: sizes.
      operations: `operation_part` of every job's next operation, [n, classifier].
      context: features [n, 11].
      job_mask: False for padding, [n].
      dtype: of the two wide products.
    """
    num_jobs = context.shape[0]
    s = jnp.concatenate([context, jnp.ones((num_jobs, 1), context.dtype)], -1)
    query = (s @ folded.scores).reshape(num_jobs * cfg.heads, NUM_CONTEXT + 1)
    scores = jnp.where(job_mask[None, :], query @ s.T, MASKED)
    heard = (jax.nn.softmax(scores, -1) @ s).reshape(num_jobs, -1)
    x = jnp.concatenate([s, heard], -1).astype(dtype)
    x = jax.nn.relu(x @ folded.mix.astype(dtype))
    hidden = (x @ folded.hidden.astype(dtype)).astype(jnp.float32) + operations
    return jax.nn.leaky_relu(hidden, cfg.slope) @ folded.score + folded.offset

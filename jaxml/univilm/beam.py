"""Beam search over the decoder with a cache of keys and values, and the authors' rules."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxml.core import check
from jaxml.core.types import Array, PyTree
from jaxml.univilm import decoder
from jaxml.univilm.config import UniVLConfig
from jaxml.univilm.decoder import Cache


class Captions(NamedTuple):
    """The best caption of each clip, [n, t] (words; 0 from [SEP] on), and its score [n]."""

    ids: Array
    scores: Array


class _Beams(NamedTuple):
    place: Array
    ids: Array  # [n, k, t]
    last: Array  # [n, k]
    scores: Array  # [n, k], sums of log-probabilities
    ended: Array  # [n, k], True once [SEP] was said (never back in the reference's mode)
    stopped: Array  # [n]
    cache: Cache


def beam_search(
    p: PyTree,
    cfg: UniVLConfig,
    memory_nsd: Array,
    memory_mask: Array,
    *,
    beams: int = 5,
    max_len: int,
    length_penalty: float = 0.0,
    reference_mode: bool = False,
) -> Captions:
    """Captions of clips.

    By default a beam that said [SEP] is finished: it keeps its score and waits. In the authors'
    mode it goes on like any other, a clip stops once the last token of its best beam is [SEP], and
    the output is cut at the first [SEP].

    Args:
      p: the model's parameters.
      cfg: its sizes.
      memory_nsd: cross output [n, s, d]; computed once.
      memory_mask: [n, s].
      beams: k; 1 is greedy.
      max_len: most tokens, [SEP] among them.
      length_penalty: a; finished beams are ranked by score / length^a. 0: by score.
      reference_mode: the authors' rules, which know no penalty.

    Raises:
      ValueError: a number out of range, or a penalty in the authors' mode.
    """
    check.between(1, cfg.vocab_size, beams=beams)
    check.at_least(0, length_penalty=length_penalty)
    if reference_mode and length_penalty:
        raise ValueError("length_penalty must be 0 in the reference mode; got "
                         f"length_penalty={length_penalty}.")  # fmt: skip
    memory = decoder.remember(p, cfg, memory_nsd, memory_mask)
    start = _start(cfg, memory_nsd.shape[0], beams, max_len)

    def advance(now: _Beams) -> _Beams:
        logits, cache = decoder.step(p, cfg, now.last, now.place, memory, now.cache)
        new = _advance(cfg, now._replace(cache=cache), jax.nn.log_softmax(logits), reference_mode)
        best_ended = new.last[:, 0] == cfg.sep_id if reference_mode else _best_ended(new)
        stop = best_ended if not length_penalty else jnp.all(new.ended, 1)
        new = new._replace(stopped=now.stopped | stop)
        return _keep(now.stopped, now, new)

    def more(now: _Beams) -> Array:
        return (now.place < max_len) & ~jnp.all(now.stopped)

    done = jax.lax.while_loop(more, advance, start)
    return _result(cfg, done, length_penalty)


def _best_ended(beams: _Beams) -> Array:
    """Scores only fall, so no other beam can overtake a best one that has ended."""
    best = jnp.argmax(beams.scores, 1)
    return jnp.take_along_axis(beams.ended, best[:, None], 1)[:, 0]


def _start(cfg: UniVLConfig, num: int, beams: int, max_len: int) -> _Beams:
    first = jnp.where(jnp.arange(beams) == 0, 0.0, -jnp.inf)[None]
    return _Beams(
        jnp.int32(0),
        jnp.zeros((num, beams, max_len), jnp.int32),
        jnp.full((num, beams), cfg.cls_id, jnp.int32),
        jnp.broadcast_to(first, (num, beams)),
        jnp.zeros((num, beams), bool),
        jnp.zeros(num, bool),
        decoder.empty_cache(cfg, num, beams, max_len),
    )


def _advance(cfg: UniVLConfig, now: _Beams, log_nkv: Array, reference: bool) -> _Beams:
    """The k best continuations over all beams; a beam that waits can only go on waiting."""
    num, beams, vocab = log_nkv.shape
    if not reference:
        waits = jnp.where(jnp.arange(vocab) == 0, 0.0, -jnp.inf)[None, None]
        log_nkv = jnp.where(now.ended[..., None], waits, log_nkv)
    total = (now.scores[..., None] + log_nkv).reshape(num, -1)
    scores, chosen = jax.lax.top_k(total, beams)
    origin, token = chosen // vocab, (chosen % vocab).astype(jnp.int32)

    def follow(x: Array) -> Array:
        return jnp.take_along_axis(x, origin.reshape(origin.shape + (1,) * (x.ndim - 2)), 1)

    ids = jax.lax.dynamic_update_slice(follow(now.ids), token[..., None], (0, 0, now.place))
    cache = Cache(*(jax.vmap(follow)(x) for x in now.cache))
    ended = follow(now.ended) | (token == cfg.sep_id)
    return _Beams(now.place + 1, ids, token, scores, ended, now.stopped, cache)


def _keep(stopped: Array, old: _Beams, new: _Beams) -> _Beams:
    """Clips that have stopped stay as they were."""

    def one(a: Array, b: Array) -> Array:
        return jnp.where(stopped.reshape(stopped.shape + (1,) * (a.ndim - 1)), a, b)

    kept = {name: one(getattr(old, name), getattr(new, name))
            for name in ("ids", "last", "scores", "ended")}  # fmt: skip
    return new._replace(**kept)


def _result(cfg: UniVLConfig, done: _Beams, length_penalty: float) -> Captions:
    before_end = jnp.cumsum(done.ids == cfg.sep_id, 2) == 0
    ids = jnp.where(before_end, done.ids, 0)
    said = before_end & (jnp.arange(done.ids.shape[2]) < done.place)[None, None]
    length = jnp.maximum(jnp.sum(said, 2) + done.ended, 1)
    ranked = done.scores / length.astype(jnp.float32) ** length_penalty
    best = jnp.argmax(ranked, 1)
    ids = jnp.take_along_axis(ids, best[:, None, None], 1)[:, 0]
    return Captions(ids, jnp.take_along_axis(ranked, best[:, None], 1)[:, 0])

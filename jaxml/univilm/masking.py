"""What is hidden from the model: words, frames, and whole texts (EnhancedV)."""

import jax
import jax.numpy as jnp

from jaxml.core import check, rng
from jaxml.core.types import Array, Key
from jaxml.univilm.config import UniVLConfig


def inner(ids_nw: Array) -> Array:
    """True at tokens that may be masked: neither padding, nor the first, nor the last one.

    >>> inner(jnp.array([[2, 7, 8, 3, 0]])).tolist()
    [[False, True, True, False, False]]
    """
    real = ids_nw != 0
    last = jnp.concatenate([real[:, 1:], jnp.zeros_like(real[:, :1])], 1)
    return (real & last).at[:, 0].set(False)


def mask_tokens(
    key: Key, cfg: UniVLConfig, ids_nw: Array, rate: float = 0.15
) -> tuple[Array, Array]:
    """BERT's masking: of the chosen tokens 80 % [MASK], 10 % random, 10 % kept.

    Returns:
      The masked ids, and labels: the true token where one was chosen, else -1.
    """
    check.between(0, 1, rate=rate)

    def uniform(name: str) -> Array:
        return jax.random.uniform(rng.fold(key, name), ids_nw.shape)

    chosen = inner(ids_nw) & (uniform("chosen") < rate)
    word = jax.random.randint(rng.fold(key, "word"), ids_nw.shape, 0, cfg.vocab_size, ids_nw.dtype)
    how = uniform("how")
    put = jnp.where(
        how < 0.8, jnp.full_like(ids_nw, cfg.mask_id), jnp.where(how < 0.9, word, ids_nw)
    )
    # Padding is told by its id, so a random word must not be it.
    put = jnp.where(put == 0, ids_nw, put)
    return jnp.where(chosen, put, ids_nw), jnp.where(chosen, ids_nw, -1)


def mask_frames(
    key: Key, feats_nfd: Array, mask_nf: Array, rate: float = 0.15
) -> tuple[Array, Array]:
    """Zeroes raw features of real frames; the norm that follows makes them its bias.

    Returns:
      The features, and which were hidden [n, f].
    """
    check.between(0, 1, rate=rate)
    hidden = mask_nf & (jax.random.uniform(key, mask_nf.shape) < rate)
    return jnp.where(hidden[..., None], 0, feats_nfd).astype(feats_nfd.dtype), hidden


def enhanced_v(key: Key, cfg: UniVLConfig, ids_nw: Array, n_pair: int, rate: float = 0.15) -> Array:
    """EnhancedV: of some videos, the texts of all P clips become [CLS] [SEP]."""
    check.divides(n_pair=n_pair, n=ids_nw.shape[0])
    dropped = jax.random.uniform(key, (ids_nw.shape[0] // n_pair,)) < rate
    return jnp.where(jnp.repeat(dropped, n_pair)[:, None], no_text(cfg, ids_nw), ids_nw)


def no_text(cfg: UniVLConfig, ids_nw: Array) -> Array:
    """[CLS] [SEP] in the shape of `ids_nw`: the text input where a video is described alone."""
    return jnp.zeros_like(ids_nw).at[:, 0].set(cfg.cls_id).at[:, 1].set(cfg.sep_id)


def bare(cfg: UniVLConfig, num: int) -> Array:
    """[CLS] [SEP] without padding, int32 [num, 2]: the same text, cheaper to encode."""
    return jnp.tile(jnp.array([[cfg.cls_id, cfg.sep_id]], jnp.int32), (num, 1))


def decoder_pair(cfg: UniVLConfig, caption_nt: Array) -> tuple[Array, Array]:
    """Input [CLS] words and target words [SEP], both [n, t - 1], of [CLS] words [SEP] [n, t].

    >>> cfg = UniVLConfig(9, 8, 1, 8, cls_id=2, sep_id=3, mask_id=4)
    >>> [x.tolist() for x in decoder_pair(cfg, jnp.array([[2, 7, 8, 3, 0]]))]
    [[[2, 7, 8, 0]], [[7, 8, 3, 0]]]
    """
    given = caption_nt[:, :-1]
    return jnp.where(given == cfg.sep_id, 0, given), caption_nt[:, 1:]

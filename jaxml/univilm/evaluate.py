"""Retrieval by both encoders or by the cross encoder, and captions, over many clips."""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxml.core import check
from jaxml.core.types import Array, PyTree
from jaxml.univilm import alignment, beam, masking, model
from jaxml.univilm.clips import Clips
from jaxml.univilm.config import UniVLConfig


class Encoded(NamedTuple):
    """Encoders' outputs of texts [n, s, d], masks [n, s] and pooled vectors [n, d]."""

    hidden: Any
    mask: Any
    pooled: Any


@functools.lru_cache(maxsize=8)
def _text(cfg: UniVLConfig) -> Callable[..., Encoded]:
    @jax.jit
    def run(p: PyTree, ids: Array) -> Encoded:
        hidden = model.encode_text(p, cfg, ids)
        return Encoded(hidden, ids != 0, model.pool_text(hidden, ids))

    return run


@functools.lru_cache(maxsize=8)
def _video(cfg: UniVLConfig) -> Callable[..., Encoded]:
    @jax.jit
    def run(p: PyTree, feats: Array, num_frames: Array) -> Encoded:
        mask = jnp.arange(feats.shape[1])[None, :] < num_frames[:, None]
        hidden = model.encode_video(p, cfg, model.normalise(p, cfg, feats), mask)
        return Encoded(hidden, mask, model.pool_video(hidden, mask))

    return run


def _blocks(num: int, size: int) -> Iterator[tuple[np.ndarray, int]]:
    """Rows of each block, the last one filled up so that shapes stay, and how many count."""
    for start in range(0, num, size):
        rows = np.minimum(np.arange(start, start + size), num - 1)
        yield rows, min(size, num - start)


def _over[T: tuple](run: Callable[..., T], p: PyTree, size: int, *columns: np.ndarray) -> T:
    parts = []
    for rows, kept in _blocks(len(columns[0]), size):
        out = run(p, *(jnp.asarray(c[rows]) for c in columns))
        parts.append([np.asarray(x)[:kept] for x in out])
    joined = [np.concatenate(xs) for xs in zip(*parts, strict=True)]
    return type(out)(*joined)  # pyright: ignore[reportPossiblyUnboundVariable]


def encode_texts(p: PyTree, cfg: UniVLConfig, ids: np.ndarray, size: int = 64) -> Encoded:
    """Texts [n, w] through the text encoder, `size` at a time."""
    check.positive(texts=len(ids), size=size)
    return _over(_text(cfg), p, size, ids)


def encode_videos(
    p: PyTree, cfg: UniVLConfig, feats: np.ndarray, num_frames: np.ndarray, size: int = 64
) -> Encoded:
    """Features [n, f, D] through the video encoder."""
    check.positive(videos=len(feats), size=size)
    return _over(_video(cfg), p, size, feats, num_frames)


def joint_scores(p: PyTree, cfg: UniVLConfig, clips: Clips, *, cosine: bool = False) -> np.ndarray:
    """Captions against clips by pooled vectors, float64 [n, n]; raw products or cosines.

    The products are made in float64, so that equal clips tie and others do not by rounding.
    """
    text = encode_texts(p, cfg, clips.caption).pooled.astype(np.float64)
    video = encode_videos(p, cfg, clips.video, clips.num_frames).pooled.astype(np.float64)
    if cosine:
        text, video = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (text, video))
    return text @ video.T


@functools.lru_cache(maxsize=8)
def _pairs(cfg: UniVLConfig, chunk: int) -> Callable[..., Array]:
    return jax.jit(lambda p, t, tm, v, vm: alignment.pair_scores(p, cfg, t, v, tm, vm, chunk=chunk))


def align_scores(p: PyTree, cfg: UniVLConfig, clips: Clips, *, size: int = 8) -> np.ndarray:
    """Captions against clips by the cross encoder [n, n]: every pair, `size` texts at a time."""
    text = encode_texts(p, cfg, clips.caption)
    video = encode_videos(p, cfg, clips.video, clips.num_frames)
    run, parts = _pairs(cfg, 1 if jax.default_backend() == "cpu" else size), []
    for rows, kept in _blocks(len(text.mask), size):
        scores = run(p, text.hidden[rows], text.mask[rows], video.hidden, video.mask)
        parts.append(np.asarray(scores)[:kept])
    return np.concatenate(parts)


@functools.lru_cache(maxsize=16)
def _captions(
    cfg: UniVLConfig, beams: int, max_len: int, penalty: float, reference: bool, start: int
) -> Callable[..., beam.Captions]:
    @jax.jit
    def run(p: PyTree, text: Array, feats: Array, num_frames: Array) -> beam.Captions:
        frames = jnp.arange(feats.shape[1])[None, :] < num_frames[:, None]
        video = model.encode_video(p, cfg, model.normalise(p, cfg, feats), frames)
        words = model.encode_text(p, cfg, text)
        memory = model.cross_encode(
            p, cfg, words, video, text != 0, frames, video_start=start
        ).hidden
        mask = jnp.concatenate([text != 0, frames], 1)
        return beam.beam_search(p, cfg, memory, mask, beams=beams, max_len=max_len,
                                length_penalty=penalty, reference_mode=reference)  # fmt: skip

    return run


def caption(
    p: PyTree,
    cfg: UniVLConfig,
    clips: Clips,
    *,
    use_text: bool = False,
    beams: int = 5,
    max_len: int | None = None,
    length_penalty: float = 0.0,
    reference_mode: bool = False,
    size: int = 32,
) -> beam.Captions:
    """Writes a caption for each clip; the clips' own captions are never read.

    Args:
      p: the model's parameters.
      cfg: its sizes.
      clips: videos, and transcripts where `use_text`.
      use_text: give the transcript; else [CLS] [SEP] stands for it.
      beams: of the search.
      max_len: most tokens; None: as many as the clips' texts are wide.
      length_penalty: see `beam.beam_search`.
      reference_mode: likewise.
      size: clips at a time.
    """
    text = clips.text if use_text else np.asarray(masking.bare(cfg, len(clips.text)))
    width = clips.text.shape[1]
    run = _captions(cfg, beams, max_len or width, length_penalty, reference_mode, width)
    return _over(run, p, size, text, clips.video, clips.num_frames)

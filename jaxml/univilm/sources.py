"""Clips for the commands: Moving-MNIST, KITTI's drives, or a folder of features."""

import dataclasses
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxml.core.types import PyTree
from jaxml.univilm import features, frames, kitti, study, words
from jaxml.univilm.clips import Clips
from jaxml.univilm.config import Setting


class Source(NamedTuple):
    """Clips to train and to score on, their captions, vocabulary, extractor (or None), sizes."""

    train: Clips
    test: Clips
    captions: tuple[str, ...]
    vocab: words.Words | words.WordPiece
    extractor: PyTree
    setting: Setting


def sized(setting: Setting, vocab: words.Vocabulary, video_dim: int) -> Setting:
    """A setting for a vocabulary and a width of features."""
    first, last, mask = vocab.specials
    sizes = dataclasses.replace(
        setting.model, vocab_size=vocab.vocab_size, video_dim=video_dim, cls_id=first, sep_id=last,
        mask_id=mask,
    )  # fmt: skip
    return dataclasses.replace(setting, model=sizes)


def gather(
    data: str, setting: Setting, out: Path, vocab: words.Words | words.WordPiece | None,
    fps: float, kind: str, clips: int,
) -> Source:  # fmt: skip
    """Clips by name ("moving", "kitti") or of a folder of features."""
    if data == "moving":
        cfg = study.StudyConfig(setting, clips, max(clips // 10, 1),
                                clips // 9 if kind == "narration" else 0)  # fmt: skip
        fitted = sized(setting, study.vocabulary(), frames.WIDTH)
        cfg = dataclasses.replace(cfg, setting=fitted)
        (out / "data").mkdir(parents=True, exist_ok=True)
        found = study.material(cfg, out / "data")
        part = found.parts["narrated" if kind == "narration" else "all"]
        extractor = frames.load(out / "data" / "frames.safetensors")
        return Source(part, found.test, found.captions, found.vocab, extractor, fitted)
    if data == "kitti":
        return _kitti(setting, vocab)
    return _folder(Path(data), setting, vocab, fps, kind)


def _kitti(setting: Setting, vocab: words.Words | words.WordPiece | None) -> Source:
    parts = kitti.split()
    vocab = vocab or words.Words.of(w.caption for w in parts[0])
    fitted = sized(setting, vocab, kitti.WIDTH)

    def clips(windows: list[kitti.Window]) -> Clips:
        ids = words.encode(vocab, [w.caption for w in windows], setting.max_words)
        video = np.stack([w.feats for w in windows])[:, : setting.max_frames]
        num = np.full(len(windows), video.shape[1], np.int32)
        return Clips(video, num, ids, ids, np.array([w.sequence for w in windows], np.int32))

    # Equal captions make retrieval meaningless: of each caption the first window is a test clip.
    first = {w.caption: w for w in reversed(parts[1])}
    test = sorted(first.values(), key=lambda w: (w.sequence, w.start))
    return Source(clips(parts[0]), clips(test), tuple(w.caption for w in test), vocab, None, fitted)


def _folder(
    path: Path, setting: Setting, vocab: words.Words | words.WordPiece | None, fps: float, kind: str
) -> Source:
    spoken = features.listed(path, kind)
    test = [c for c in spoken if c.split != "train"] or spoken
    part = [c for c in spoken if c.split == "train"] or spoken
    if vocab is None:
        given = path / "vocab.txt"
        every = [t for c in part for t in (c.text, c.caption)]
        vocab = words.WordPiece.of(given) if given.exists() else words.Words.of(every)
    width = features.features_of(path, part[0].video).shape[1]
    fitted = sized(setting, vocab, width)
    cuts = [features.cut(path, some, vocab, fitted, fps) for some in (part, test)]
    return Source(cuts[0], cuts[1], tuple(c.caption for c in test), vocab, None, fitted)

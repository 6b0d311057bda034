"""Clips as arrays, and batches of them whose position can be saved."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxml.core import check
from jaxml.inputs.order import Order, generator
from jaxml.univilm.config import TrainConfig
from jaxml.univilm.narration import draw_group


class Clips(NamedTuple):
    """n clips in the order of their videos and times.

    Attributes:
      video: features [n, f, D]; rows past a clip's frames are not read.
      num_frames: int32 [n], at least 1.
      text: [CLS] words [SEP], int32 [n, w]: what is said (transcript or narration).
      caption: likewise, int32 [n, t]: what is to be written, and the query of retrieval.
      item: which video a clip is of, int32 [n], not falling.
    """

    video: np.ndarray
    num_frames: np.ndarray
    text: np.ndarray
    caption: np.ndarray
    item: np.ndarray

    def rows(self, which: Any) -> "Clips":
        """Some clips: indices or a mask."""
        return Clips(*(x[which] for x in self))


def checked(clips: Clips) -> Clips:
    """The clips, if they are sound.

    Raises:
      ValueError: sizes that differ, a clip without frames, features that are not finite.
    """
    sizes = check.shape("video", clips.video, ["n", "f", "D"])
    check.shape("text", clips.text, [sizes["n"], "w"])
    check.shape("caption", clips.caption, [sizes["n"], "t"])
    check.positive(clips=sizes["n"])
    if clips.num_frames.min() < 1 or clips.num_frames.max() > sizes["f"]:
        bad = int(np.argmax((clips.num_frames < 1) | (clips.num_frames > sizes["f"])))
        raise ValueError(
            f"every clip must have 1 to {sizes['f']} frames; clip {bad} has "
            f"{clips.num_frames[bad]}."
        )
    for start in range(0, sizes["n"], 1024):
        finite = np.isfinite(clips.video[start : start + 1024]).all((1, 2))
        if not finite.all():
            bad = start + int(np.argmin(finite))
            raise ValueError(f"features must be finite; those of clip {bad} are not.")
    if (np.diff(clips.item) < 0).any():
        raise ValueError("clips must lie in the order of their videos; item falls.")
    return clips


def texts_of(clips: Clips) -> np.ndarray:
    """A number for each caption, equal for equal captions, int32 [n]."""
    return np.unique(clips.caption, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int32)


class Batches(Iterator[dict[str, np.ndarray]]):
    """Batches of B videos of P consecutive clips, [B, P, ...], shuffled anew every epoch.

    With P = 1 every clip is visited once an epoch; else every video, with a group of its clips
    drawn at random. `get_state` is the number of batches given.
    """

    def __init__(self, clips: Clips, cfg: TrainConfig):
        """Batches for one stage of training."""
        self._clips, self._cfg, self._done = clips, cfg, 0
        self._same = texts_of(clips)
        starts = np.flatnonzero(np.diff(clips.item, prepend=-1))
        self._starts, self._counts = starts, np.diff(np.append(starts, len(clips.item)))
        num = len(clips.item) if cfg.n_pair == 1 else len(starts)
        self._order = Order(num, cfg.seed)

    def _random(self, epoch: int, row: int) -> np.random.Generator:
        return generator(self._cfg.seed, "group", epoch, row)

    def rows(self, batch: int) -> np.ndarray:
        """Indices of the clips of one batch, int64 [B P]."""
        size, pair = self._cfg.batch_size, self._cfg.n_pair
        epochs, rows = self._order.at(np.arange(batch * size, (batch + 1) * size))
        if pair == 1:
            return rows
        groups = [
            self._starts[row]
            + draw_group(
                generator(self._cfg.seed, "group", int(epoch), int(row)),
                int(self._counts[row]),
                pair,
            )
            for epoch, row in zip(epochs, rows, strict=True)
        ]
        return np.concatenate(groups)

    def __next__(self) -> dict[str, np.ndarray]:
        """The next batch."""
        rows, clips = self.rows(self._done), self._clips
        rows = rows.reshape(-1, self._cfg.n_pair)
        self._done += 1
        return {
            "video": clips.video[rows],
            "num_frames": clips.num_frames[rows],
            "text": clips.text[rows],
            "caption": clips.caption[rows],
            "same": self._same[rows],
        }

    def get_state(self) -> dict[str, int]:
        """Batches given so far."""
        return {"batches": self._done}

    def set_state(self, state: Mapping[str, int]) -> None:
        """Goes on after so many batches."""
        self._done = int(state["batches"])

"""Frames: clips and evenly spaced samples of them, and animated images as frames."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxml.core import check
from jaxml.inputs.integrity import DataCorruptError, DataNotFoundError


class Animation(NamedTuple):
    """Frames uint8 [t, y, x, 3], and how long each is shown, float32 [t], in milliseconds."""

    frames: np.ndarray
    durations_ms: np.ndarray


def clips(frames: np.ndarray, length: int, stride: int | None = None, step: int = 1) -> np.ndarray:
    """Every clip of `length` frames that fits, as a view.

    Args:
      frames: [t, ...].
      length: frames in a clip.
      stride: frames from the start of one clip to the next; None means `length` (no overlap).
      step: frames from one frame of a clip to the next.

    Returns:
      [n, length, ...], read-only; n is 0 if the video is too short for one.

    Raises:
      ValueError: a length, stride or step below 1.

    >>> clips(np.arange(6), length=3, stride=2).tolist()
    [[0, 1, 2], [2, 3, 4]]
    """
    stride = length if stride is None else stride
    check.positive(length=length, stride=stride, step=step)
    span = (length - 1) * step + 1
    if len(frames) < span:
        return frames[:0].reshape(0, 1, *frames.shape[1:]).repeat(length, 1)
    windows = np.lib.stride_tricks.sliding_window_view(frames, span, axis=0)[::stride, ..., ::step]
    return np.moveaxis(windows, -1, 1)


def uniform_indices(num_frames: int, num_samples: int) -> np.ndarray:
    """The middle frame of each of `num_samples` equal parts of a video, int32 [num_samples].

    A video shorter than that repeats frames.

    Raises:
      ValueError: a number below 1.

    >>> uniform_indices(10, 5).tolist(), uniform_indices(2, 4).tolist()
    ([1, 3, 5, 7, 9], [0, 0, 1, 1])
    """
    check.positive(num_frames=num_frames, num_samples=num_samples)
    return ((2 * np.arange(num_samples) + 1) * num_frames // (2 * num_samples)).astype(np.int32)


def read_animation(path: Path | str, max_frames: int | None = None) -> Animation:
    """The frames of an animated GIF, WebP or APNG; a still image is one frame.

    Args:
      path: of the file.
      max_frames: read no more than these.

    Raises:
      ValueError: `max_frames` below 1.
      DataNotFoundError: no such file.
      DataCorruptError: not an image, or one that ends early.
    """
    from PIL import Image, ImageSequence, UnidentifiedImageError

    path = Path(path)
    if max_frames is not None:
        check.positive(max_frames=max_frames)
    if not path.is_file():
        raise DataNotFoundError(f"{path} not found; expected an animated GIF, WebP or APNG.")
    frames, durations = [], []
    try:
        with Image.open(path) as picture:
            for index, frame in enumerate(ImageSequence.Iterator(picture)):
                if index == max_frames:
                    break
                frames.append(np.asarray(frame.convert("RGB")))
                durations.append(frame.info.get("duration", 0.0))
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise DataCorruptError(f"{path} is not a whole animated image ({error}).") from None
    return Animation(np.stack(frames), np.asarray(durations, np.float32))


class Video(NamedTuple):
    """Frames uint8 [t, y, x, 3] and the second each is shown at, float32 [t]."""

    frames: np.ndarray
    seconds: np.ndarray


def read_video(
    path: Path | str,
    fps: float = 1.0,
    size: tuple[int, int] | None = None,
    max_frames: int | None = None,
) -> Video:
    """Frames of a video file at a steady rate, by FFmpeg (the package av).

    Args:
      path: of the file, in any format FFmpeg decodes.
      fps: frames kept of each second; where the video has fewer, all are.
      size: (y, x) to scale frames to; None: as they are.
      max_frames: read no more than these.

    Raises:
      ValueError: a number below its range.
      DataNotFoundError: no such file.
      DataCorruptError: not a video, or one without a picture.
    """
    import av
    import av.error

    path = Path(path)
    check.positive(fps=fps)
    if max_frames is not None:
        check.positive(max_frames=max_frames)
    if not path.is_file():
        raise DataNotFoundError(f"{path} not found; expected a video file.")
    frames, seconds, due = [], [], 0.0
    height, width = size or (None, None)
    try:
        with av.open(str(path)) as container:
            for frame in container.decode(video=0):
                now = float(frame.time or 0.0)
                if now + 1e-6 < due:
                    continue
                frames.append(frame.to_ndarray(format="rgb24", height=height, width=width))
                seconds.append(now)
                due = max(due + 1 / fps, now)
                if len(frames) == max_frames:
                    break
    except (av.error.FFmpegError, IndexError, ValueError) as error:
        raise DataCorruptError(f"{path} is not a video that can be read ({error}).") from None
    if not frames:
        raise DataCorruptError(f"{path} holds no picture.")
    return Video(np.stack(frames), np.asarray(seconds, np.float32))

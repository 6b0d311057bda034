"""A searchable index over a folder of videos: embedded once, asked by words."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxml.core import check, files
from jaxml.inputs.integrity import DataNotFoundError
from jaxml.inputs.video import read_animation, read_video
from jaxml.univilm import evaluate, frames, words
from jaxml.univilm.moving import SIZE
from jaxml.univilm.saved import Saved

VIDEOS = (".mp4", ".webm", ".mkv", ".mov", ".avi", ".gif", ".webp")
FEATURES = (".npy", ".npz")


class Index(NamedTuple):
    """Clips of videos.

    Attributes:
      vectors: pooled and of length 1, float32 [n, d].
      video: file name of each.
      span: seconds [n, 2].
      thumbs: PNG file of each below the index's folder, "" where there is no picture.
    """

    vectors: np.ndarray
    video: tuple[str, ...]
    span: np.ndarray
    thumbs: tuple[str, ...]


class Hit(NamedTuple):
    """An answer: cosine, file, seconds, thumbnail."""

    score: float
    video: str
    start: float
    end: float
    thumb: str


def _frames(path: Path, fps: float) -> tuple[np.ndarray, np.ndarray]:
    """Frames uint8 [t, y, x, 3] and the second of each."""
    if path.suffix.lower() not in (".gif", ".webp"):
        return tuple(read_video(path, fps))  # pyright: ignore[reportReturnType]
    shown = read_animation(path)
    seconds = np.concatenate([[0.0], np.cumsum(np.maximum(shown.durations_ms, 1.0))[:-1]]) / 1e3
    due = np.searchsorted(seconds, np.arange(0, seconds[-1] + 1e-3, 1 / fps) - 1e-3)
    kept = np.unique(np.minimum(due, len(seconds) - 1))
    return shown.frames[kept], seconds[kept]


def grey(frames_tyxc: np.ndarray) -> np.ndarray:
    """Frames as the extractor takes them: grey, 64 x 64, uint8."""
    from PIL import Image

    small = [Image.fromarray(f).convert("L").resize((SIZE, SIZE)) for f in frames_tyxc]
    return np.stack([np.asarray(f) for f in small])


def build(made: Saved, folder: Path | str, out: Path | str, fps: float = 5.0) -> Index:
    """Embeds every video (or file of features) of a folder in clips of `max_frames`.

    Clips overlap by half. What is written to `out` is read again by `load`.

    Args:
      made: the model; videos need its extractor, files of features do not.
      folder: of videos, or of npy / npz features [t, D].
      out: folder of the index.
      fps: frames a second that are looked at, or that the features have.

    Raises:
      DataNotFoundError: no video there.
      ValueError: videos, and a model without an extractor; features of another width.
    """
    check.positive(fps=fps)
    paths = sorted(p for p in Path(folder).rglob("*") if p.suffix.lower() in (*VIDEOS, *FEATURES))
    if not paths:
        raise DataNotFoundError(f"{folder} holds no video ({', '.join((*VIDEOS, *FEATURES))}).")
    out, most = Path(out), made.setting.max_frames
    feats, counts, names, spans, thumbs = [], [], [], [], []
    for path in paths:
        found, seconds, pictures = features_of(made, path, fps)
        for first in range(0, max(len(found) - most // 2, 1), max(most // 2, 1)):
            part = found[first : first + most]
            counts.append(len(part))
            feats.append(np.pad(part, ((0, most - len(part)), (0, 0))))
            names.append(path.relative_to(folder).as_posix())
            spans.append((seconds[first], seconds[first + len(part) - 1] + 1 / fps))
            picture = None if pictures is None else pictures[first + len(part) // 2]
            thumbs.append(_thumb(picture, out, len(thumbs)))
    video = np.stack(feats).astype(np.float32)
    pooled = evaluate.encode_videos(made.params, made.setting.model, video, np.array(counts)).pooled
    index = Index(_unit(pooled), tuple(names), np.array(spans, np.float32), tuple(thumbs))
    with files.aside(out / "index.npz") as part, part.open("wb") as handle:
        np.savez(handle, vectors=index.vectors, span=index.span)
    files.write_text(out / "index.json", json.dumps({"video": names, "thumbs": thumbs}) + "\n")
    return index


def features_of(
    made: Saved, path: Path, fps: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Features [t, D] of a video or a file of them, the second of each row, frames or None."""
    if path.suffix in FEATURES:
        found = np.load(path, allow_pickle=False)
        feats = found if path.suffix == ".npy" else found["features"]
        check.shape(f"features of {path.name}", feats, ["t", made.setting.model.video_dim])
        return np.asarray(feats, np.float32), np.arange(len(feats)) / fps, None
    if made.extractor is None:
        raise ValueError(
            f"{path.name} is a video, and the model takes features that it cannot extract itself; "
            "give a folder of npy files."
        )
    shown, seconds = _frames(path, fps)
    return np.asarray(frames.features(made.extractor, jnp.asarray(grey(shown)))), seconds, shown


def _thumb(picture: np.ndarray | None, out: Path, number: int) -> str:
    if picture is None:
        return ""
    from PIL import Image

    name = f"thumbs/{number:06d}.png"
    image = Image.fromarray(picture)
    image.thumbnail((160, 160))
    with files.aside(out / name) as part, part.open("wb") as handle:
        image.save(handle, "PNG")
    return name


def _unit(x: np.ndarray) -> np.ndarray:
    return (x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)).astype(np.float32)


def load(folder: Path | str) -> Index:
    """Reads what `build` wrote.

    Raises:
      FileNotFoundError: no index there.
    """
    folder = Path(folder)
    if not (folder / "index.json").is_file():
        raise FileNotFoundError(f"{folder} holds no index.")
    about = json.loads((folder / "index.json").read_text())
    with np.load(folder / "index.npz", allow_pickle=False) as kept:
        return Index(kept["vectors"], tuple(about["video"]), kept["span"], tuple(about["thumbs"]))


def search(made: Saved, index: Index, queries: Sequence[str], top: int = 5) -> list[list[Hit]]:
    """The best clips of each query, best first."""
    check.positive(top=top, queries=len(queries))
    ids = words.encode(made.vocab, queries, made.setting.max_words)
    text = _unit(evaluate.encode_texts(made.params, made.setting.model, ids).pooled)
    found = []
    for row in text @ index.vectors.T:
        best = np.argsort(-row, kind="stable")[:top]
        found.append([Hit(float(row[i]), index.video[i], float(index.span[i, 0]),
                          float(index.span[i, 1]), index.thumbs[i]) for i in best])  # fmt: skip
    return found

"""Feature files of any origin: one npy or npz for each video and one JSON of what is said in them.

A folder holds `features/NAME.npy` [t, D] (or npz with `features`), `fps` rows a second, and
`captions.json`:

    {"clips": [{"video": NAME, "start": 3.0, "end": 9.5, "caption": "...", "text": "...",
                "split": "train"}, ...],
     "narration": {NAME: {"start": [...], "end": [...], "text": [...]}, ...}}

`text` (the transcript) and `split` may be left out, and either of the two keys.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxml.core import check, files
from jaxml.inputs.integrity import DataNotFoundError
from jaxml.inputs.order import generator
from jaxml.univilm import words
from jaxml.univilm.clips import Clips, checked
from jaxml.univilm.config import Setting
from jaxml.univilm.narration import frame_span, merge_narration


class Spoken(NamedTuple):
    """A clip before its features are cut out."""

    video: str
    start: float
    end: float
    text: str
    caption: str
    split: str


def listed(folder: Path | str, kind: str = "clips", min_seconds: float = 5.0) -> list[Spoken]:
    """The clips of a folder in the order of videos: captioned ones, or merged narration.

    Raises:
      DataNotFoundError: no `captions.json`.
      ValueError: it is damaged, or lacks what is asked for.
    """
    check.one_of(("clips", "narration"), kind=kind)
    path = Path(folder) / "captions.json"
    if not path.is_file():
        raise DataNotFoundError(f"{path} does not exist; see the docs of jaxml.univilm.features.")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if kind == "clips":
            found = [_clip(row) for row in record.get("clips", [])]
        else:
            found = [
                Spoken(video, m.start, m.end, m.text, m.text, "train")
                for video, lines in record.get("narration", {}).items()
                for m in merge_narration(lines["start"], lines["end"], lines["text"], min_seconds)
            ]
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not a list of clips ({error!r}).") from None
    if not found:
        raise ValueError(f"{path} holds no {kind}.")
    return sorted(found, key=lambda c: (c.video, c.start))


def _clip(row: dict[str, Any]) -> Spoken:
    start, end = float(row["start"]), float(row["end"])
    return Spoken(str(row["video"]), start, end, str(row.get("text", "")), str(row["caption"]),
                  str(row.get("split", "train")))  # fmt: skip


def features_of(folder: Path | str, video: str) -> np.ndarray:
    """Features [t, D] of one video.

    Raises:
      DataNotFoundError: no file.
      ValueError: not a matrix.
    """
    base = Path(folder) / "features" / video
    for path in (base.with_name(f"{video}.npy"), base.with_name(f"{video}.npz")):
        if path.is_file():
            found = np.load(path, allow_pickle=False)
            feats = found if path.suffix == ".npy" else found["features"]
            check.shape(f"features of {video}", feats, ["t", "D"])
            return feats
    raise DataNotFoundError(f"{base}.npy (or .npz) does not exist; captions.json names it.")


def cut(
    folder: Path | str,
    spoken: Sequence[Spoken],
    vocab: words.Vocabulary,
    setting: Setting,
    fps: float = 1.0,
) -> Clips:
    """Clips of a folder: features of each span, cut to `max_frames`, and texts to `max_words`.

    Raises:
      ValueError: features of another width than the model's, or that are not finite.
    """
    check.positive(clips=len(spoken))
    cfg, most = setting.model, setting.max_frames
    video = np.zeros((len(spoken), most, cfg.video_dim), np.float32)
    num, names = np.zeros(len(spoken), np.int32), {}
    read: tuple[str, np.ndarray | None] = ("", None)
    for i, clip in enumerate(spoken):
        if read[0] != clip.video or read[1] is None:
            read = (clip.video, features_of(folder, clip.video))
        feats = read[1]
        assert feats is not None
        if feats.shape[1] != cfg.video_dim:
            raise ValueError(
                f"features of {clip.video} must have width {cfg.video_dim}, the model's video_dim; "
                f"got {feats.shape[1]}."
            )
        first, stop = frame_span(clip.start, clip.end, fps, len(feats))
        num[i] = min(stop - first, most)
        video[i, : num[i]] = feats[first : first + num[i]]
        names.setdefault(clip.video, len(names))
    text, caption = (
        words.encode(vocab, said, setting.max_words)
        for said in ([c.text for c in spoken], [c.caption for c in spoken])
    )
    item = np.array([names[c.video] for c in spoken], np.int32)
    return checked(Clips(video, num, text, caption, item))


def synthetic(folder: Path | str, setting: Setting, num_videos: int = 6, seed: int = 0) -> None:
    """Writes random features and sentences in the shapes of a protocol: to try one without data."""
    random, folder = generator(seed, "synthetic"), Path(folder)
    clips, narration = [], {}
    for v in range(num_videos):
        seconds = int(random.integers(20, 40))
        feats = random.standard_normal((seconds, setting.model.video_dim)).astype(np.float32)
        with files.aside(folder / "features" / f"v{v}.npy") as part, part.open("wb") as out:
            np.save(out, feats)
        starts = np.arange(0, seconds - 6, 6.0)
        said = [" ".join(random.choice(_WORDS, 5)) for _ in starts]
        narration[f"v{v}"] = {"start": starts.tolist(), "end": (starts + 3).tolist(), "text": said}
        for start, text in zip(starts.tolist(), said, strict=True):
            clips.append({"video": f"v{v}", "start": start, "end": start + 5, "caption": text,
                          "text": text, "split": "test" if v % 3 == 2 else "train"})  # fmt: skip
    record = {"clips": clips, "narration": narration}
    files.write_text(folder / "captions.json", json.dumps(record, indent=1) + "\n")


_WORDS = ("add", "the", "onion", "to", "pan", "and", "stir", "cut", "salt", "mix", "now", "water")

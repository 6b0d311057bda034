"""Captioned Moving-MNIST: two digits that move, what is said of them, and what is said amiss.

Rendering is Sync-DRAW's (Mittal et al. 2017): 64 x 64, 10 frames, digits of 28 x 28 joined by their
maximum, a start anywhere, reflection at the borders. MMC-720 is ours: digits a < b, each with a
motion and a speed, 720 captions of which 200 are kept for testing with test digits.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxml.core import check
from jaxml.core.types import Array
from jaxml.inputs import source
from jaxml.inputs.integrity import DataNotFoundError
from jaxml.inputs.order import generator
from jaxml.inputs.source import Provenance

SIZE, DIGIT, FRAMES = 64, 28, 10
FREE = SIZE - DIGIT
MOTIONS = ("left and right", "up and down")
SPEEDS = {"slowly": 0.08, "quickly": 0.2}
FILLERS = ("okay so", "now let me see", "and then you know", "all right")


class Digits(NamedTuple):
    """Images uint8 [n, 28, 28] by class, int [n]."""

    image: np.ndarray
    label: np.ndarray


class Combination(NamedTuple):
    """What is to be seen: two digits, motions (index of `MOTIONS`) and speeds (words)."""

    a: int
    motion_a: int
    speed_a: str
    b: int
    motion_b: int
    speed_b: str


class Videos(NamedTuple):
    """Clips before rendering.

    Attributes:
      digits: rows of a `Digits`, [n, 2].
      path: top left corners [n, 10, 2, 2] (frame, digit, y and x), in pixels.
      caption: what is to be seen.
    """

    digits: np.ndarray
    path: np.ndarray
    caption: tuple[str, ...]


def digits(split: str) -> tuple[Digits, Provenance]:
    """MNIST's "train" or "test" images, or drawn ones where MNIST is not here."""
    try:
        located = source.find("mnist")
    except DataNotFoundError:
        return drawn(2000 if split == "train" else 400, 0 if split == "train" else 1), Provenance(
            "drawn digits", "part of this library", "-", 0, "Apache-2.0"
        )
    records = source.records("mnist", split)
    columns = getattr(records, "columns", None)
    if columns is None:
        rows = [records[i] for i in range(len(records))]
        columns = {k: np.stack([np.asarray(r[k]) for r in rows]) for k in ("image", "label")}
    image = np.asarray(columns["image"], np.uint8).reshape(-1, DIGIT, DIGIT)
    about = source.dataset("mnist")
    where = Provenance("mnist", located.how, about.files[0].sha256, about.num_bytes, about.licence)
    return Digits(image, np.asarray(columns["label"], np.int32)), where


_SEGMENTS = (
    "abcdef",
    "bc",
    "abged",
    "abgcd",
    "fgbc",
    "afgcd",
    "afgedc",
    "abc",
    "abcdefg",
    "abcdfg",
)
_PLACES = {
    "a": (4, 8, 3, 13), "b": (5, 18, 9, 3), "c": (14, 18, 9, 3), "d": (21, 8, 3, 13),
    "e": (14, 7, 9, 3), "f": (5, 7, 9, 3), "g": (12, 8, 3, 13),
}  # fmt: skip


def drawn(num: int, seed: int) -> Digits:
    """Seven-segment digits with jitter and noise: what a machine without MNIST uses."""
    random = generator(seed, "drawn digits")
    label = (np.arange(num) % 10).astype(np.int32)
    image = np.zeros((num, DIGIT, DIGIT), np.uint8)
    for row, k in zip(image, label, strict=True):
        dy, dx = random.integers(-2, 3, 2)
        for segment in _SEGMENTS[k]:
            y, x, h, w = _PLACES[segment]
            row[y + dy : y + dy + h, x + dx : x + dx + w] = random.integers(160, 256)
        row[:] = np.where(row > 0, row - random.integers(0, 60, row.shape), 0)
    return Digits(image, label)


def mmc720() -> list[Combination]:
    """All 720, in the order that the split is defined over."""
    kinds = [(m, s) for m in range(2) for s in SPEEDS]
    return [
        Combination(a, *first, b, *second)
        for a in range(10)
        for b in range(a + 1, 10)
        for first in kinds
        for second in kinds
    ]


def mmc_split() -> tuple[list[Combination], list[Combination]]:
    """520 combinations to train on and 200 that are never trained on."""
    every, order = mmc720(), np.random.default_rng(7).permutation(720)
    return [every[i] for i in order[200:]], [every[i] for i in order[:200]]


def caption(c: Combination) -> str:
    """E.g. "digit 1 is moving slowly left and right and digit 4 is moving quickly up and down"."""
    return (
        f"digit {c.a} is moving {c.speed_a} {MOTIONS[c.motion_a]} and "
        f"digit {c.b} is moving {c.speed_b} {MOTIONS[c.motion_b]}"
    )


def ordered_split(seed: int = 0) -> tuple[list[Combination], list[Combination]]:
    """The published variant: ordered digit pairs, one speed, half of 400 combinations to train on.

    For each pair of digits the four pairs of motions are split in two at random, as the published
    generator does. Pairs (3, 7) and (7, 3) look alike: that is the variant's ambiguity.
    """
    random, parts = generator(seed, "ordered"), ([], [])
    for a in range(10):
        for b in range(10):
            order = random.permutation(4)
            for place, k in enumerate(order):
                made = Combination(a, int(k) // 2, "quickly", b, int(k) % 2, "quickly")
                parts[place // 2].append(made)
    return parts


def ordered_caption(c: Combination) -> str:
    """The published wording, without a speed."""
    return f"digit {c.a} is {MOTIONS[c.motion_a]} and digit {c.b} is {MOTIONS[c.motion_b]} ."


def make(
    combinations: list[Combination],
    images: Digits,
    num: int,
    seed: int,
    describe=caption,  # noqa: ANN001
) -> Videos:
    """`num` clips: every combination in turn, with images and starts drawn at random.

    Raises:
      ValueError: no combination, or a digit without an image.
    """
    check.positive(combinations=len(combinations), num=num)
    random = generator(seed, "moving", num)
    by_class = [np.flatnonzero(images.label == k) for k in range(10)]
    if not all(len(rows) for rows in by_class):
        raise ValueError("images must hold every digit from 0 to 9.")
    chosen = [combinations[i % len(combinations)] for i in range(num)]
    rows = np.array([[by_class[k][random.integers(len(by_class[k]))] for k in (c.a, c.b)]
                     for c in chosen])  # fmt: skip
    motion = np.array([(c.motion_a, c.motion_b) for c in chosen])
    speed = np.array([(SPEEDS[c.speed_a], SPEEDS[c.speed_b]) for c in chosen])
    return Videos(rows, _paths(random, motion, speed), tuple(describe(c) for c in chosen))


def _paths(random: np.random.Generator, motion: np.ndarray, speed: np.ndarray) -> np.ndarray:
    """Corners [n, 10, 2, 2]: constant speed along one axis, reflected at the borders."""
    start = random.random((*motion.shape, 2))
    sign = random.choice([-1.0, 1.0], motion.shape)
    axis = np.where(motion == 0, 1, 0)  # left and right moves x, the second coordinate
    moved = np.zeros((*motion.shape, 2))
    np.put_along_axis(moved, axis[..., None], (sign * speed)[..., None], -1)
    time = np.arange(FRAMES)[None, :, None, None]
    place = (start[:, None] + time * moved[:, None]) % 2
    return np.rint(FREE * np.where(place > 1, 2 - place, place)).astype(np.int32)


@jax.jit
def render(image_nkyx: Array, path_nfkc: Array) -> Array:
    """Frames uint8 [n, 10, 64, 64] of digits [n, 2, 28, 28] along their paths."""

    def paste(image: Array, corner: Array) -> Array:
        canvas = jnp.zeros((SIZE, SIZE), image.dtype)
        return jax.lax.dynamic_update_slice(canvas, image, (corner[0], corner[1]))

    def frame(images: Array, corners: Array) -> Array:
        return jnp.max(jax.vmap(paste)(images, corners), 0)

    return jax.vmap(jax.vmap(frame, (None, 0)))(image_nkyx, path_nfkc)


class Narrated(NamedTuple):
    """Narrated videos: clips in order, what is said at each, and the video of each [n]."""

    videos: Videos
    said: tuple[str, ...]
    item: np.ndarray


def narrate(
    combinations: list[Combination],
    images: Digits,
    num_videos: int,
    seed: int,
    *,
    clips: tuple[int, int] = (6, 12),
    aligned: float = 0.6,
    drop: float = 0.2,
    filler: float = 0.3,
) -> Narrated:
    """Videos of several clips whose narration is late or early, patchy and wordy.

    Line i describes clip i with probability `aligned`, else the one before or after it; a share
    `drop` of words is lost, and a share `filler` of lines opens with words that mean nothing.
    """
    check.between(0, 1, aligned=aligned, drop=drop, filler=filler)
    random = generator(seed, "narration")
    counts = random.integers(clips[0], clips[1] + 1, num_videos)
    num = int(counts.sum())
    order = [combinations[i] for i in random.integers(len(combinations), size=num)]
    videos, said = make(order, images, num, seed), []
    for first, count in zip(np.cumsum(counts) - counts, counts, strict=True):
        for i in range(count):
            about = i
            if random.random() >= aligned:
                about = min(max(i + (1 if random.random() < 0.5 else -1), 0), count - 1)
            words = videos.caption[first + about].split()
            kept = [w for w in words if random.random() >= drop]
            opening = [FILLERS[random.integers(len(FILLERS))]] if random.random() < filler else []
            said.append(" ".join([*opening, *kept]))
    return Narrated(videos, tuple(said), np.repeat(np.arange(num_videos), counts))

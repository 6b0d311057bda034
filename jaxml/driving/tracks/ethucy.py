"""ETH and UCY pedestrians, leave one scene out: 8 positions seen, 12 to forecast, every 0.4 s.

Training and validation are the early and the late part of the *other* scenes; the scene that is
tested takes part in neither (Gupta et al. 2018, protocol of Social-GAN).
"""

import io
from typing import NamedTuple

import numpy as np

from jaxml.driving.data import archive
from jaxml.driving.tracks.windows import Windows, concatenate, cut
from jaxml.inputs.source import Provenance

FILES = {
    "eth": ("biwi_eth",),
    "hotel": ("biwi_hotel",),
    "univ": ("students001", "students003"),
    "zara1": ("crowds_zara01",),
    "zara2": ("crowds_zara02",),
}
"""What each scene is tested on."""
MORE = ("crowds_zara03", "uni_examples")
"""Recordings that are trained on and never tested."""
SCENES = tuple(FILES)
NUM_PAST, NUM_FUTURE, STEP_S = 8, 12, 0.4


class Fold(NamedTuple):
    """One scene left out: windows to train on, to choose on, and to test on, in this order."""

    train: Windows
    validation: Windows
    test: Windows


def parse(text: str, name: str = "") -> Windows:
    """Windows of one recording, at every frame, of at least two agents.

    Args:
      text: lines of frame, agent, x, y (metres); consecutive *recorded* frames make a window, as
        in all published numbers, also across the rare gap.
      name: of the recording.

    Raises:
      ValueError: a line without four numbers, or frames that do not ascend.
    """
    try:
        rows = np.loadtxt(io.StringIO(text), ndmin=2)
    except ValueError as error:
        raise ValueError(f"{name}: lines must hold frame, agent, x, y; {error}.") from None
    if rows.shape[1:] != (4,):
        raise ValueError(
            f"{name}: lines must hold frame, agent, x, y; got {rows.shape[1]} numbers."
        )
    if np.any(np.diff(rows[:, 0]) < 0):
        raise ValueError(f"frames must ascend; {name} does not.")
    frames, index = np.unique(rows[:, 0], return_inverse=True)
    nothing = np.full((len(rows), 3), np.nan)
    body = np.concatenate([rows[:, 2:4], nothing], 1)
    tracks = {
        int(agent): (index[rows[:, 1] == agent], body[rows[:, 1] == agent])
        for agent in np.unique(rows[:, 1])
    }
    return cut(
        name, tracks, range(len(frames) - NUM_PAST - NUM_FUTURE + 1),
        num_past=NUM_PAST, num_future=NUM_FUTURE, stride=1, step_s=STEP_S, fewest=2,
    )  # fmt: skip


def load(path: str | None = None) -> tuple[dict[str, Fold], Provenance]:
    """The five folds by the scene left out.

    Raises:
      DataNotFoundError: the set is not on this machine; says how to get it.
    """
    found, about = archive.texts("eth_ucy", path)
    names = (*(file for files in FILES.values() for file in files), *MORE)
    parts = {
        split: {n: parse(found[f"{split}/{n}_{split}"], n) for n in names}
        for split in ("train", "val")
    }
    folds = {}
    for scene, files in FILES.items():
        others = [n for n in names if n not in files]
        train, validation = (
            concatenate(f"{scene}-{split}", [parts[split][n] for n in others])
            for split in ("train", "val")
        )
        test = concatenate(scene, [parse(found[f"all_data/{n}"], n) for n in files])
        folds[scene] = Fold(train, validation, test)
    return folds, about

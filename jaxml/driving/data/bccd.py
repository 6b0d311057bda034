"""BCCD: microscope images of blood cells with boxes, the real set for 2D detection."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxml.core import check
from jaxml.driving.data import archive

CLASSES = ("RBC", "WBC", "Platelets")


class CellImages(NamedTuple):
    """One split, its ragged boxes padded.

    Attributes:
      image: uint8 [n, 240, 320, 3].
      box: x1, y1, x2, y2 in pixels [n, room, 4].
      label: index into `CLASSES`, int32 [n, room].
      mask: True where there is a box, bool [n, room].
    """

    image: np.ndarray
    box: np.ndarray
    label: np.ndarray
    mask: np.ndarray


def bccd(split: str, path: Path | str | None = None) -> CellImages:
    """The official split "train" (205 images), "val" (87) or "test" (72).

    Raises:
      ValueError: another split.
      DataNotFoundError: there is no copy.
    """
    check.one_of(("train", "val", "test"), split=split)
    (content,) = archive.contents("bccd", path).values()
    found = archive.arrays(content)
    images, boxes = archive.jpegs(found["jpeg"], found["jpeg_offset"]), found["boxes"]
    rows = [boxes[boxes[:, 0] == i] for i in found[split]]
    room = int(np.bincount(boxes[:, 0].astype(int)).max())  # of all splits: one shape
    box = np.zeros((len(rows), room, 4), np.float32)
    label = np.zeros((len(rows), room), np.int32)
    mask = np.zeros((len(rows), room), bool)
    for i, row in enumerate(rows):
        box[i, : len(row)], label[i, : len(row)] = row[:, 2:], row[:, 1]
        mask[i, : len(row)] = True
    return CellImages(np.stack([images[i] for i in found[split]]), box, label, mask)

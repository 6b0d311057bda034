"""Images as rows, from what `jaxml.inputs` finds, or points drawn where it finds nothing."""

import hashlib
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from jaxml.inputs import image, source, synthetic
from jaxml.inputs.integrity import DataNotFoundError


class Data(NamedTuple):
    """Rows in [0, 1], float32 [n, d], and labels int32 [n]."""

    x: np.ndarray
    label: np.ndarray
    test_x: np.ndarray
    test_label: np.ndarray

    def first(self, num: int) -> "Data":
        """The same with the first training rows only."""
        return self._replace(x=self.x[:num], label=self.label[:num])


class Found(NamedTuple):
    """Data, and for a report (name, where, sha256, licence) and why they are not the real ones."""

    data: Data
    provenance: tuple[str, str, str, str]
    why: str


def rows_of(images: np.ndarray) -> np.ndarray:
    """uint8 images [n, ...] as rows in [0, 1]."""
    return images.reshape(len(images), -1).astype(np.float32) / 255


def load(name: str, path: Path | str | None = None) -> Found:
    """A labelled image set.

    Raises:
      DataNotFoundError: it is not on this machine; says how to get it.
    """
    located, licence = source.find(name, path), source.dataset(name).licence
    train, test = (image.labelled(name, split, path) for split in ("train", "test"))
    digest = hashlib.sha256()
    for images, _ in (train, test):
        digest.update(np.ascontiguousarray(images).data)
    data = Data(rows_of(train[0]), np.asarray(train[1], np.int32),
                rows_of(test[0]), np.asarray(test[1], np.int32))  # fmt: skip
    return Found(data, (name, located.how, digest.hexdigest(), licence), "")


def made(num_train: int, num_test: int, width: int = 784) -> Found:
    """Points around ten centres with 67 coordinates always 0, drawn from a fixed key."""
    drawn = synthetic.gaussian_clusters(
        jax.random.key(0), num_train + num_test, 10, width, spread=6.0
    )
    x = np.clip(np.asarray(drawn.points) / 20 + 0.5, 0, 1).astype(np.float32)
    x[:, : min(67, width // 4)] = 0
    label = np.asarray(drawn.labels, np.int32)
    digest = hashlib.sha256(x.tobytes()).hexdigest()
    data = Data(x[:num_train], label[:num_train], x[num_train:], label[num_train:])
    return Found(data, ("points around centres", "drawn here", digest, "none needed"), "")


def load_or_make(name: str, num_train: int) -> Found:
    """The set where it is found, else drawn points and the reason."""
    try:
        return load(name)
    except DataNotFoundError as error:
        return made(num_train, 2000)._replace(why=f"this run drew points instead: {error}")

"""Images: the picture sets as arrays, and random views as pure functions."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxml.core import check, rng
from jaxml.core.types import Array, Key
from jaxml.inputs import source
from jaxml.inputs.codec import decode
from jaxml.inputs.raw import Columns

__all__ = [
    "CIFAR10_MEAN",
    "CIFAR10_STD",
    "cifar10",
    "decode",
    "fashion_mnist",
    "labelled",
    "mnist",
    "normalise",
    "random_crop",
    "random_flip",
]

CIFAR10_MEAN = (0.49140, 0.48216, 0.44653)
"""Mean of each channel over the 50,000 training images, in [0, 1]."""
CIFAR10_STD = (0.24703, 0.24349, 0.26159)
"""Standard deviation of each channel over the same."""


def mnist(split: str, path: Path | str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """MNIST: uint8 images [n, 28, 28] and int32 labels [n].

    Args:
      split: "train" (60,000) or "test" (10,000).
      path: see `source.find`.

    Raises:
      ValueError: another split.
      DataNotFoundError, DataCorruptError: see `source.records`.
    """
    return labelled("mnist", split, path)


def fashion_mnist(split: str, path: Path | str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Fashion-MNIST, as `mnist`."""
    return labelled("fashion_mnist", split, path)


def cifar10(split: str, path: Path | str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """CIFAR-10: uint8 images [n, 32, 32, 3] and int32 labels [n].

    From the raw files the first 20,000 training and 5,000 test images; from a TFDS directory
    of the complete set all 50,000 and 10,000 (in the same order if `jaxml data prepare
    cifar10_complete` wrote it). Arguments and errors as in `mnist`.
    """
    return labelled("cifar10", split, path)


def labelled(
    name: str | source.DataSet, split: str, path: Path | str | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """All images and labels of a split whose records hold `image` and `label`."""
    rows = source.records(name, split, path)
    if isinstance(rows, Columns):
        return rows.columns["image"], rows.columns["label"]
    pairs = [(row["image"], row["label"]) for row in rows]
    images, labels = zip(*pairs, strict=True)
    return np.stack(images), np.asarray(labels, np.int32)


def normalise(images: Array, mean: tuple[float, ...], std: tuple[float, ...]) -> Array:
    """`(images / 255 - mean) / std` in float32, channels last.

    Args:
      images: [..., c], in [0, 255].
      mean: c numbers.
      std: c numbers above 0.

    Raises:
      ValueError: other than one number for each channel.
    """
    check.positive(**{f"std[{i}]": value for i, value in enumerate(std)})
    for name, values in (("mean", mean), ("std", std)):
        if len(values) != images.shape[-1]:
            raise ValueError(
                f"{name} must have one number for each of {images.shape[-1]} channels; "
                f"got {len(values)}."
            )
    scaled = images.astype(jnp.float32) / 255.0
    shape = (1,) * (images.ndim - 1) + (-1,)
    return (scaled - jnp.asarray(mean).reshape(shape)) / jnp.asarray(std).reshape(shape)


def random_flip(key: Key, images_byxc: Array) -> Array:
    """Each image of [b, y, x, c] mirrored left to right with probability one half."""
    check.shape("images_byxc", images_byxc, ["b", "y", "x", "c"])
    flip = jax.random.bernoulli(key, 0.5, (images_byxc.shape[0], 1, 1, 1))
    return jnp.where(flip, images_byxc[:, :, ::-1], images_byxc)


def random_crop(key: Key, images_byxc: Array, padding: int) -> Array:
    """Each image of [b, y, x, c] moved by up to `padding` pixels each way; zeros come in.

    Raises:
      ValueError: a negative padding, or another rank.
    """
    sizes = check.shape("images_byxc", images_byxc, ["b", "y", "x", "c"])
    check.at_least(0, padding=padding)
    around = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    padded = jnp.pad(images_byxc, around)
    rows, columns = (
        jax.random.randint(rng.fold(key, axis), (sizes["b"],), 0, 2 * padding + 1)
        for axis in ("rows", "columns")
    )

    def cut(image: Array, row: Array, column: Array) -> Array:
        size = (sizes["y"], sizes["x"], sizes["c"])
        return jax.lax.dynamic_slice(image, (row, column, jnp.zeros_like(row)), size)

    return jax.vmap(cut)(padded, rows, columns)

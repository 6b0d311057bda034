"""Images: decoding, the picture sets as arrays, and random views as pure functions."""

import io
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxml.core import check, rng
from jaxml.core.types import Array, Key
from jaxml.inputs import source
from jaxml.inputs.raw import Columns

CIFAR10_MEAN = (0.49140, 0.48216, 0.44653)
"""Mean of each channel over the 50,000 training images, in [0, 1]."""
CIFAR10_STD = (0.24703, 0.24349, 0.26159)
"""Standard deviation of each channel over the same."""


def decode(content: bytes, channels: int | None = None) -> np.ndarray:
    """The pixels of an encoded image (PNG, JPEG, WebP, ...).

    Args:
      content: the file's bytes.
      channels: 1 for grey, 3 for RGB; None keeps the image's own.

    Returns:
      uint8 [y, x] for grey, else [y, x, c].

    Raises:
      ValueError: not an image that Pillow reads, or another number of channels.
    """
    from PIL import Image, UnidentifiedImageError

    modes = {1: "L", 3: "RGB", None: None}
    if channels not in modes:
        raise ValueError(f"channels must be 1, 3 or None; got channels={channels}.")
    try:
        with Image.open(io.BytesIO(content)) as picture:
            return np.asarray(picture.convert(modes[channels]) if channels else picture)
    except (UnidentifiedImageError, OSError) as error:
        raise ValueError(f"content must be an image; got {len(content)} bytes ({error}).") from None


def encode_png(pixels: np.ndarray) -> bytes:
    """PNG bytes of uint8 pixels, [y, x] or [y, x, 3]; lossless."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG", compress_level=1)
    return stream.getvalue()


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

    From raw files the first 20,000 training and 5,000 test images; from the official TFDS
    directory all 50,000 and 10,000. Arguments and errors as in `mnist`.
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

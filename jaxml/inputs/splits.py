"""Labelled images in memory, and batches of them as networks see them."""

import dataclasses
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxml.core import check, rng
from jaxml.core.types import Array, Key
from jaxml.inputs import packed
from jaxml.inputs.image import normalise, random_crop, random_flip
from jaxml.inputs.order import generator


class Images(NamedTuple):
    """A labelled set.

    Attributes:
      image: uint8 [n, y, x, c].
      label: int32 [n].
      mean: of each channel of the training images, in [0, 1].
      std: likewise.
    """

    image: np.ndarray
    label: np.ndarray
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def rows(self, rows: np.ndarray | slice) -> "Images":
        """Some of the examples."""
        return self._replace(image=self.image[rows], label=self.label[rows])


class Splits(NamedTuple):
    """Training, held-out training and test images; where they came from."""

    train: Images
    held_out: Images
    test: Images
    name: str
    where: str
    licence: str = ""

    def digest(self) -> str:
        """SHA-256 of the training and test images."""
        found = hashlib.sha256()
        for part in (self.train, self.held_out, self.test):
            found.update(np.ascontiguousarray(part.image).data)
        return found.hexdigest()


def synthetic(num_train: int, num_held_out: int, shape: tuple[int, int, int]) -> Splits:
    """Ten classes of smooth random patterns with noise: for machines without data.

    Args:
      num_train: training images.
      num_held_out: held-out images; there are a quarter as many test images as training images.
      shape: y, x, c.
    """
    random = generator(0, "synthetic images")
    num_test = max(num_train // 4, 10)
    coarse = random.normal(size=(10, 4, 4, shape[2]))
    grid = [np.minimum(np.arange(n) * 4 // n, 3) for n in shape[:2]]
    patterns = coarse[:, grid[0]][:, :, grid[1]]

    def draw(num: int) -> tuple[np.ndarray, np.ndarray]:
        label = random.integers(0, 10, num)
        noise = random.normal(size=(num, *shape), scale=1.5)
        pixels = 128 + 32 * (patterns[label] + noise)
        return np.clip(pixels, 0, 255).astype(np.uint8), label

    sets = draw(num_train + num_held_out), draw(num_test)
    return cut(*sets, num_train, num_held_out, "synthetic patterns", "drawn here", "none needed")


def cut(
    train: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    num_train: int,
    num_held_out: int,
    name: str,
    where: str,
    licence: str = "",
) -> Splits:
    """The first training images to train on, the next to choose on, and the test images.

    Raises:
      ValueError: more images asked for than there are.
    """
    images, labels = _with_channels(train[0]), np.asarray(train[1], np.int32)
    check.between(1, len(images), num_train_and_held_out=num_train + num_held_out)
    pixels = images[:num_train].reshape(-1, images.shape[-1]) / np.float32(255)
    mean, std = (tuple(map(float, f(pixels, 0, dtype=np.float64))) for f in (np.mean, np.std))
    whole = Images(images, labels, mean, std)
    held_out = whole.rows(slice(num_train, num_train + num_held_out))
    tested = Images(_with_channels(test[0]), np.asarray(test[1], np.int32), mean, std)
    return Splits(whole.rows(slice(num_train)), held_out, tested, name, where, licence)


def _with_channels(images: np.ndarray) -> np.ndarray:
    return images[..., None] if images.ndim == 3 else images


def load_npz(path: Path | str, num_train: int, num_held_out: int) -> Splits:
    """Splits from an npz with `train_image`, `train_label`, `test_image`, `test_label`.

    Raises:
      FileNotFoundError: no such file.
      ValueError: an array is missing, or too few images.
    """
    train_image, train_label, test_image, test_label = packed.load(path).values()
    name = Path(path).stem
    return cut(
        (train_image, train_label), (test_image, test_label), num_train, num_held_out, name, "npz"
    )


def load(name: str, num_train: int, num_held_out: int, path: Path | str | None = None) -> Splits:
    """Splits of a set that `jaxml.inputs` knows, or of `cifar100` where TFDS has it.

    Raises:
      DataNotFoundError: it is not on this machine; says how to get it.
    """
    from jaxml.inputs import image, source

    row = _cifar100() if name == "cifar100" else source.dataset(name)
    located = source.find(row, path)
    train, test = (image.labelled(row, split, path) for split in ("train", "test"))
    return cut(train, test, num_train, num_held_out, name, located.how, row.licence)


def _cifar100() -> Any:
    from jaxml.inputs.sets import DataSet

    return DataSet(
        "cifar100",
        "photographs, 32x32 RGB, 100 classes",
        "free for research, no formal licence (Krizhevsky 2009)",
        ("merge",),
        "the TFDS directory cifar100/3.0.2",
        layout="tfds",
        splits=(("train", 50_000), ("test", 10_000)),
        tfds=("cifar100/3.0.2",),
    )


def augment(key: Key, images: Array) -> Array:
    """A mirrored, shifted view of each image; zeros (after normalising: the mean) come in."""
    return random_crop(rng.fold(key, "crop"), random_flip(rng.fold(key, "flip"), images), 4)


@dataclasses.dataclass(frozen=True)
class Batches:
    """Normalised images [b, y, x, c] in batches; every pass gives the same ones.

    Attributes:
      images: the set.
      batch_size: b; a smaller last batch is left out where `keep_rest` is False.
      augmented: random views, in random order, as in training.
      seed: of views and order.
      keep_rest: give the smaller last batch too.
    """

    images: Images
    batch_size: int
    augmented: bool = False
    seed: int = 0
    keep_rest: bool = True

    def __iter__(self) -> Iterator[Array]:
        """One pass."""
        num = len(self.images.label)
        rows = (
            generator(self.seed, "batches").permutation(num) if self.augmented else np.arange(num)
        )
        key = jax.random.key(self.seed)
        for i, start in enumerate(range(0, num, self.batch_size)):
            here = rows[start : start + self.batch_size]
            if len(here) < self.batch_size and not self.keep_rest:
                return
            pixels = jnp.asarray(self.images.image[here])
            yield _view(pixels, self.images.mean, self.images.std, rng.fold(key, i), self.augmented)

    def __len__(self) -> int:
        """Batches of one pass."""
        num = len(self.images.label)
        return -(-num // self.batch_size) if self.keep_rest else num // self.batch_size


def _prepare(
    pixels: Array, mean: tuple[float, ...], std: tuple[float, ...], key: Key, augmented: bool
) -> Array:
    images = normalise(pixels, mean, std)
    return augment(key, images) if augmented else images


_view = jax.jit(_prepare, static_argnums=(1, 2, 4))

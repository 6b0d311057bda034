"""Image sets in one npz, for machines that have neither the raw files nor TFDS."""

from pathlib import Path
from typing import Any

import numpy as np

from jaxml.core import files

NAMES = ("train_image", "train_label", "test_image", "test_label")


def pack(name: str, path: Path | str) -> None:
    """Writes a labelled image set of this machine's data folders as a compressed npz.

    Args:
      name: of the set, e.g. "mnist".
      path: of the file.

    Raises:
      DataNotFoundError: the set is not here.
    """
    from jaxml.inputs import image

    arrays = {}
    for split in ("train", "test"):
        images, labels = image.labelled(name, split)
        arrays |= {f"{split}_image": images, f"{split}_label": labels.astype(np.uint8)}
    _write(Path(path), arrays, compressed=True)


def join(folder: Path) -> Path:
    """One npz from lossless WebP mosaics `cifar10-train-00.webp`, ... and label files in a folder.

    Raises:
      FileNotFoundError: a shard is missing.
    """
    from jaxml.inputs.raw import mosaic_tiles

    path = folder / "cifar10.npz"
    if path.exists():
        return path
    arrays = {}
    for split, num in (("train", 20), ("test", 4)):
        shards = [folder / f"cifar10-{split}-{i:02d}.webp" for i in range(num)]
        if missing := [shard.name for shard in shards if not shard.exists()]:
            raise FileNotFoundError(f"{folder} lacks {', '.join(missing)}.")
        tiles = np.concatenate([mosaic_tiles(shard.read_bytes()) for shard in shards])
        labels = np.load(folder / f"cifar10-{split}-labels.npy", allow_pickle=False)
        arrays |= {f"{split}_image": tiles, f"{split}_label": labels}
    _write(path, arrays, compressed=False)
    return path


def load(path: Path | str) -> dict[str, np.ndarray]:
    """The arrays of a packed set: uint8 images [n, ...] and labels [n] of `train` and `test`.

    Raises:
      FileNotFoundError: no such file.
      ValueError: an array is missing.
    """
    with np.load(path, allow_pickle=False) as arrays:
        if missing := [name for name in NAMES if name not in arrays]:
            raise ValueError(f"{path} must hold {', '.join(NAMES)}; lacks {', '.join(missing)}.")
        return {name: arrays[name] for name in NAMES}


def _write(path: Path, arrays: dict[str, np.ndarray], compressed: bool) -> None:
    save: Any = np.savez_compressed if compressed else np.savez  # stubs take names for options
    with files.aside(path) as part, part.open("wb") as out:
        save(out, **arrays)

"""The frozen extractor of frame features: a small network that says which digit is where.

It stands for S3D, whose weights are not to be had: 64 x 64 grey frames to an 8 x 8 grid of ten
digits and background; a feature is the map of the ten, 640 numbers.
"""

import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxml.core import check, param, tree, weights
from jaxml.core.types import Array, Key, PyTree
from jaxml.nn import conv
from jaxml.train import loop, state, step
from jaxml.univilm import moving
from jaxml.univilm.moving import DIGIT, SIZE, Digits

GRID, CLASSES = 8, 11
WIDTH = GRID * GRID * 10
"""Of a feature."""


def params(base: int = 16) -> PyTree:
    """Declares five convolutions (three of stride 2) and the read-out."""
    check.positive(base=base)
    widths = (1, base, 2 * base, 3 * base, 4 * base, 4 * base)
    kernels = (5, 3, 3, 3, 3)
    layers = {
        f"conv{i}": conv.params(widths[i], widths[i + 1], kernel)
        for i, kernel in enumerate(kernels)
    }
    return {**layers, "out": conv.params(widths[-1], CLASSES, 1)}


def init(key: Key, base: int = 16) -> PyTree:
    """Makes the parameters."""
    return param.init(key, params(base))


def logits(p: PyTree, frames_nyx: Array) -> Array:
    """Logits [n, 8, 8, 11] of uint8 frames [n, 64, 64]; class 10 is background."""
    check.shape("frames_nyx", frames_nyx, ["n", SIZE, SIZE])
    x = frames_nyx[..., None].astype(p["out"]["kernel"].dtype) / 255
    for i, stride in enumerate((2, 2, 2, 1, 1)):
        x = jax.nn.relu(conv.apply(p[f"conv{i}"], x, stride))
    return conv.apply(p["out"], x).astype(jnp.float32)


def features(p: PyTree, frames_nyx: Array) -> Array:
    """Features [n, 640]: probabilities of the ten digits in every cell."""
    return jax.nn.softmax(logits(p, frames_nyx))[..., :10].reshape(-1, WIDTH)


def targets(label_nk: Array, corner_nkc: Array) -> Array:
    """Class of every cell [n, 8, 8]: a digit where its centre lies, else background."""
    cell = (corner_nkc + DIGIT // 2) * GRID // SIZE
    row = jnp.arange(label_nk.shape[0])
    grid = jnp.full((label_nk.shape[0], GRID, GRID), CLASSES - 1, label_nk.dtype)
    for k in range(label_nk.shape[1]):
        grid = grid.at[row, cell[:, k, 0], cell[:, k, 1]].set(label_nk[:, k])
    return grid


class _Frames(Iterator[dict[str, np.ndarray]]):
    """Endless batches of two digits anywhere."""

    def __init__(self, digits: Digits, size: int, seed: int):
        self._digits, self._size = digits, size
        self._random = np.random.default_rng([seed, 11])

    def __next__(self) -> dict[str, np.ndarray]:
        rows = self._random.integers(len(self._digits.label), size=(self._size, 2))
        corner = self._random.integers(0, moving.FREE + 1, (self._size, 2, 2)).astype(np.int32)
        return {"image": self._digits.image[rows], "label": self._digits.label[rows],
                "corner": corner}  # fmt: skip


def _loss(p: PyTree, batch: PyTree, key: Key, extra: PyTree) -> step.Loss:
    """Cross-entropy of all cells; those with a digit, 2 of 64, count eightfold."""
    del key, extra
    frames = moving.render(batch["image"], batch["corner"][:, None])[:, 0]
    want = targets(batch["label"], batch["corner"])
    log = jax.nn.log_softmax(logits(p, frames))
    losses = -jnp.take_along_axis(log, want[..., None], -1)[..., 0]
    digit = want < CLASSES - 1
    weight = jnp.where(digit, 8.0, 1.0)
    found = jnp.sum(digit * (jnp.argmax(log[..., :10], -1) == want)) / jnp.sum(digit)
    return step.Loss(jnp.sum(losses * weight) / jnp.sum(weight), 1.0, {"digits_found": found})


def train(
    digits: Digits, *, base: int = 16, steps: int = 400, batch_size: int = 64, lr: float = 3e-3,
    seed: int = 0, watch: tuple[loop.Hook, ...] = (),
) -> PyTree:  # fmt: skip
    """Trains the extractor on frames of two digits; it never sees a motion or a caption."""
    key = jax.random.key(seed)
    made = optax.adam(optax.cosine_onecycle_schedule(max(steps, 10), lr, 0.2))
    now = state.create(key, init(key, base), made)
    batches = _Frames(digits, batch_size, seed)
    return loop.fit(step.make_step(_loss, made), now, batches, watch, num_steps=steps).params


@functools.lru_cache(maxsize=1)
def _extract() -> Callable[..., Array]:
    def run(p: PyTree, image: Array, path: Array) -> Array:
        frames = moving.render(image, path)
        flat = features(p, frames.reshape(-1, SIZE, SIZE))
        return flat.reshape(*frames.shape[:2], WIDTH).astype(jnp.float16)

    return jax.jit(run)


def of_videos(p: PyTree, videos: moving.Videos, digits: Digits) -> np.ndarray:
    """Features float16 [n, 10, 640] of clips, rendered in blocks."""
    size = 64 if jax.default_backend() == "cpu" else 1024
    num, run, parts = len(videos.digits), _extract(), []
    for start in range(0, num, size):
        rows = np.minimum(np.arange(start, start + size), num - 1)
        found = run(p, digits.image[videos.digits[rows]], videos.path[rows])
        parts.append(np.asarray(found)[: num - start])
    return np.concatenate(parts)


def save(path: Path | str, p: PyTree) -> None:
    """Writes safetensors."""
    weights.write(path, tree.flatten(p))


def load(path: Path | str) -> PyTree:
    """Reads what `save` wrote.

    Raises:
      WeightsError: tensors of another network.
    """
    found = tree.unflatten(weights.read(path))
    base = found.get("conv0", {}).get("kernel", np.zeros((1, 1, 1, 1))).shape[-1]
    want = param.abstract(params(base))
    try:
        tree.check_match(found, want, str(path))
    except ValueError as error:
        raise weights.WeightsError(str(error)) from None
    return jax.tree.map(jnp.asarray, found)

"""Training of a zoo's members: one step serves victims, copies and thieves.

Every member is a `Job`: where it starts, its rows, soft targets, a temperature, a mask of weights
and which weights move. Jobs of one architecture and length train together under `vmap`, or one
after the other with the same compiled epoch.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxml.core import check, rng
from jaxml.core.types import Array, PyTree
from jaxml.inputs.image import normalise
from jaxml.inputs.order import Order
from jaxml.inputs.splits import Images, augment
from jaxml.models.arch import ArchConfig
from jaxml.nfard import networks


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """SGD with Nesterov momentum, a linear rise, then a cosine to zero.

    Attributes:
      epochs: passes of a network that starts fresh.
      batch_size: b.
      lr: the peak.
      warmup: share of the steps that rise.
      momentum: of SGD.
      weight_decay: added to the gradient.
      augmented: random flips and crops.
      dtype: of the computation.
      chunk: steps in one compiled call, 0 for a whole pass; a pass has a multiple of them, so that
        jobs of unequal length share one program.
      over: "vmap" trains jobs together, "loop" one after the other (GPUs and convolutions).
    """

    epochs: int = 12
    batch_size: int = 100
    lr: float = 0.1
    warmup: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    augmented: bool = False
    dtype: Literal["float32", "bfloat16"] = "float32"
    chunk: int = 0
    over: Literal["vmap", "loop"] = "vmap"

    def __post_init__(self):
        check.types(self)
        check.positive(epochs=self.epochs, batch_size=self.batch_size, lr=self.lr)
        check.between(0, 1, warmup=self.warmup, momentum=self.momentum)
        check.at_least(0, chunk=self.chunk)
        check.at_least(0, weight_decay=self.weight_decay)


class Job(NamedTuple):
    """One member to train.

    Attributes:
      variables: where it starts.
      rows: of the images, [n].
      targets: probabilities [n, C] for these rows.
      seed: of order and views.
      epochs: passes.
      lr: peak rate.
      temperature: T: targets are met by softmax(logits / T), the loss is times T^2.
      mask: 1 where weights stay, 0 where they are pruned; a tree like the parameters, or None.
      head_only: everything else stays, batch statistics too.
    """

    variables: PyTree
    rows: np.ndarray
    targets: np.ndarray
    seed: int
    epochs: int
    lr: float
    temperature: float = 1.0
    mask: PyTree = None
    head_only: bool = False


class Plan(NamedTuple):
    """Some steps of a job: rows of the images [steps, b], learning rates [steps]."""

    rows: Array
    lr: Array


def rate(progress: np.ndarray, peak: float, warmup: float) -> np.ndarray:
    """Learning rate at a share of all steps.

    >>> rate(np.array([0.0, 0.1, 0.55, 1.0]), 1.0, 0.1).round(3).tolist()
    [0.0, 1.0, 0.5, 0.0]
    """
    down = np.cos(np.pi / 2 * np.clip((progress - warmup) / (1 - warmup), 0, 1)) ** 2
    up = np.clip(progress / warmup, 0, 1) if warmup > 0 else 1.0
    return (peak * up * down).astype(np.float32)


def train(
    cfg: TrainConfig,
    arch: ArchConfig,
    images: Images,
    jobs: Sequence[Job],
    say: Callable[[str], None] = lambda text: None,
) -> list[PyTree]:
    """Trains the jobs; under "vmap" all of them at once.

    Args:
      cfg: the recipe.
      arch: of all jobs.
      images: the pool that rows point into.
      jobs: at least one; under "vmap" with equal numbers of rows, classes and epochs.
      say: prints progress.

    Returns:
      Variables of each job, on the host.

    Raises:
      ValueError: no job, fewer rows than a batch, or jobs of unequal length under "vmap".
    """
    check.at_least(1, num_jobs=len(jobs))
    for job in jobs:
        check.between(1, len(job.rows), batch_size=cfg.batch_size)
    if cfg.over == "vmap":
        if len({(len(j.rows), j.targets.shape[1], j.epochs) for j in jobs}) > 1:
            raise ValueError("jobs must have equal numbers of rows, classes and epochs.")
        return _run(cfg, arch, images, jobs, say)
    return [_run(cfg, arch, images, [job], say)[0] for job in jobs]


def _run(
    cfg: TrainConfig,
    arch: ArchConfig,
    images: Images,
    jobs: Sequence[Job],
    say: Callable[[str], None],
) -> list[PyTree]:
    several = cfg.over == "vmap"
    join = networks.stacked if several else lambda trees: jax.tree.map(jnp.asarray, trees[0])
    variables = join([j.variables for j in jobs])
    masks = [_mask(job, arch) for job in jobs]
    fixed = join(
        [
            {
                "mask": mask,
                "moves": _moves(job, arch),
                "targets": _by_row(job, len(images.label)),
                "temperature": np.float32(job.temperature),
                "momentum": np.float32(1.0 if job.head_only else 0.9),
            }
            for job, mask in zip(jobs, masks, strict=True)
        ]
    )
    keys = join([rng.fold(jax.random.key(j.seed), "views") for j in jobs])
    params = jax.tree.map(jnp.multiply, variables["params"], fixed["mask"])
    carry = (params, variables["state"], jax.tree.map(jnp.zeros_like, params), keys)
    # The number of epochs is no part of the program.
    program = dataclasses.replace(cfg, epochs=1, lr=1.0)
    step = _epoch(program, arch, several, images.image.shape[1:], (images.mean, images.std))
    pixels, epochs = _on_device(images), jobs[0].epochs
    for e in range(epochs):
        plans, losses = [_plan(cfg, job, e) for job in jobs], []
        for part in zip(*plans, strict=True):
            carry, loss = step(carry, fixed, join(list(part)), pixels)
            losses.append(loss)
        loss = jnp.stack(losses)
        if e in (0, epochs - 1):
            say(f"  epoch {e + 1}/{epochs}: loss {float(jnp.mean(loss)):.4f}")
    host = jax.tree.map(np.asarray, {"params": carry[0], "state": carry[1]})
    if not several:
        return [host]
    return [jax.tree.map(lambda leaf, k=k: leaf[k], host) for k in range(len(jobs))]


_PIXELS: dict[int, tuple[np.ndarray, Array]] = {}


def _on_device(images: Images) -> Array:
    """Rows of bytes, sent once: CPUs gather small images pixel by pixel otherwise."""
    known = _PIXELS.get(id(images.image))
    if known is None or known[0] is not images.image:
        _PIXELS.clear()
        flat = jnp.asarray(images.image.reshape(len(images.image), -1))
        known = _PIXELS[id(images.image)] = (images.image, flat)
    return known[1]


def _mask(job: Job, arch: ArchConfig) -> PyTree:
    del arch
    ones = jax.tree.map(lambda p: np.ones(p.shape, np.float32), job.variables["params"])
    return ones if job.mask is None else job.mask


def _moves(job: Job, arch: ArchConfig) -> PyTree:
    """1 for parameters that are trained, a scalar each."""
    name = networks.head(arch)
    return {
        part: jax.tree.map(lambda _, p=part: np.float32(not job.head_only or p == name), leaves)
        for part, leaves in job.variables["params"].items()
    }


def _by_row(job: Job, num_images: int) -> np.ndarray:
    """Targets at the rows of the images they are for: one shape for every job."""
    targets = np.zeros((num_images, job.targets.shape[1]), np.float32)
    targets[job.rows] = job.targets
    return targets


def _plan(cfg: TrainConfig, job: Job, epoch: int) -> list[Plan]:
    """One pass in chunks."""
    chunk = cfg.chunk or len(job.rows) // cfg.batch_size
    size = max(1, len(job.rows) // cfg.batch_size // chunk) * chunk * cfg.batch_size
    places = Order(len(job.rows), job.seed).at(np.arange(epoch * size, (epoch + 1) * size))[1]
    places = places.reshape(-1, cfg.batch_size)
    steps = len(places)
    progress = (epoch * steps + np.arange(steps)) / (job.epochs * steps)
    lr = rate(progress, job.lr, cfg.warmup)
    rows: Any = job.rows[places].astype(np.int32)
    return [
        Plan(rows[i : i + chunk], lr[i : i + chunk])  # pyright: ignore[reportArgumentType]
        for i in range(0, steps, chunk)
    ]


@functools.lru_cache(maxsize=16)
def _epoch(
    cfg: TrainConfig,
    arch: ArchConfig,
    several: bool,
    shape: tuple[int, ...],
    norm: networks.Norm,
) -> Any:
    """One pass, compiled: `(carry, fixed, plan, pixels) -> (carry, mean loss)`."""

    def step(fixed: Any, pixels: Array, carry: Any, now: Plan) -> tuple[Any, Array]:
        params, state, moments, key = carry
        key, here = jax.random.split(key)
        x = normalise(pixels[now.rows].reshape(-1, *shape), *norm)
        x = (augment(here, x) if cfg.augmented else x).astype(cfg.dtype)
        wanted = fixed["targets"][now.rows]

        def loss(params: PyTree) -> tuple[Array, PyTree]:
            logits, new, _ = networks.apply(
                arch, params, state, x, train=True, momentum=fixed["momentum"], dtype=cfg.dtype
            )
            heat = fixed["temperature"]
            log_p = jax.nn.log_softmax(logits.astype(jnp.float32) / heat, -1)
            return -(heat**2) * jnp.mean(jnp.sum(wanted * log_p, -1)), new

        (value, state), grads = jax.value_and_grad(loss, has_aux=True)(params)
        grads = jax.tree.map(lambda g, p: g + cfg.weight_decay * p, grads, params)
        moments = jax.tree.map(lambda m, g: cfg.momentum * m + g, moments, grads)
        steps = jax.tree.map(lambda m, g: now.lr * (g + cfg.momentum * m), moments, grads)
        params = jax.tree.map(
            lambda p, s, move, mask: (p - move * s) * mask,
            params,
            steps,
            fixed["moves"],
            fixed["mask"],
        )
        return (params, state, moments, key), value

    def epoch(carry: Any, fixed: Any, plan: Plan, pixels: Array) -> tuple[Any, Array]:
        carry, values = jax.lax.scan(functools.partial(step, fixed, pixels), carry, plan)
        return carry, jnp.mean(values)

    mapped = jax.vmap(epoch, in_axes=(0, 0, 0, None)) if several else epoch
    return jax.jit(mapped, donate_argnums=0)

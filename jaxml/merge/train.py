"""Training many networks of one architecture at once: one step, mapped over seeds."""

import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxml.core import check, rng
from jaxml.core.types import Array, Key, PyTree
from jaxml.inputs.image import normalise
from jaxml.inputs.order import Order
from jaxml.inputs.splits import Images, augment
from jaxml.merge import network as networks
from jaxml.merge.network import Network
from jaxml.models import mlp, resnet, vgg
from jaxml.models.arch import ArchConfig
from jaxml.nn import loss


class Built(NamedTuple):
    """An architecture: how to make, train and merge it.

    Attributes:
      init: `key -> variables`.
      train_apply: `(params, state, x) -> (logits, state)`.
      network: for merging; evaluates in float32.
    """

    init: Callable[[Key], PyTree]
    train_apply: Callable[[PyTree, PyTree, Array], tuple[Array, PyTree]]
    network: Network


@functools.lru_cache(maxsize=32)
def build(arch: ArchConfig, dtype: str = "float32") -> Built:
    """The functions of an architecture; training computes in `dtype`."""
    cfg, compute = arch.model, jnp.dtype(dtype)
    if isinstance(cfg, mlp.MlpConfig):
        return Built(
            lambda key: {"params": mlp.init(key, cfg), "state": {}},
            lambda p, s, x: (mlp.apply(p, cfg, x, dtype=compute), s),
            networks.of_mlp(cfg),
        )
    module = vgg if isinstance(cfg, vgg.VggConfig) else resnet
    of: Any = networks.of_vgg if module is vgg else networks.of_resnet
    apply: Any = module.apply

    def init(key: Key) -> PyTree:
        made: Any = module
        return {"params": made.init(key, cfg), "state": made.init_state(cfg)}

    def train_apply(p: PyTree, s: PyTree, x: Array) -> tuple[Array, PyTree]:
        return apply(p, cfg, x, s, train=True, dtype=compute)

    return Built(init, train_apply, of(cfg))


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How base networks are trained: SGD with momentum, warm-up, then linearly to almost zero.

    Attributes:
      arch: the architecture.
      epochs: passes over a network's own data (over the mean amount, if they differ).
      batch_size: b.
      lr: the peak.
      warmup: epochs of linear rise.
      momentum: of SGD.
      weight_decay: added to the gradient, on all parameters.
      augmented: random flips and crops.
      dtype: of the computation.
      over: how the step is mapped over seeds: `vmap` (one batched computation), `map` (one network
        after the other in a loop on the device, where batched convolutions are slow), `unroll`
        (one after the other in one program, best for a small network on a CPU).
    """

    arch: ArchConfig = ArchConfig()  # noqa: RUF009
    epochs: int = 12
    batch_size: int = 200
    lr: float = 0.1
    warmup: float = 1.0
    momentum: float = 0.9
    weight_decay: float = 5e-4
    augmented: bool = False
    dtype: Literal["float32", "bfloat16"] = "float32"
    over: Literal["vmap", "map", "unroll"] = "vmap"

    def __post_init__(self):
        check.positive(epochs=self.epochs, batch_size=self.batch_size, lr=self.lr)
        check.at_least(0, warmup=self.warmup, weight_decay=self.weight_decay)
        check.between(0, 1, momentum=self.momentum)
        check.one_of(("vmap", "map", "unroll"), over=self.over)
        check.one_of(("float32", "bfloat16"), dtype=self.dtype)


class Trained(NamedTuple):
    """Networks as one tree with a leading axis [k], and mean training losses by epoch [k, e]."""

    variables: PyTree
    losses: np.ndarray

    def split(self) -> list[PyTree]:
        """The variables of each network, on the host."""
        host = jax.tree.map(np.asarray, self.variables)
        return [jax.tree.map(lambda leaf, k=k: leaf[k], host) for k in range(len(self.losses))]


def rate(cfg: TrainConfig, epoch: float, epochs: int) -> float:
    """Learning rate at a (fractional) epoch: 1e-5 up to the peak, then down to 1e-5.

    >>> [round(rate(TrainConfig(lr=1.0, warmup=1.0), e, 3), 2) for e in (0, 0.5, 1, 2, 3)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    points = ([0, cfg.warmup, epochs], [1e-5, cfg.lr, 1e-5])
    return float(np.interp(epoch, *points)) if cfg.warmup < epochs else cfg.lr


def _directions(cfg: TrainConfig) -> optax.GradientTransformation:
    """SGD up to its rate, which the loop gives: the number of epochs may follow from the time."""
    return optax.chain(optax.add_decayed_weights(cfg.weight_decay), optax.trace(cfg.momentum))


def train(
    cfg: TrainConfig,
    images: Images,
    seeds: Sequence[int],
    rows: Sequence[np.ndarray] | None = None,
    say: Callable[[str], None] = lambda text: None,
    minutes: float | None = None,
) -> Trained:
    """Trains one network per seed, all in one computation.

    Args:
      cfg: the recipe.
      images: training images.
      seeds: one per network: of initialisation, order and views.
      rows: of `images`, that each network trains on (see `splits.split_rows`); None: all.
      say: prints progress.
      minutes: as many epochs as fit, by the time of the second, at most `cfg.epochs`.

    Raises:
      ValueError: no seed, rows for another number of networks, or a batch larger than the data.
    """
    check.at_least(1, num_seeds=len(seeds))
    rows = [np.arange(len(images.label))] * len(seeds) if rows is None else list(rows)
    if len(rows) != len(seeds):
        raise ValueError(f"rows must be one array per seed; got {len(rows)} for {len(seeds)}.")
    steps = int(np.mean([len(r) for r in rows])) // cfg.batch_size
    check.positive(steps_per_epoch=steps)
    built = build(cfg.arch, cfg.dtype)
    tx = _directions(cfg)
    carry = _start(built, tx, seeds)
    step = jax.jit(functools.partial(_step, built, tx, cfg, images), donate_argnums=0)
    # Rows are gathered as flat bytes: CPUs gather small images pixel by pixel.
    pixels = jnp.asarray(images.image.reshape(len(images.image), -1))
    labels, losses, epochs, e = jnp.asarray(images.label), [], cfg.epochs, 0
    begun = time.monotonic()
    while e < epochs:
        plan, values, start = _plan(rows, seeds, e, steps, cfg.batch_size), [], time.monotonic()
        for i, here in enumerate(plan):
            carry, value = step(carry, pixels, labels, here, rate(cfg, e + i / steps, epochs))
            values.append(value)
        losses.append(np.mean([np.asarray(v) for v in values], 0))
        now = time.monotonic()
        if e == 1 and minutes is not None:
            left = 60 * minutes - (now - begun)
            epochs = max(2, min(epochs, 2 + int(left / (now - start))))
        if e < 2 or e % max(1, epochs // 6) == 0 or e == epochs - 1:
            took = f"{now - start:.1f} s an epoch"
            say(f"epoch {e + 1}/{epochs}: training loss {losses[-1].mean():.4f}, {took}")
        e += 1
    params, state, *_ = carry
    return Trained({"params": params, "state": state}, np.stack(losses, 1))


def _start(built: Built, tx: optax.GradientTransformation, seeds: Sequence[int]) -> Any:
    """The carry of every network, stacked; drawn array by array, which compiles little."""

    def one(seed: int) -> Any:
        key = jax.random.key(seed)
        variables = built.init(rng.fold(key, "init"))
        params, state = variables["params"], variables["state"]
        return params, state, tx.init(params), rng.fold(key, "train")

    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(one, seeds))


def _map(over: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return {"vmap": jax.vmap, "map": _looped, "unroll": _unrolled}[over]


def _looped(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *trees: jax.lax.map(lambda args: function(*args), trees)


def _unrolled(function: Callable[..., Any]) -> Callable[..., Any]:
    def mapped(*trees: Any) -> Any:
        num = len(jax.tree.leaves(trees)[0])
        each = [function(*jax.tree.map(lambda leaf, k=k: leaf[k], trees)) for k in range(num)]
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *each)

    return mapped


def _plan(
    rows: list[np.ndarray], seeds: Sequence[int], epoch: int, steps: int, batch_size: int
) -> np.ndarray:
    """Rows of the data [steps, k, b] that each network sees in one epoch."""
    size = steps * batch_size
    places = np.arange(epoch * size, (epoch + 1) * size)
    columns = [
        mine[Order(len(mine), seed).at(places)[1]].reshape(steps, batch_size)
        for mine, seed in zip(rows, seeds, strict=True)
    ]
    return np.stack(columns, 1).astype(np.int32)


def _step(
    built: Built,
    tx: optax.GradientTransformation,
    cfg: TrainConfig,
    images: Images,
    carry: Any,
    pixels: Array,
    labels: Array,
    rows: Array,
    lr: Array,
) -> tuple[Any, Array]:
    """One update of every network; `rows` [k, b] are its examples."""

    def update(params: PyTree, state: PyTree, moments: Any, key: Key, rows: Array) -> Any:
        key, here = jax.random.split(key)
        views = pixels[rows].reshape(-1, *images.image.shape[1:])
        x = normalise(views, images.mean, images.std)
        x = (augment(here, x) if cfg.augmented else x).astype(cfg.dtype)

        def objective(params: PyTree) -> tuple[Array, PyTree]:
            logits, new = built.train_apply(params, state, x)
            return loss.cross_entropy(logits.astype(jnp.float32), labels[rows])[0], new

        (value, state), grads = jax.value_and_grad(objective, has_aux=True)(params)
        updates, moments = tx.update(grads, moments, params)
        params = jax.tree.map(lambda p, u: p - lr * u, params, updates)
        return (params, state, moments, key), value

    return _map(cfg.over)(update)(*carry, rows)

"""Training many networks of one architecture at once: one step, mapped over seeds."""

import dataclasses
import functools
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
from jaxml.merge import network as networks
from jaxml.merge.data import Images, augment
from jaxml.merge.network import Network
from jaxml.models import mlp, resnet, vgg
from jaxml.nn import loss


@dataclasses.dataclass(frozen=True)
class ArchConfig:
    """A base network.

    Attributes:
      kind: `mlp` (of `hidden` widths), `vgg` or `resnet` (of `depth`).
      depth: 11, 13, 16, 19 for vgg; 6 n + 2 for resnet.
      width: multiplier of the channels.
      hidden: widths of the mlp.
      batch_norm: in vgg; resnets always have it.
      num_classes: outputs.
      image: y, x, c.
    """

    kind: Literal["mlp", "vgg", "resnet"] = "mlp"
    depth: int = 11
    width: float = 1.0
    hidden: tuple[int, ...] = (128, 128, 128)
    batch_norm: bool = False
    num_classes: int = 10
    image: tuple[int, int, int] = (28, 28, 1)

    def __post_init__(self):
        check.one_of(("mlp", "vgg", "resnet"), kind=self.kind)
        check.positive(depth=self.depth, width=self.width, num_classes=self.num_classes)

    @property
    def model(self) -> mlp.MlpConfig | vgg.VggConfig | resnet.ResNetConfig:
        """The network's own configuration."""
        high, wide, channels = self.image
        if self.kind == "mlp":
            return mlp.MlpConfig(high * wide * channels, self.hidden, self.num_classes)
        if self.kind == "vgg":
            return vgg.VggConfig(
                self.num_classes, self.depth, self.width, channels, batch_norm=self.batch_norm
            )
        return resnet.cifar(self.depth, self.num_classes, self.width, channels, shortcut=3)


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
      over: how the step is mapped over seeds: `vmap` (one large computation, for accelerators) or
        `unroll` (one network after the other inside the step, for a CPU).
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
    over: Literal["vmap", "unroll"] = "vmap"

    def __post_init__(self):
        check.positive(epochs=self.epochs, batch_size=self.batch_size, lr=self.lr)
        check.at_least(0, warmup=self.warmup, weight_decay=self.weight_decay)
        check.between(0, 1, momentum=self.momentum)
        check.one_of(("vmap", "unroll"), over=self.over)
        check.one_of(("float32", "bfloat16"), dtype=self.dtype)


class Trained(NamedTuple):
    """Networks as one tree with a leading axis [k], and their mean training loss by epoch [k, e]."""

    variables: PyTree
    losses: np.ndarray

    def split(self) -> list[PyTree]:
        """The variables of each network, on the host."""
        host = jax.tree.map(np.asarray, self.variables)
        return [jax.tree.map(lambda leaf, k=k: leaf[k], host) for k in range(len(self.losses))]


def optimizer(cfg: TrainConfig, steps_per_epoch: int) -> optax.GradientTransformation:
    """The optimiser and its schedule."""
    total = max(cfg.epochs * steps_per_epoch, 2)
    warm = min(max(int(cfg.warmup * steps_per_epoch), 1), total - 1)
    rate = optax.join_schedules(
        [
            optax.linear_schedule(1e-5, cfg.lr, warm),
            optax.linear_schedule(cfg.lr, 1e-5, total - warm),
        ],
        [warm],
    )
    decay = optax.add_decayed_weights(cfg.weight_decay)
    return optax.chain(decay, optax.sgd(rate, momentum=cfg.momentum))


def train(
    cfg: TrainConfig,
    images: Images,
    seeds: Sequence[int],
    rows: Sequence[np.ndarray] | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Trained:
    """Trains one network per seed, all in one computation.

    Args:
      cfg: the recipe.
      images: training images.
      seeds: one per network: of initialisation, order and views.
      rows: of `images`, that each network trains on (see `splits.split_rows`); None: all.
      say: prints progress.

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
    tx = optimizer(cfg, steps)
    keys = jnp.stack([jax.random.key(seed) for seed in seeds])
    carry = jax.jit(functools.partial(_start, built, tx, cfg.over))(keys)
    step = jax.jit(functools.partial(_step, built, tx, cfg, images), donate_argnums=0)
    # Rows are gathered as flat bytes: CPUs gather small images pixel by pixel.
    pixels = jnp.asarray(images.image.reshape(len(images.image), -1))
    labels, losses = jnp.asarray(images.label), []
    for e in range(cfg.epochs):
        plan, values = _plan(rows, seeds, e, steps, cfg.batch_size), []
        for here in plan:
            carry, value = step(carry, pixels, labels, here)
            values.append(value)
        losses.append(np.mean([np.asarray(v) for v in values], 0))
        if e % max(1, cfg.epochs // 6) == 0 or e == cfg.epochs - 1:
            say(f"epoch {e + 1}/{cfg.epochs}: training loss {losses[-1].mean():.4f}")
    params, state, *_ = carry
    return Trained({"params": params, "state": state}, np.stack(losses, 1))


def _start(built: Built, tx: Any, over: str, keys: Array) -> Any:
    def one(key: Key) -> Any:
        variables = built.init(rng.fold(key, "init"))
        params, state = variables["params"], variables["state"]
        return params, state, tx.init(params), rng.fold(key, "train")

    return _map(over)(one)(keys)


def _map(over: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return jax.vmap if over == "vmap" else _unrolled


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
        return (optax.apply_updates(params, updates), state, moments, key), value

    return _map(cfg.over)(update)(*carry, rows)

"""What the convex model is compared with: DP-SGD networks and logistic regression.

A perceptron's gradient for one example is, in each layer, the outer product of the layer's input
and the derivative of its output, so norms and the clipped sum need no gradient of one example.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxml.core import check, rng
from jaxml.core.types import Array, Key, PyTree
from jaxml.dp import dpsgd
from jaxml.dp.config import TF32_SLACK, in_open_interval
from jaxml.models import mlp
from jaxml.models.mlp import MlpConfig


@dataclasses.dataclass(frozen=True)
class DPSGDConfig:
    """DP-SGD on a two-layer ReLU network, or on logistic regression.

    Attributes:
      batch_size: expected size of a Poisson sample, q n.
      epochs: expected passes: `epochs * n / batch_size` updates.
      learning_rate: of plain SGD.
      noise_multiplier: sigma; the sum of clipped gradients gets noise of deviation `sigma C`.
      clip_norm: C.
      hidden: width of the hidden layer; 0 for logistic regression.
      delta: of the report.
    """

    batch_size: int = 1000
    epochs: int = 20
    learning_rate: float = 1.0
    noise_multiplier: float = 5.0
    clip_norm: float = 1.0
    hidden: int = 200
    delta: float = 1e-5

    def __post_init__(self):
        check.types(self)
        check.positive(batch_size=self.batch_size, epochs=self.epochs)
        check.positive(learning_rate=self.learning_rate, clip_norm=self.clip_norm)
        check.at_least(0, noise_multiplier=self.noise_multiplier, hidden=self.hidden)
        in_open_interval(delta=self.delta)

    def network(self, in_dim: int, num_classes: int) -> MlpConfig:
        """The network trained."""
        return MlpConfig(in_dim, (self.hidden,) if self.hidden else (), num_classes)

    def num_updates(self, num_examples: int) -> int:
        """T, of the training."""
        return round(self.epochs * num_examples / self.batch_size)


def clipped_sum(
    params: PyTree, cfg: MlpConfig, x: Array, label: Array, mask: Array, clip_norm: Array | float
) -> PyTree:
    """Sum of the clipped gradients of cross-entropy, in closed form.

    Args:
      params: of `models.mlp`, at most one hidden layer.
      cfg: its configuration.
      x: [b, d].
      label: int [b].
      mask: which rows count, bool [b].
      clip_norm: C.

    Raises:
      ValueError: more than one hidden layer.
    """
    if len(cfg.hidden) > 1:
        raise ValueError(f"hidden must have at most one layer; got hidden={cfg.hidden}.")
    inputs = [x]
    if cfg.hidden:
        inputs.append(jax.nn.relu(x @ params["layer0"]["kernel"] + params["layer0"]["bias"][None]))
    last = params[f"layer{len(cfg.hidden)}"]
    z = inputs[-1] @ last["kernel"] + last["bias"][None]
    out = jax.nn.softmax(z, axis=1) - jax.nn.one_hot(label, cfg.num_classes, dtype=z.dtype)
    deltas = [out]
    if cfg.hidden:
        deltas.insert(0, (out @ last["kernel"].T) * (inputs[1] > 0))
    square = sum(
        (jnp.sum(a**2, axis=1) + 1) * jnp.sum(d**2, axis=1)
        for a, d in zip(inputs, deltas, strict=True)
    )
    scale = mask * jnp.minimum(1.0, clip_norm * jax.lax.rsqrt(jnp.maximum(square, 1e-30)))
    sums = {}
    for i, (a, d) in enumerate(zip(inputs, deltas, strict=True)):
        scaled = d * scale[:, None]
        sums[f"layer{i}"] = {"kernel": a.T @ scaled, "bias": jnp.sum(scaled, axis=0)}
    return sums


def unit(x: Any) -> Array:
    """Examples scaled to norm 1, each by itself: what every method here is given."""
    x = jnp.asarray(x, jnp.float32)
    norm = jnp.linalg.norm(x, axis=1, keepdims=True)
    return x / jnp.where(norm > 0, norm, 1.0)


def _check_alike(cfgs: Sequence[DPSGDConfig]) -> None:
    """Raises ValueError where configurations differ in what one program cannot have both ways."""
    first = cfgs[0]
    for cfg in cfgs:
        same = dataclasses.replace(
            cfg,
            learning_rate=first.learning_rate,
            noise_multiplier=first.noise_multiplier,
            clip_norm=first.clip_norm,
        )
        if same != first:
            raise ValueError(
                "cfgs may differ in learning_rate, noise_multiplier and clip_norm only; "
                f"got {cfg} beside {first}."
            )


class _Rates(NamedTuple):
    """In what trainings that run side by side may differ, float32 [trainings]."""

    learning_rate: Array
    noise_multiplier: Array
    clip_norm: Array

    @classmethod
    def of(cls, cfgs: Sequence[DPSGDConfig]) -> "_Rates":
        return cls(*(jnp.float32([getattr(cfg, name) for cfg in cfgs]) for name in cls._fields))


def _step_of(
    x: Array, label: Array, network: MlpConfig, batch_size: int
) -> Callable[[PyTree, Key, _Rates], PyTree]:
    """The update of one training on its own Poisson sample: `(params, key, rates) -> params`."""
    num = x.shape[0]
    size = dpsgd.largest_sample(num, batch_size / num)

    def step(params: PyTree, key: Key, rates: _Rates) -> PyTree:
        rows, mask = dpsgd.poisson_rows(rng.fold(key, "sample"), num, batch_size / num, size)
        # GPUs may round the factors of the sum to 10 bits; C holds all the same.
        bound = rates.clip_norm / (1 + TF32_SLACK)
        total = clipped_sum(params, network, x[rows], label[rows], mask, bound)
        std = rates.noise_multiplier * rates.clip_norm
        mean = dpsgd.noised(total, rng.fold(key, "noise"), std, batch_size)
        return jax.tree.map(lambda p, g: p - rates.learning_rate * g, params, mean)

    return step


def train_dpsgd(
    keys: Sequence[Key],
    x: Any,
    label: Any,
    num_classes: int,
    cfgs: Sequence[DPSGDConfig],
    *,
    calls: int = 1,
    say: Callable[[str], None] = lambda text: None,
) -> PyTree:
    """DP-SGD trainings by `vmap`, each on Poisson samples of its own.

    Args:
      keys: one for each training.
      x: examples [n, d], scaled to norm 1 here.
      label: int [n].
      num_classes: K.
      cfgs: one for each; they may differ in learning_rate, noise_multiplier and clip_norm.
      calls: in how many programs the updates are run, for lines of progress.
      say: prints a line.

    Returns:
      Parameters of `models.mlp` with a leading axis of trainings.

    Raises:
      ValueError: configurations that differ in more.
    """
    _check_alike(cfgs)
    first, x, label = cfgs[0], unit(x), jnp.asarray(label, jnp.int32)
    check.between(1, x.shape[0], batch_size=first.batch_size)
    network = first.network(x.shape[1], num_classes)
    updates = first.num_updates(x.shape[0])
    check.divides(calls=calls, updates=updates)
    step, rates = _step_of(x, label, network, first.batch_size), _Rates.of(cfgs)
    stacked = jnp.stack(list(keys))

    @jax.jit
    def advance(params: PyTree, first_update: Array) -> PyTree:
        times = first_update + jnp.arange(updates // calls, dtype=jnp.int32)

        def one(params: PyTree, key: Key, rates: _Rates) -> PyTree:
            def go(params: PyTree, t: Array) -> tuple[PyTree, None]:
                return step(params, rng.fold(key, t), rates), None

            return jax.lax.scan(go, params, times)[0]

        return jax.vmap(one)(params, stacked, rates)

    params = jax.vmap(lambda key: mlp.init(rng.fold(key, "init"), network))(stacked)
    for call in range(calls):
        params = advance(params, jnp.int32(call * (updates // calls)))
        jax.block_until_ready(params)
        say(f"{len(cfgs)} DP-SGD trainings, {call + 1} of {calls} parts")
    return params


def accuracies(params: PyTree, hidden: int, x: Any, label: Any, num_classes: int) -> list[float]:
    """Percent right of each training in `params` (leading axis), on examples of their own."""
    x, label = unit(x), jnp.asarray(label, jnp.int32)
    cfg = MlpConfig(x.shape[1], (hidden,) if hidden else (), num_classes)

    @jax.jit
    def right(params: PyTree) -> Array:
        return jnp.mean(jnp.argmax(mlp.apply(params, cfg, x), axis=1) == label)

    num = jax.tree.leaves(params)[0].shape[0]
    return [100 * float(right(jax.tree.map(lambda a, i=i: a[i], params))) for i in range(num)]

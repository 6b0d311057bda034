"""One training step: gradient, update, rejection of what is not finite."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxml.core import check, rng
from jaxml.core.types import Array, Key, PyTree
from jaxml.train.state import TrainState


class Loss(NamedTuple):
    """What a loss function returns.

    Attributes:
      value: the mean loss over the batch, a scalar; this is differentiated.
      weight: how many items (examples, unmasked tokens) the mean is over. Only accumulation needs
        it, to join micro-batches of unequal size exactly.
      metrics: further means over the same items, by name.
      extra: the model's new other state; None leaves it as it was.
    """

    value: Array
    weight: Array | float = 1.0
    metrics: Mapping[str, Array] = {}
    extra: PyTree = None


type LossFn = Callable[[PyTree, PyTree, Key, PyTree], Loss]
"""`loss_fn(params, batch, key, extra) -> Loss`; what it does not need it ignores."""

type Step = Callable[[TrainState, PyTree], tuple[TrainState, dict[str, Array]]]
"""`step(state, batch) -> (state, metrics)`."""

OWN_METRICS = ("loss", "grad_norm", "rejected", "num_rejected")


def make_step(
    loss_fn: LossFn,
    optimizer: optax.GradientTransformation,
    *,
    accumulate: int = 1,
    ema_decay: float | None = None,
    donate: bool = True,
    shardings: PyTree = None,
) -> Step:
    """A jitted step of gradient descent.

    A loss or gradient that is not finite changes nothing but the counters: `step` advances,
    `num_rejected` grows, the metric `rejected` is 1. Every step draws from `fold(key, step)`,
    micro-batch i of it from `fold(key, step, i)`.

    Args:
      loss_fn: `(params, batch, key, extra) -> Loss`.
      optimizer: an optax transformation; it is handed the loss as `value=`.
      accumulate: micro-batches per update. Micro-batch i holds rows i, i + accumulate, ..., so that
        a batch split over devices stays where it is. `extra` passes from one to the next.
      ema_decay: of the running mean of the parameters; needs `create(ema=True)`.
      donate: reuse the memory of the state that is passed in, which is thereby deleted.
      shardings: where the new state lies (`state.shardings(state)`); None: the compiler decides.

    Returns:
      The step. Its metrics are those of the loss function, and `loss`, `grad_norm` (before any
      clipping), `rejected`, `num_rejected`: arrays on the device, not yet waited for.

    Raises:
      ValueError: at the first call, where the batch is no multiple of `accumulate`, the state has
        no running mean to update, or a metric has one of our own names.

    >>> from jaxml.train import state
    >>> def loss_fn(params, batch, key, extra):
    ...     return Loss(jnp.mean(jnp.square(batch - params["w"])))
    >>> optimizer = optax.sgd(0.5)
    >>> step = make_step(loss_fn, optimizer)
    >>> start = state.create(jax.random.key(0), {"w": jnp.zeros(())}, optimizer)
    >>> after, metrics = step(start, jnp.array([1.0, 3.0]))
    >>> float(metrics["loss"]), float(after.params["w"])
    (5.0, 2.0)
    """
    check.positive(accumulate=accumulate)
    if ema_decay is not None:
        check.between(0, 1, ema_decay=ema_decay)
    update = optax.with_extra_args_support(optimizer).update

    def step(state: TrainState, batch: PyTree) -> tuple[TrainState, dict[str, Array]]:
        _check_ema(state, ema_decay)
        key = rng.fold(state.key, state.step)
        loss, grads = _gradient(loss_fn, state, batch, key, accumulate)
        grad_norm = _global_norm(grads)
        finite = jnp.isfinite(loss.value) & jnp.isfinite(grad_norm)
        updates, opt_state = update(grads, state.opt_state, state.params, value=loss.value)
        params = optax.apply_updates(state.params, updates)
        moved = dataclasses.replace(state, params=params, opt_state=opt_state, extra=loss.extra)
        if ema_decay is not None:
            moved = dataclasses.replace(moved, ema=_running_mean(state.ema, params, ema_decay))
        kept = jax.tree.map(lambda new, old: jnp.where(finite, new, old), moved, state)
        rejected = 1 - finite.astype(jnp.int32)
        after = dataclasses.replace(
            kept, step=state.step + 1, num_rejected=state.num_rejected + rejected
        )
        own = (loss.value, grad_norm, rejected, after.num_rejected)
        return after, {**loss.metrics, **dict(zip(OWN_METRICS, own, strict=True))}

    out_shardings = None if shardings is None else (shardings, None)
    return jax.jit(step, donate_argnums=(0,) if donate else (), out_shardings=out_shardings)


def _gradient(
    loss_fn: LossFn, state: TrainState, batch: PyTree, key: Key, accumulate: int
) -> tuple[Loss, PyTree]:
    """The loss over the whole batch, with `extra` always filled, and its gradient."""

    def one(params: PyTree, batch: PyTree, key: Key, extra: PyTree) -> tuple[Array, Loss]:
        loss = loss_fn(params, batch, key, extra)
        if taken := set(loss.metrics) & set(OWN_METRICS):
            raise ValueError(
                f"a metric may not be named {', '.join(OWN_METRICS)}; got {', '.join(taken)}."
            )
        full = loss._replace(extra=extra) if loss.extra is None else loss
        return loss.value, full._replace(weight=jnp.asarray(loss.weight, jnp.float32))

    grad = jax.value_and_grad(one, has_aux=True)
    if accumulate == 1:
        (_, loss), grads = grad(state.params, batch, rng.fold(key, 0), state.extra)
        return loss, grads

    def add(carry: tuple[PyTree, PyTree], part: tuple[Array, PyTree]) -> tuple[PyTree, None]:
        sums, extra = carry
        index, rows = part
        (_, loss), grads = grad(state.params, rows, rng.fold(key, index), extra)
        means = (loss.value, dict(loss.metrics), grads)
        return (jax.tree.map(jnp.add, sums, _weighted(means, loss.weight)), loss.extra), None

    parts = (jnp.arange(accumulate, dtype=jnp.int32), _split(batch, accumulate))
    first = jax.tree.map(lambda x: x[0], parts[1])
    (_, like), grads = jax.eval_shape(grad, state.params, first, key, state.extra)
    means = (like.value, dict(like.metrics), grads)
    zeros = jax.eval_shape(_weighted, means, like.weight)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), zeros)
    ((sums, weight), extra), _ = jax.lax.scan(add, (zeros, state.extra), parts)
    value, metrics, grads = jax.tree.map(
        lambda total, x: (total / jnp.where(weight > 0, weight, 1.0)).astype(x.dtype), sums, means
    )
    return Loss(value, weight, metrics, extra), grads


def _weighted(means: PyTree, weight: Array) -> tuple[PyTree, Array]:
    """Sums in float32 or better, and the weight; a part without items adds nothing."""

    def one(x: Array) -> Array:
        x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        return jnp.where(weight > 0, x * weight.astype(x.dtype), jnp.zeros_like(x))

    return jax.tree.map(one, means), weight


def _split(batch: PyTree, num: int) -> PyTree:
    """Every array [rows, ...] as [num, rows / num, ...], part i holding rows i, i + num, ..."""

    def one(x: Array) -> Array:
        if jnp.ndim(x) == 0 or x.shape[0] % num:
            raise ValueError(
                f"accumulate must divide the rows of every array of the batch; "
                f"got accumulate={num}, an array of shape {jnp.shape(x)}."
            )
        return jnp.swapaxes(x.reshape(x.shape[0] // num, num, *x.shape[1:]), 0, 1)

    return jax.tree.map(one, batch)


def _global_norm(grads: PyTree) -> Array:
    """Euclidean norm over all leaves, float32 []."""
    squares = [jnp.sum(jnp.square(g.astype(jnp.float32))) for g in jax.tree.leaves(grads)]
    return jnp.sqrt(jnp.sum(jnp.stack(squares)))


def _running_mean(ema: PyTree, params: PyTree, decay: float) -> PyTree:
    return jax.tree.map(lambda mean, new: mean + (1.0 - decay) * (new - mean), ema, params)


def _check_ema(state: TrainState, ema_decay: float | None) -> None:
    if ema_decay is not None and state.ema is None:
        raise ValueError(
            f"ema_decay needs a running mean in the state; got ema_decay={ema_decay}, "
            "state.ema=None (use create(..., ema=True))."
        )

"""Optimisers from a configuration: clipping, a schedule, decay on matrices only."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxml.core import check, param
from jaxml.core.types import PyTree

OPTIMIZERS = ("adamw", "sgd", "lion")
SCHEDULES = ("constant", "cosine", "linear", "rsqrt")


@dataclasses.dataclass(frozen=True)
class OptimConfig:
    """An optimiser and its schedule.

    Attributes:
      name: `adamw` (Adam where `weight_decay` is 0), `sgd` (momentum `b1`) or `lion`.
      lr: the highest learning rate.
      schedule: after the warm-up: `constant`; `cosine` or `linear` down to `final_lr_ratio * lr`
        at `total_steps`; or `rsqrt`, falling with the square root of the step.
      warmup_steps: steps of linear rise from 0 to `lr`.
      total_steps: updates the schedule is made for; it stays at its end value after them.
      final_lr_ratio: last learning rate over the highest.
      b1: decay of the first moment, or momentum.
      b2: decay of the second moment.
      eps: added to Adam's denominator.
      weight_decay: decoupled, times the learning rate; arrays of two or more dimensions only.
      clip_norm: highest global norm of the gradient; None: no clipping.
      accumulate: micro-batches per update, for `make_step`.

    Raises:
      ValueError: a value out of range, or a warm-up that fills `total_steps`.
    """

    name: str = "adamw"
    lr: float = 3e-4
    schedule: str = "cosine"
    warmup_steps: int = 0
    total_steps: int = 1000
    final_lr_ratio: float = 0.1
    b1: float = 0.9
    b2: float = 0.95
    eps: float = 1e-8
    weight_decay: float = 0.0
    clip_norm: float | None = 1.0
    accumulate: int = 1

    def __post_init__(self):
        check.types(self)
        check.one_of(OPTIMIZERS, name=self.name)
        check.one_of(SCHEDULES, schedule=self.schedule)
        check.positive(lr=self.lr, total_steps=self.total_steps, eps=self.eps)
        check.positive(accumulate=self.accumulate)
        check.at_least(0, warmup_steps=self.warmup_steps, weight_decay=self.weight_decay)
        check.between(0, 1, final_lr_ratio=self.final_lr_ratio, b1=self.b1, b2=self.b2)
        if self.clip_norm is not None:
            check.positive(clip_norm=self.clip_norm)
        if self.schedule in ("cosine", "linear") and self.warmup_steps >= self.total_steps:
            raise ValueError(
                f"warmup_steps must be < total_steps; got warmup_steps={self.warmup_steps}, "
                f"total_steps={self.total_steps}."
            )


def schedule(cfg: OptimConfig) -> optax.Schedule:
    """Learning rate by number of updates made.

    >>> rate = schedule(OptimConfig(lr=1.0, schedule="linear", warmup_steps=10, total_steps=20))
    >>> [round(float(rate(step)), 2) for step in (0, 5, 10, 20, 30)]
    [0.0, 0.5, 1.0, 0.1, 0.1]
    """
    rest, final = cfg.total_steps - cfg.warmup_steps, cfg.final_lr_ratio
    if cfg.schedule == "cosine":
        after = optax.cosine_decay_schedule(cfg.lr, rest, final)
    elif cfg.schedule == "linear":
        after = optax.linear_schedule(cfg.lr, cfg.lr * final, rest)
    elif cfg.schedule == "rsqrt":
        after = _rsqrt(cfg.lr, max(cfg.warmup_steps, 1))
    else:
        after = optax.constant_schedule(cfg.lr)
    if cfg.warmup_steps == 0:
        return after
    rise = optax.linear_schedule(0.0, cfg.lr, cfg.warmup_steps)
    return optax.join_schedules([rise, after], [cfg.warmup_steps])


def _rsqrt(lr: float, warmup: int) -> optax.Schedule:
    return lambda count: lr * jax.lax.rsqrt(1.0 + count / warmup)


def is_matrix(params: PyTree) -> PyTree:
    """True for arrays of two or more dimensions: what weight decay acts on by default."""
    return jax.tree.map(lambda leaf: leaf.ndim >= 2, params)


def matrices(declared: PyTree) -> PyTree:
    """The same for declared parameters, not counting the dimension that stacks layers.

    A stack of biases [layers, embed] is no matrix; `is_matrix` cannot know that.

    >>> bias = param.Param((4, 8), ("layers", "embed"), jax.nn.initializers.zeros)
    >>> matrices({"bias": bias})
    {'bias': False}
    """
    return jax.tree.map(
        lambda p: sum(axis != "layers" for axis in p.axes) >= 2, declared, is_leaf=param.is_param
    )


def make(
    cfg: OptimConfig, decay_mask: PyTree | Callable[[PyTree], PyTree] = is_matrix
) -> optax.GradientTransformation:
    """The optimiser as one optax transformation.

    Args:
      cfg: what to build.
      decay_mask: a tree of bools like the parameters (e.g. `matrices(declared)`), or a function
        of the parameters that gives it; True where weight decay acts.
    """
    decay = [optax.add_decayed_weights(cfg.weight_decay, decay_mask)] if cfg.weight_decay else []
    clip = [] if cfg.clip_norm is None else [optax.clip_by_global_norm(cfg.clip_norm)]
    return optax.chain(*clip, _direction(cfg), *decay, _descend(cfg))


class RateState(NamedTuple):
    """Updates made, and the highest learning rate.

    That is an array, so that runs that differ in it alone share one compiled step.
    """

    count: jax.Array
    peak: jax.Array


def _descend(cfg: OptimConfig) -> optax.GradientTransformation:
    """Scales by minus the learning rate of the schedule."""
    share = schedule(dataclasses.replace(cfg, lr=1.0))

    def init(params: PyTree) -> RateState:
        del params
        return RateState(jnp.zeros((), jnp.int32), jnp.float32(cfg.lr))

    def update(updates: PyTree, state: Any, params: PyTree | None = None) -> tuple[PyTree, Any]:
        del params
        rate = -state.peak * share(state.count)
        updates = jax.tree.map(lambda x: (rate * x).astype(x.dtype), updates)
        return updates, RateState(state.count + 1, state.peak)

    return optax.GradientTransformation(init, update)


def _direction(cfg: OptimConfig) -> optax.GradientTransformation:
    if cfg.name == "adamw":
        return optax.scale_by_adam(cfg.b1, cfg.b2, cfg.eps)
    if cfg.name == "lion":
        return optax.scale_by_lion(cfg.b1, cfg.b2)
    return optax.trace(cfg.b1) if cfg.b1 else optax.identity()

"""Noisy cyclic gradient descent: one resumable training, or a whole grid of them at once."""

import contextlib
import dataclasses
import functools
import itertools
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as Spec

from jaxml.core import check, config, rng
from jaxml.core.types import Array, Key
from jaxml.dist import shard
from jaxml.dist.collective import AxisName, axis_index_or_zero
from jaxml.dp import gating, privacy
from jaxml.dp.clip import clipped_grad
from jaxml.dp.config import (
    TF32_SLACK,
    ClipMode,
    ConvexReLUConfig,
    NoisyCGDConfig,
    check_mode,
    gradient_bound,
)
from jaxml.dp.privacy import PrivacyReport
from jaxml.train import checkpoint, hooks, loop, state

GIVEN_KEY = "a key that was given: whoever knows it can take the noise away"
SYSTEM_KEY = "64 bits from the operating system; threefry is no cipher, and noise is float32"


_PRECISION = {"highest": "highest", "tf32": "default"}


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a folder's training must agree in to be gone on with."""

    model: ConvexReLUConfig
    training: NoisyCGDConfig


class Rates(NamedTuple):
    """The numbers of an update, arrays so that runs that differ in them share a program."""

    learning_rate: Array | float
    l2: Array | float
    clip_norm: Array | float
    noise_std: Array | float


class Batches(NamedTuple):
    """The examples cut once, by index: x [l, b, d], gates bool [l, b, P], labels int [l, b]."""

    x: Array
    g: Array
    label: Array


def rates(cfg: NoisyCGDConfig, model: ConvexReLUConfig) -> Rates:
    """Rates of a configuration; the noise is that of the *mean* gradient."""
    bound = gradient_bound(cfg, model)
    clip = cfg.clip_norm / (1 + TF32_SLACK) if cfg.matmul == "tf32" else cfg.clip_norm
    if cfg.matmul == "tf32" and cfg.clip_mode == "lipschitz":
        bound *= 1 + TF32_SLACK
    std = cfg.noise_multiplier * bound / cfg.batch_size
    return Rates(cfg.learning_rate, cfg.l2, clip, std)


def entropy_key() -> Key:
    """A key from 64 bits of the operating system's entropy."""
    words = np.frombuffer(secrets.token_bytes(8), np.uint32)
    return jax.random.wrap_key_data(jnp.asarray(words), impl="threefry2x32")


def gate_noise(key: Key, shape: tuple[int, ...], first: Array | int = 0) -> Array:
    """Standard normal [P, d, K], drawn gate by gate: a part of the gates draws the same numbers.

    Args:
      key: of the update.
      shape: of this part's parameters.
      first: index of this part's first gate among all.
    """

    def one(gate: Array) -> Array:
        return jax.random.normal(rng.fold(key, gate), shape[1:])

    return jax.vmap(one)(first + jnp.arange(shape[0], dtype=jnp.int32))


def update(
    v: Array,
    batch: Batches,
    key: Key,
    rate: Rates,
    model: ConvexReLUConfig,
    mode: ClipMode,
    *,
    gate_axis: AxisName = None,
    batch_axis: AxisName = None,
) -> Array:
    """One step: `v - eta (mean of bounded gradients + lambda v + noise)`, the noise added once.

    Args:
      v: [P, d, K].
      batch: one batch, without the leading axis of `Batches`.
      key: of this update's noise; on a mesh every device holds the same one.
      rate: numbers of the update.
      model: the model.
      mode: how gradients are bounded.
      gate_axis: mesh axis that gates are split over.
      batch_axis: mesh axis that the batch is split over.
    """
    mean, _ = clipped_grad(
        v,
        batch.x,
        batch.g,
        batch.label,
        rate.clip_norm,
        mode,
        dataclasses.replace(model, num_gates=v.shape[0]),
        gate_axis=gate_axis,
        batch_axis=batch_axis,
    )
    noise = gate_noise(key, v.shape, axis_index_or_zero(gate_axis) * v.shape[0])
    return v - rate.learning_rate * (mean + rate.l2 * v + rate.noise_std * noise)


def check_data(x: Any, label: Any, model: ConvexReLUConfig, batch_size: int) -> int:
    """Raises ValueError for data that does not fit; returns the number of batches."""
    num = check.shape("x", x, ["n", model.in_dim])["n"]
    check.shape("label", label, [num])
    if not bool(jnp.all(jnp.isfinite(x))):
        raise ValueError("x must be finite; got nan or inf among its values.")
    low, high = int(jnp.min(label)), int(jnp.max(label))
    if low < 0 or high >= model.num_classes:
        raise ValueError(
            f"label must lie in [0, {model.num_classes}); got labels from {low} to {high}."
        )
    return privacy.num_batches_of(num, batch_size)


def cut(x: Any, u: Array, label: Any, num_batches: int) -> Batches:
    """The examples in disjoint batches by index, with their gates, never shuffled again."""
    x, label = jnp.asarray(x, jnp.float32), jnp.asarray(label, jnp.int32)
    g = gating.gates(x, u)
    return Batches(*(a.reshape(num_batches, -1, *a.shape[1:]) for a in (x, g, label)))


def fold_updates(
    v: Array, data: Batches, key: Key, rate: Rates, first: Array, count: int, **how: Any
) -> Array:
    """`count` updates from number `first` on: batch `t mod l`, noise of `fold(key, "noise", t)`."""
    num_batches = data.x.shape[0]

    def step(v: Array, t: Array) -> tuple[Array, None]:
        batch = Batches(*(jnp.take(a, t % num_batches, axis=0) for a in data))
        return update(v, batch, rng.fold(key, "noise", t), rate, **how), None

    return jax.lax.scan(step, v, first + jnp.arange(count, dtype=jnp.int32))[0]


_SPECS: Any = (Spec(None, "data"), Spec(None, "data", "model"), Spec(None, "data"))


def _on_mesh(mesh: Mesh | None, count: int, **how: Any) -> Callable[..., Array]:
    """`fold_updates` over a mesh: gates split over `model`, the batch over `data`."""
    if mesh is None:
        return functools.partial(fold_updates, count=count, **how)
    axes = {"gate_axis": "model", "batch_axis": "data"}
    return jax.shard_map(
        functools.partial(fold_updates, count=count, **how, **axes),
        mesh=mesh,
        in_specs=(Spec("model"), Batches(*_SPECS), Spec(), Spec(), Spec()),
        out_specs=Spec("model"),
    )


class Trained(NamedTuple):
    """What may be released: parameters [P, d, K], gate directions [d, P], the report."""

    v: Array
    u: Array
    report: PrivacyReport | None


def train_noisy_cgd(
    key: Key | None,
    x: Any,
    label: Any,
    model: ConvexReLUConfig,
    cfg: NoisyCGDConfig,
    mesh: Mesh | None = None,
    *,
    private: bool = True,
    folder: Path | str | None = None,
    updates_per_call: int | None = None,
    max_calls: int | None = None,
    watch: Sequence[loop.Hook] = (),
) -> Trained:
    """Trains from V = 0 and releases the last iterate.

    Args:
      key: of gates and noise; None takes one from the operating system.
      x: examples [n, d], as they are: scaling is the model's own, example by example.
      label: classes int [n].
      model: the model.
      cfg: the training.
      mesh: splits gates over its `model` axis and batches over `data`; the result is the same.
      private: False trains without a report, and then `noise_multiplier` may be 0.
      folder: of checkpoints, from which a run that was stopped goes on exactly. They hold earlier
        iterates and the noise's key: they belong to whoever holds the data, and go when the
        training is complete.
      updates_per_call: updates between two looks of the hooks; must divide the updates of the
        training. By default those of one epoch.
      max_calls: stop, saved, after so many calls (for a test of resuming); None: run to the end.
      watch: hooks. What they show of the training data is not private.

    Returns:
      Parameters, gates and report; the report is None where the training is not complete.

    Raises:
      ValueError: data or settings that do not fit, no contraction, or no noise.
    """
    check_mode(cfg.clip_mode, model)
    num_batches = check_data(x, label, model, cfg.batch_size)
    report = privacy.hidden_state(cfg, model, len(label)) if private else None
    per_call = updates_per_call or num_batches
    check.divides(updates_per_call=per_call, updates=cfg.epochs * num_batches)
    calls = cfg.epochs * num_batches // per_call
    start = _start(entropy_key() if key is None else key, model, mesh)
    with _kept(folder, Settings(model, cfg)) as checkpointer:
        now = _resumed(start, checkpointer, given=key is not None)
        u = gating.sample_gates(rng.fold(now.key, "gates"), model.in_dim, model.num_gates)
        data = cut(x, u, label, num_batches)
        if mesh is not None:
            places = [NamedSharding(mesh, spec) for spec in _SPECS]
            data = Batches(*(shard.put(a, to) for a, to in zip(data, places, strict=True)))
        updates = _on_mesh(mesh, per_call, model=model, mode=cfg.clip_mode)
        step = _step(updates, per_call, rates(cfg, model), cfg.matmul)
        last = calls if max_calls is None else min(calls, max_calls)
        seen = [*watch]
        if checkpointer is not None:
            every = max(1, calls // 20)
            seen = [hooks.StopOnSignal(), *watch, hooks.Checkpoint(checkpointer, every)]
        nothing = itertools.repeat(None)
        now = loop.fit(lambda at, _: step(at, data), now, nothing, seen, num_steps=last)
    if int(now.step) < calls:
        return Trained(now.params, u, None)
    if checkpointer is not None:
        shutil.rmtree(checkpointer.folder, ignore_errors=True)
    if report is not None:
        report = dataclasses.replace(report, randomness=SYSTEM_KEY if key is None else GIVEN_KEY)
    return Trained(now.params, u, report)


@contextlib.contextmanager
def _kept(
    folder: Path | str | None, settings: Settings
) -> Iterator[checkpoint.Checkpointer | None]:
    """The folder's checkpoints, once it is known to belong to a training of these settings."""
    if folder is None:
        yield None
        return
    path = Path(folder) / "settings.json"
    if path.exists() and config.load(Settings, path) != settings:
        raise ValueError(f"{folder} holds a training with other settings; choose another folder.")
    config.save(settings, path)
    with checkpoint.Checkpointer(Path(folder) / "checkpoints", 1) as checkpointer:
        yield checkpointer


def _resumed(
    start: state.TrainState, checkpointer: checkpoint.Checkpointer | None, given: bool
) -> state.TrainState:
    """The newest state kept, or the start; a key that is given must be the one begun with."""
    if checkpointer is None or not checkpoint.steps(checkpointer.folder):
        return start
    now = checkpointer.restore(state.abstract(start)).state
    ours, theirs = (jax.random.key_data(s.key) for s in (start, now))
    if given and not bool(jnp.all(ours == theirs)):
        raise ValueError("key must be that of the training in the folder; got another one.")
    return now


def _start(key: Key, model: ConvexReLUConfig, mesh: Mesh | None) -> state.TrainState:
    v = jnp.zeros((model.num_gates, model.in_dim, model.num_classes))
    if mesh is not None:
        check.divides(mesh_model=mesh.shape["model"], num_gates=model.num_gates)
        v = shard.put(v, NamedSharding(mesh, Spec("model")))
    position = {"updates": jnp.zeros((), jnp.int32)}
    return state.create(key, v, optax.identity(), extra=position)


def _step(
    updates: Callable[..., Array], count: int, rate: Rates, matmul: str
) -> Callable[..., tuple[state.TrainState, dict[str, Array]]]:
    """One call of the loop: `count` updates; the position in the cycle is part of the state."""
    numbers = Rates(*(jnp.float32(r) for r in rate))

    @jax.jit
    def advance(now: state.TrainState, data: Batches, rate: Rates) -> state.TrainState:
        done = now.extra["updates"]
        with jax.default_matmul_precision(_PRECISION[matmul]):
            v = updates(now.params, data, now.key, rate, done)
        extra = {"updates": done + count}
        return dataclasses.replace(now, step=now.step + 1, params=v, extra=extra)

    def step(now: state.TrainState, data: Batches) -> tuple[state.TrainState, dict[str, Array]]:
        after = advance(now, data, numbers)
        return after, {"updates": after.extra["updates"]}

    return step


def train_grid(
    keys: Sequence[Key],
    x: Any,
    label: Any,
    model: ConvexReLUConfig,
    cfgs: Sequence[NoisyCGDConfig],
    *,
    epochs_per_call: int = 1,
    say: Callable[[str], None] = lambda text: None,
) -> tuple[Array, Array]:
    """Many trainings at once by `vmap`: each with its key, rates and noise.

    Args:
      keys: one for each training.
      x: examples [n, d].
      label: int [n].
      model: of all of them.
      cfgs: one for each training; they may differ in learning_rate, l2, noise_multiplier and
        clip_norm.
      epochs_per_call: epochs between two lines of progress; divides the epochs.
      say: prints a line.

    Returns:
      Parameters [r, P, d, K] and gate directions [r, d, P]; reports come from
      `privacy.hidden_state` of each configuration, with `tuned(len(cfgs))` if one is chosen.

    Raises:
      ValueError: configurations that differ in more, or data that does not fit.
    """
    first, numbers = cfgs[0], ("learning_rate", "l2", "noise_multiplier", "clip_norm")
    for cfg in cfgs:
        same = {name: getattr(first, name) for name in numbers}
        if dataclasses.replace(cfg, **same) != first:
            raise ValueError(f"cfgs may differ in {', '.join(numbers)} only; got {cfg}.")
        privacy.check_contraction(cfg, model)
    check.divides(epochs_per_call=epochs_per_call, epochs=first.epochs)
    num_batches = check_data(x, label, model, first.batch_size)
    run_keys = jnp.stack([rng.fold(key, "train") for key in keys])  # as `state.create` does
    u = jax.vmap(
        lambda key: gating.sample_gates(rng.fold(key, "gates"), model.in_dim, model.num_gates)
    )(run_keys)
    cut_all = jax.jit(lambda x, u: jax.lax.map(lambda one: gating.gates(x, one), u))
    x = jnp.asarray(x, jnp.float32)
    g = cut_all(x, u).reshape(len(keys), num_batches, first.batch_size, model.num_gates)
    x = x.reshape(num_batches, first.batch_size, -1)
    label = jnp.asarray(label, jnp.int32).reshape(num_batches, first.batch_size)
    rate = Rates(*(jnp.float32(r) for r in zip(*(rates(c, model) for c in cfgs), strict=True)))
    count = epochs_per_call * num_batches

    @jax.jit
    def advance(v: Array, done: Array) -> Array:
        def one(v: Array, g: Array, key: Key, rate: Rates) -> Array:
            data = Batches(x, g, label)
            return fold_updates(v, data, key, rate, done, count, model=model, mode=first.clip_mode)

        with jax.default_matmul_precision(_PRECISION[first.matmul]):
            return jax.vmap(one)(v, g, run_keys, rate)

    v = jnp.zeros((len(keys), model.num_gates, model.in_dim, model.num_classes))
    for call in range(first.epochs // epochs_per_call):
        v = advance(v, jnp.int32(call * count))
        jax.block_until_ready(v)
        say(f"{len(keys)} trainings, epoch {(call + 1) * epochs_per_call} of {first.epochs}")
    return v, u

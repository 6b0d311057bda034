"""Noisy cyclic gradient descent: one resumable training."""

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
from jaxml.dp import gating, privacy
from jaxml.dp.config import ConvexReLUConfig, NoisyCGDConfig, check_mode
from jaxml.dp.descent import PRECISION, Batches, Rates, check_data, cut, fold_updates, rates
from jaxml.dp.privacy import PrivacyReport
from jaxml.train import checkpoint, hooks, loop, state

GIVEN_KEY = "a key that was given: whoever knows it can take the noise away"
SYSTEM_KEY = "64 bits from the operating system; threefry is no cipher, and noise is float32"


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a folder's training must agree in to be gone on with."""

    model: ConvexReLUConfig
    training: NoisyCGDConfig


def entropy_key() -> Key:
    """A key from 64 bits of the operating system's entropy."""
    words = np.frombuffer(secrets.token_bytes(8), np.uint32)
    return jax.random.wrap_key_data(jnp.asarray(words), impl="threefry2x32")


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
        with jax.default_matmul_precision(PRECISION[matmul]):
            v = updates(now.params, data, now.key, rate, done)
        extra = {"updates": done + count}
        return dataclasses.replace(now, step=now.step + 1, params=v, extra=extra)

    def step(now: state.TrainState, data: Batches) -> tuple[state.TrainState, dict[str, Array]]:
        after = advance(now, data, numbers)
        return after, {"updates": after.extra["updates"]}

    return step

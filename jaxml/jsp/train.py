"""Training by self-labelling: fresh random instances, buckets by shape, one packed checkpoint.

Needs jax, optax, flax, typeguard and safetensors, so that it also runs where no data set or command
line is at hand.
"""

import concurrent.futures
import dataclasses
import functools
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from jaxml.core import check, config, files, rng
from jaxml.core.types import Array, PyTree
from jaxml.dist import shard
from jaxml.jsp import objective, pack, policy
from jaxml.jsp.batches import Batches
from jaxml.jsp.config import SLIMConfig
from jaxml.jsp.problem import Problem
from jaxml.jsp.validation import Keeper, Validation, validated_on
from jaxml.train import hooks, logs, loop, state, step
from jaxml.train.state import TrainState


class Trained(NamedTuple):
    """What `train` returns.

    Attributes:
      params: after the last update.
      best: the parameters that did best on the validation instances; `params` without validation.
      score: their mean gap to the lower bound in per cent; NaN without validation.
      steps: updates made in all runs of the folder.
    """

    params: PyTree
    best: PyTree
    score: float
    steps: int


def learning_rate(cfg: SLIMConfig, progress: float) -> float:
    """The rate at a share of the run: a linear rise, then a half cosine down to `final_lr`.

    >>> cfg = SLIMConfig(lr=1.0, final_lr=0.5, warmup=0.1)
    >>> [round(learning_rate(cfg, p), 3) for p in (0.0, 0.1, 0.55, 1.0)]
    [0.05, 1.0, 0.75, 0.5]
    """
    progress = min(max(progress, 0.0), 1.0)
    if progress < cfg.warmup:
        return cfg.lr * max(progress / cfg.warmup, 0.05)
    share = (progress - cfg.warmup) / max(1.0 - cfg.warmup, 1e-9)
    return cfg.final_lr + (cfg.lr - cfg.final_lr) * (1 + math.cos(math.pi * share)) / 2


def optimizer(cfg: SLIMConfig) -> optax.GradientTransformation:
    """Adam with clipping, whose rate is an array of its state."""

    def make(learning_rate: Any) -> optax.GradientTransformation:
        return optax.chain(optax.clip_by_global_norm(cfg.clip_norm), optax.adam(learning_rate))

    return optax.inject_hyperparams(make)(learning_rate=jnp.float32(cfg.lr))


def train(
    cfg: SLIMConfig,
    folder: Path | str,
    *,
    minutes: float | None = None,
    plan_minutes: float | None = None,
    plan_start: float = 0.0,
    mesh: Mesh | None = None,
    say: Callable[[str], None] = print,
    log_every: int = 10,
) -> Trained:
    """Trains, or goes on training, in a folder.

    The folder gets `config.json`, `metrics.jsonl`, `run.safetensors` (all that resuming needs) and
    `best.safetensors` (the parameters that are best in validation). Without `plan_minutes` a run
    that was stopped and resumed makes the same updates as one that was not.

    Args:
      cfg: the training.
      folder: of the run.
      minutes: stop after this long, compilation included, saved; None: after `cfg.num_steps`.
      plan_minutes: the learning rate follows the time trained in all runs over this; None: it
        follows the updates made over `cfg.num_steps`.
      plan_start: minutes of earlier runs that `plan_minutes` leaves out: the rate begins anew.
      mesh: instances of a batch are split over its `data` axis; None: one device.
      say: prints validations.
      log_every: updates between lines of the log.

    Raises:
      ValueError: the folder holds a run with other settings.
      FolderInUseError: another process trains there.
    """
    folder = Path(folder)
    for name, value in (("minutes", minutes), ("plan_minutes", plan_minutes)):
        if value is not None:
            check.positive(**{name: value})
    check.at_least(0, plan_start=plan_start)
    with files.lock(folder):
        _check_same_run(cfg, folder)
        plan = None if plan_minutes is None else (plan_start, plan_minutes)
        return _train(cfg, folder, minutes, plan, mesh, say, log_every)


def _train(
    cfg: SLIMConfig,
    folder: Path,
    minutes: float | None,
    plan: tuple[float, float] | None,
    mesh: Mesh | None,
    say: Callable[[str], None],
    log_every: int,
) -> Trained:
    begun = time.monotonic()
    now, best, about = _start(cfg, folder, mesh)
    batches = Batches(cfg, mesh)
    batches.set_state({"index": int(now.step)})
    validation = Validation(cfg) if cfg.eval_every else None
    update = _compiled(cfg, now, batches, mesh, validation)
    say(f"compiled {len(update)} shapes in {time.monotonic() - begun:.1f} s")
    keeper = Keeper(cfg, folder, validation, best, about["score"], about["minutes"], say)

    def paced(now: TrainState, batch: Problem) -> tuple[TrainState, dict[str, Array]]:
        done = batches.index - 1
        progress = done / max(cfg.num_steps, 1)
        if plan is not None:
            progress = (keeper.minutes - plan[0]) / plan[1]
        now = _with_rate(now, learning_rate(cfg, progress), mesh)
        now, metrics = update[batch.machines.shape](now, batch)
        size = dict(zip(("jobs", "machines"), batch.machines.shape[1:], strict=True))
        return now, metrics | size | {"minutes": keeper.minutes}

    watching: list[loop.Hook] = [keeper, logs.JsonLines(folder / "metrics.jsonl", log_every)]
    if minutes is not None:
        watching.insert(0, hooks.TimeBudget(max(60 * minutes - (time.monotonic() - begun), 1e-3)))
    last = loop.fit(paced, now, batches, watching, num_steps=cfg.num_steps)
    score = keeper.score
    final = last.params if last.ema is None else last.ema
    return Trained(final, keeper.best if math.isfinite(score) else final, score, int(last.step))


def _start(
    cfg: SLIMConfig, folder: Path, mesh: Mesh | None
) -> tuple[TrainState, PyTree, dict[str, Any]]:
    """The state to begin from, the best parameters so far, and score and minutes."""
    key = jax.random.key(cfg.seed)
    params = jax.jit(policy.init_params, static_argnums=1)(rng.fold(key, "init"), cfg.model)
    if mesh is not None:
        params = shard.put(params, shard.replicated(mesh))
    best = jax.device_get(params)
    now = state.create(key, params, optimizer(cfg), ema=cfg.ema_decay is not None)
    path = folder / "run.safetensors"
    config.save(cfg, folder / "config.json")
    if not path.exists():
        return now, best, {"score": math.inf, "minutes": 0.0}
    found, about = pack.load(path, {"state": now, "best": best})
    if mesh is not None:
        found["state"] = shard.put(found["state"], shard.replicated(mesh))
    if about.get("validation", "") != validated_on(cfg):  # another measure, so another best
        about["score"] = math.inf
    return found["state"], found["best"], about


def _compiled(
    cfg: SLIMConfig,
    now: TrainState,
    batches: Batches,
    mesh: Mesh | None,
    validation: "Validation | None",
) -> dict[tuple[int, ...], Any]:
    """The step compiled for every shape, all at once in threads."""
    same = SLIMConfig(
        cfg.model,
        batch=cfg.batch,
        num_samples=cfg.num_samples,
        clip_norm=cfg.clip_norm,
        ema_decay=cfg.ema_decay,
        rollout_dtype=cfg.rollout_dtype,
    )
    known = _programs(same, mesh)
    update = step.make_step(
        objective.slim(cfg.model, cfg.num_samples, cfg.rollout_dtype),
        optimizer(cfg),
        ema_decay=cfg.ema_decay,
        shardings=state.shardings(now),
    )
    now = _with_rate(now, cfg.lr, mesh)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        if validation is not None:
            pool.submit(validation.compile, now.params)
        for batch in (batches.at(i) for i in range(len(cfg.shapes))):
            if batch.machines.shape not in known:
                lowered = update.lower(now, batch)  # pyright: ignore[reportFunctionMemberAccess]
                known[batch.machines.shape] = pool.submit(lowered.compile)
    return {shape: done.result() for shape, done in known.items()}


@functools.cache
def _programs(cfg: SLIMConfig, mesh: Mesh | None) -> dict[tuple[int, ...], Any]:
    """Compiled steps by shape, kept for the next run of this process with the same settings."""
    del cfg, mesh
    return {}


def _with_rate(now: TrainState, rate: float, mesh: Mesh | None) -> TrainState:
    value = jnp.asarray(rate, jnp.float32)
    if mesh is not None:
        value = shard.put(value, shard.replicated(mesh))
    inner = now.opt_state._replace(hyperparams={"learning_rate": value})  # pyright: ignore
    return dataclasses.replace(now, opt_state=inner)


def _check_same_run(cfg: SLIMConfig, folder: Path) -> None:
    """A folder belongs to one run; only its length may change."""
    path = folder / "config.json"
    if not path.exists():
        return
    before = config.load(SLIMConfig, path)
    same = dataclasses.replace(cfg, num_steps=before.num_steps)
    config.check_same(same, before, folder)

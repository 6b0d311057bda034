"""Validation on generated instances, and the best parameters so far, kept on disk."""

import dataclasses
import functools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxml.core import rng
from jaxml.core.types import Array, Key, PyTree
from jaxml.jsp import pack, policy, rollout
from jaxml.jsp.batches import instances
from jaxml.jsp.config import SLIMConfig, SPNConfig
from jaxml.jsp.instance import JSPInstance
from jaxml.jsp.problem import Problem, pad_batch
from jaxml.train import loop
from jaxml.train.state import TrainState


class Validation:
    """Gaps on generated instances that no update ever sees, all shapes in one padded batch."""

    def __init__(self, cfg: SLIMConfig):
        key = rng.fold(jax.random.key(cfg.seed), "validation")
        drawn = [
            instances(rng.fold(key, i), cfg, cfg.eval_instances, shape)
            for i, shape in enumerate(cfg.shapes)
        ]
        rows = [
            JSPInstance(np.asarray(m), np.asarray(d))
            for batch in drawn
            for m, d in zip(batch.machines, batch.durations, strict=True)
        ]
        self.problems = pad_batch(rows)
        self.bounds = np.asarray([row.trivial_bound for row in rows], np.float64)
        self._measure: Any = jax.jit(functools.partial(_makespans, cfg.model))
        self._temperatures = jnp.ones((cfg.eval_samples + 1,)).at[0].set(0.0)
        self._inputs = (self.problems, rng.fold(key, "samples"))

    def compile(self, params: PyTree) -> None:
        """Compiles ahead of the first call."""
        self._measure = self._measure.lower(params, *self._inputs, self._temperatures).compile()

    def __call__(self, params: PyTree, temperature: float = 1.0) -> dict[str, float]:
        """Mean gap to the trivial lower bound in per cent: greedy, and best of the samples."""
        found = np.asarray(self._measure(params, *self._inputs, temperature * self._temperatures))
        greedy, best = found[:, 0], found[:, 1:].min(1)
        return {
            "greedy": float(np.mean(100 * (greedy / self.bounds - 1))),
            "best": float(np.mean(100 * (best / self.bounds - 1))),
        }


def _makespans(
    cfg: SPNConfig, params: PyTree, problems: Problem, key: Key, temperatures: Array
) -> Array:
    """Makespans [b, samples]; a sample of temperature 0 is the greedy schedule."""

    def one(problem: Problem, key: Key) -> Array:
        ready = policy.prepare(params, cfg, problem)
        keys = rollout.sample_keys(key, temperatures.shape[0])
        return rollout.sample_prepared(ready, cfg, keys, temperatures).makespans

    return jax.vmap(one)(problems, rollout.sample_keys(key, problems.lengths.shape[0]))


@dataclasses.dataclass
class Keeper:
    """Validates, keeps the best parameters, and writes the packed checkpoint every minute."""

    cfg: SLIMConfig
    folder: Path
    validation: Validation | None
    best: PyTree
    score: float
    minutes_before: float
    say: Callable[[str], None]
    every_s: float = 60.0
    _begun: float = dataclasses.field(default_factory=time.monotonic)
    _written: float = dataclasses.field(default_factory=time.monotonic)

    @property
    def minutes(self) -> float:
        """Training time of all runs of the folder."""
        return self.minutes_before + (time.monotonic() - self._begun) / 60

    def __call__(self, event: loop.Event) -> None:
        """After every update."""
        if self.validation and event.step % self.cfg.eval_every == 0:
            self._validate(event)
        if time.monotonic() - self._written > self.every_s:
            self._write(event.state, event.step)

    def finish(self, event: loop.Event) -> None:
        """At the end of the run."""
        if self.validation and event.step % self.cfg.eval_every:
            self._validate(event)
        self._write(event.state, event.step)

    def _validate(self, event: loop.Event) -> None:
        params = event.state.params if event.state.ema is None else event.state.ema
        found = self.validation(params) if self.validation else {}
        event.results |= {f"valid/{name}": value for name, value in found.items()}
        if not found["best"] >= self.score:
            self.score, self.best = found["best"], jax.device_get(params)
            policy.save(self.folder / "best.safetensors", self.best, self.cfg.model)
        record = {"step": event.step, "minutes": round(self.minutes, 2), **found}
        record |= {k: float(event.metrics[k]) for k in ("loss", "entropy", "distinct")}
        self.say(json.dumps({k: round(v, 4) for k, v in record.items()}))

    def _write(self, now: TrainState, done: int) -> None:
        about = {"score": self.score, "minutes": self.minutes, "step": done}
        about["validation"] = validated_on(self.cfg)
        pack.save(self.folder / "run.safetensors", {"state": now, "best": self.best}, about)
        self._written = time.monotonic()


def validated_on(cfg: SLIMConfig) -> str:
    """What the validation instances hang on: scores on others cannot be compared."""
    names = ("shapes", "low", "high", "two_sets", "eval_instances", "eval_samples", "seed")
    return json.dumps([getattr(cfg, name) for name in names])

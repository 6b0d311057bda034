"""Training and scoring of the Social-GAN baseline."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxml.core import check, rng
from jaxml.core.types import Key, PyTree
from jaxml.driving.prediction import evaluate, socialgan
from jaxml.driving.prediction.social import Forecast
from jaxml.driving.prediction.socialgan import GanConfig, GanState
from jaxml.driving.tracks.ethucy import Fold
from jaxml.driving.tracks.windows import Windows


@dataclasses.dataclass(frozen=True)
class GanPlan:
    """How the baseline is trained.

    Attributes:
      model: sizes.
      num_steps: updates of each side.
      batch_size: windows.
      most: agents of a window that are trained on.
      num_checks: times that validation is looked at; the best is kept.
    """

    model: GanConfig = GanConfig()
    num_steps: int = 1_500
    batch_size: int = 48
    most: int = 32
    num_checks: int = 5

    def __post_init__(self):
        check.positive(num_steps=self.num_steps, batch_size=self.batch_size, most=self.most)
        check.between(1, self.num_steps, num_checks=self.num_checks)


PLAN = GanPlan()


def fit(key: Key, plan: GanPlan, train: Windows, validation: Windows) -> PyTree:
    """The generator that did best (best-of-k of validation windows)."""
    crowd = jax.tree.map(jnp.asarray, socialgan.crowds(train, plan.most)[0])
    held = jax.tree.map(jnp.asarray, socialgan.crowds(validation, plan.most)[0])
    step, state = socialgan.make_step(plan.model), socialgan.start(key, plan.model)
    chunk = plan.num_steps // plan.num_checks

    @jax.jit
    def steps(state: GanState) -> GanState:
        def one(state: GanState, _: None) -> tuple[GanState, None]:
            own = rng.fold(key, "step", state.step)
            rows = jax.random.randint(rng.fold(own, "rows"), (plan.batch_size,), 0, len(crowd.mask))
            return step(state, jax.tree.map(lambda x: x[rows], crowd), own)[0], None

        return jax.lax.scan(one, state, length=chunk)[0]

    rows = jnp.arange(min(len(held.mask), 256))
    some = jax.tree.map(lambda x: x[rows], held)
    noise = jax.random.normal(rng.fold(key, "check"), (20, len(rows), plan.model.noise))

    @jax.jit
    def near(params: PyTree) -> Any:
        paths = socialgan.generate(params, plan.model, some, noise)
        wanted = some.future - some.past[:, :, -1:]
        return socialgan.variety(paths, wanted, some.mask)

    best, lowest = state.params["generator"], np.inf
    for _ in range(plan.num_checks):
        state = steps(state)
        if (now := float(near(state.params["generator"]))) < lowest:
            best, lowest = jax.tree.map(jnp.copy, state.params["generator"]), now
    return best


def forecast(
    key: Key, params: PyTree, cfg: GanConfig, windows: Windows, num_samples: int = 20
) -> Forecast:
    """Samples for all agents, with equal probabilities and a width of 0.3 m."""
    most = int(np.bincount(windows.group).max())
    crowd, flat = socialgan.crowds(windows, most)
    block, parts = max(2048 // most, 1), []
    run = jax.jit(lambda c, z: socialgan.generate(params, cfg, c, z))
    for first in range(0, len(crowd.mask), block):
        rows = np.minimum(np.arange(first, first + block), len(crowd.mask) - 1)
        noise = jax.random.normal(rng.fold(key, first), (num_samples, block, cfg.noise))
        paths = run(jax.tree.map(lambda x, rows=rows: jnp.asarray(x[rows]), crowd), noise)
        parts.append(np.asarray(jnp.moveaxis(paths, 0, 2)))
    every = np.concatenate(parts)[: len(crowd.mask)]
    found = every.reshape(-1, *every.shape[2:])[flat]
    flat_prob = np.full(found.shape[:2], -np.log(num_samples), np.float32)
    return Forecast(found, flat_prob, np.full(found.shape[:3], 0.3, np.float32))


def study(folds: dict[str, Fold], plan: GanPlan, say: Callable[[str], None]) -> dict[str, Any]:
    """Trains and scores every fold."""
    rows, begun = {}, time.monotonic()
    for name, fold in folds.items():
        params = fit(rng.fold(jax.random.key(0), name), plan, fold.train, fold.validation)
        made = forecast(rng.fold(jax.random.key(1), name), params, plan.model, fold.test)
        rows[name] = evaluate.score(fold.test, made)
        say(f"Social-GAN {name}: {rows[name].min_ade:.3f}/{rows[name].min_fde:.3f} best of 20")
    mean = evaluate.mean(list(rows.values()))
    return {
        "wall_s": time.monotonic() - begun, "steps": plan.num_steps,
        "test": {n: r._asdict() for n, r in {**rows, "mean": mean}.items()},
    }  # fmt: skip

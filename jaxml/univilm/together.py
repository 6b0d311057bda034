"""Trainings that differ in seed and start alone, side by side in one program.

Clips lie on the device and many steps make one call: what a step of a small model costs on a GPU is
mostly its launch. Seed by seed the numbers are those of `train.fit`.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxml.core import check
from jaxml.core.types import Array, PyTree
from jaxml.train import state, step
from jaxml.train.state import TrainState
from jaxml.univilm import optimizer
from jaxml.univilm.clips import Batches, Clips, texts_of
from jaxml.univilm.config import TrainConfig, UniVLConfig
from jaxml.univilm.train import check_fits, make_loss, trained


def put(clips: Clips) -> dict[str, Array]:
    """The clips on the device, as batches name them."""
    columns = clips._asdict() | {"same": texts_of(clips)}
    return {name: jnp.asarray(x) for name, x in columns.items() if name != "item"}


@functools.lru_cache(maxsize=16)
def _program(cfg: UniVLConfig, train: TrainConfig) -> Callable[..., TrainState]:
    """`(states, data, rows [c, s, b, p]) -> states` after c steps of s trainings."""
    update = step.make_step(
        make_loss(cfg, train), optimizer.make(train), accumulate=train.accumulate, donate=False
    )

    def steps(states: TrainState, data: dict[str, Array], rows_csbp: Array) -> TrainState:
        def one(states: TrainState, rows_sbp: Array) -> tuple[TrainState, None]:
            batch = {name: x[rows_sbp] for name, x in data.items()}
            return jax.vmap(update)(states, batch)[0], None

        return jax.lax.scan(one, states, rows_csbp)[0]

    return jax.jit(steps, donate_argnums=0)


def chunk_of(steps: int, most: int = 250) -> int:
    """Steps of one call: the largest divisor of all that is not above `most`.

    >>> chunk_of(3000), chunk_of(7)
    (250, 7)
    """
    return max(c for c in range(1, min(steps, most) + 1) if steps % c == 0)


def fit(
    cfg: UniVLConfig,
    train: TrainConfig,
    starts: Sequence[PyTree],
    seeds: Sequence[int],
    clips: Clips,
    data: dict[str, Array] | None = None,
    place: np.ndarray | None = None,
) -> list[PyTree]:
    """Trains one stage once for each seed.

    Args:
      cfg: the model.
      train: the stage; its own seed is not read.
      starts: parameters to begin with, one tree for each seed.
      seeds: of each training.
      clips: of training; their order is drawn from here.
      data: `put` of these clips, or of more; None: they are put.
      place: row of `data` of each clip; None: the same row. With it, a part of the clips is trained
        on by the program compiled for all.

    Returns:
      The parameters after the last step, one tree for each seed.

    Raises:
      ValueError: data that does not fit the model; starts that are not as many as seeds.
    """
    check_fits(cfg, train, clips)
    check.positive(seeds=len(seeds))
    if len(starts) != len(seeds):
        raise ValueError(
            f"starts must be as many as seeds; got {len(starts)} starts, {len(seeds)} seeds."
        )
    moving, made = trained(train), optimizer.make(train)
    states: Any = _stack([
        state.create(
            jax.random.key(seed), jax.tree.map(jnp.array, {n: start[n] for n in moving}), made
        )
        for start, seed in zip(starts, seeds, strict=True)
    ])  # fmt: skip
    orders = [Batches(clips, dataclasses.replace(train, seed=seed)) for seed in seeds]
    data = put(clips) if data is None else data
    run, size = _program(cfg, dataclasses.replace(train, seed=0)), chunk_of(train.steps)
    for first in range(0, train.steps, size):
        rows = np.stack([[one.rows(i) for one in orders] for i in range(first, first + size)])
        rows = rows if place is None else place[rows]
        shape = (size, len(seeds), train.batch_size, train.n_pair)
        states = run(states, data, jnp.asarray(rows.reshape(shape), jnp.int32))
    parts = [jax.tree.map(lambda x, i=i: x[i], states.params) for i in range(len(seeds))]
    return [{**start, **part} for start, part in zip(starts, parts, strict=True)]


def _stack(states: Sequence[PyTree]) -> PyTree:
    return jax.tree.map(lambda *x: jnp.stack(x), *states)

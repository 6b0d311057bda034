"""Training instances without end, each batch from the key and its index."""

import functools
from collections.abc import Iterator

import jax
from jax.sharding import Mesh

from jaxml.core import rng
from jaxml.core.types import Key
from jaxml.dist import rules, shard
from jaxml.jsp.config import SLIMConfig
from jaxml.jsp.problem import Problem, random_problems


def instances(key: Key, cfg: SLIMConfig, count: int, shape: tuple[int, int]) -> Problem:
    """Random instances as a configuration draws them; `shape` is (jobs, machines)."""
    return random_problems(key, count, *shape, low=cfg.low, high=cfg.high, two_sets=cfg.two_sets)


class Batches(Iterator[Problem]):
    """Fresh instances: batch i has shape i mod number of shapes and draws from `fold(key, i)`."""

    def __init__(self, cfg: SLIMConfig, mesh: Mesh | None = None):
        self.cfg, self.index = cfg, 0
        self._key = rng.fold(jax.random.key(cfg.seed), "instances")
        place = None if mesh is None else shard.batch_sharding(mesh, rules.TENSOR)

        @functools.partial(jax.jit, static_argnums=(1,), out_shardings=place)
        def draw(key: Key, shape: tuple[int, int]) -> Problem:
            return instances(key, cfg, cfg.batch, shape)

        self._draw = draw

    def at(self, index: int) -> Problem:
        """The batch of one update."""
        shape = self.cfg.shapes[index % len(self.cfg.shapes)]
        return self._draw(rng.fold(self._key, index), shape)

    def __next__(self) -> Problem:
        self.index += 1
        return self.at(self.index - 1)

    def get_state(self) -> dict[str, int]:
        """Where the iterator stands."""
        return {"index": self.index}

    def set_state(self, state: dict[str, int]) -> None:
        """Goes there."""
        self.index = state["index"]

"""Training steps on a mesh, compiled before anything is in memory, and timed."""

import concurrent.futures
import dataclasses
import math
import statistics
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxml.core import rng
from jaxml.dist import mesh as meshes
from jaxml.dist import payload, rules, shard
from jaxml.dist.mesh import MeshConfig
from jaxml.report.progress import say
from jaxml.tnl import objective, spread
from jaxml.tnl.config import TNLConfig
from jaxml.tnl.throughput import Trainee, random_batch, step_bytes
from jaxml.train import optim, state, step
from jaxml.train.optim import OptimConfig

OPTIMIZER = OptimConfig(lr=1e-4, schedule="constant", warmup_steps=0, weight_decay=0.1)


@dataclasses.dataclass
class Program:
    """A training step for one mesh and one shape of batch.

    Attributes:
      name: of its rows.
      trainee: the model in training; programs of one mesh share it, and its state moves on.
      mesh: where it runs.
      rows: of a batch, over all devices.
      seq_len: tokens of a row.
      step: compiled.
      bytes: on a device, of arguments, results and temporaries.
      sent: bytes of the results of collectives of one update, on a device.
      compile_s: seconds it took to compile.
      text: of the compiled program.
      problem: why it could not be compiled or read.
    """

    name: str
    trainee: Trainee
    mesh: jax.sharding.Mesh
    rows: int
    seq_len: int
    step: Any = None
    bytes: int = 0
    sent: int = 0
    compile_s: float = 0.0
    text: str = ""
    problem: str = ""

    @property
    def num_devices(self) -> int:
        """Of its mesh."""
        return self.mesh.size

    @property
    def tokens(self) -> int:
        """Of one update."""
        return self.rows * self.seq_len

    @property
    def fits(self) -> bool:
        """Whether it was compiled and needs no more bytes than a device gives."""
        limit = memory_limit()
        return self.bytes > 0 and (limit is None or self.bytes <= limit)

    def compile(self) -> None:
        """Compiles the step and reads what it needs and sends."""
        begun = time.perf_counter()
        place = shard.batch_sharding(self.mesh, rules.TENSOR)
        ids = jax.ShapeDtypeStruct((self.rows, self.seq_len), jnp.int32, sharding=place)
        batch, update = {"inputs": ids, "targets": ids}, self.trainee.update
        try:
            self.step = update.lower(self.trainee.now, batch).compile()  # pyright: ignore
            self.bytes = step_bytes(self.step)
            self.text = self.step.as_text()
            self.sent = sum(payload.collectives(self.text).values())
        except (jax.errors.JaxRuntimeError, NotImplementedError, TypeError, ValueError) as error:
            self.problem = f"{type(error).__name__}: {str(error).splitlines()[0][:300]}"
        self.compile_s = time.perf_counter() - begun
        size, sent = self.bytes / 2**30, self.sent / 1e6
        say(
            f"{self.name}: compiled in {self.compile_s:.0f} s, {size:.1f} GiB a device, "
            f"{sent:,.1f} MB of collectives {self.problem}"
        )

    def batch(self) -> Any:
        """Random tokens, placed."""
        made = random_batch(self.trainee.lm, self.rows, self.seq_len)
        return shard.put(made, shard.batch_sharding(self.mesh, rules.TENSOR))

    def seconds(self, batch: Any) -> float:
        """Of one update."""
        self.trainee.step = self.step
        return self.trainee.seconds(batch)


def memory_limit() -> int | None:
    """Bytes that a device gives to programs; None where it does not say."""
    return (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")


def planned(cfg: TNLConfig, axes: dict[str, int], devices: Sequence[Any]) -> Trainee:
    """A model on the mesh of some axes over the first devices; `start` makes its state."""
    mesh = meshes.make(MeshConfig(**axes), list(devices)[: math.prod(axes.values())])
    lm = spread.language_model(cfg, mesh)
    optimizer = optim.make(OPTIMIZER, optim.matrices(lm.declared))
    now = state.planned(shard.abstract(lm.declared, mesh, rules.TENSOR), optimizer)
    update = step.make_step(objective.loss_fn(lm), optimizer, shardings=state.shardings(now))
    return Trainee("TNL", lm, now, update)


def program(name: str, trainee: Trainee, rows: int, seq_len: int) -> Program:
    """The step of a planned model for one shape of batch."""
    return Program(name, trainee, mesh_of(trainee), rows, seq_len)


def mesh_of(trainee: Trainee) -> jax.sharding.Mesh:
    """Where its state lies, planned or made."""
    return trainee.now.step.sharding.mesh


def state_bytes(trainee: Trainee) -> int:
    """Bytes of parameters and optimiser over all devices."""
    kept = jax.tree.leaves((trainee.now.params, trainee.now.opt_state))
    return sum(math.prod(x.shape) * x.dtype.itemsize for x in kept)


def start(trainee: Trainee) -> None:
    """Makes parameters and optimiser on the mesh."""
    mesh, key = mesh_of(trainee), jax.random.key(0)
    declared = trainee.lm.declared
    params = shard.init_sharded(rng.fold(key, "init"), declared, mesh, rules.TENSOR)
    trainee.now = state.create(key, params, optim.make(OPTIMIZER, optim.matrices(declared)))


def compile_all(programs: Sequence[Program], threads: int) -> None:
    """Compiles side by side."""
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        list(pool.map(Program.compile, programs))


def alternate(programs: Sequence[Program], repeats: int) -> list[float]:
    """Median seconds of an update of each, in alternation; ranges and losses are printed."""
    batches = [one.batch() for one in programs]
    for one, batch in zip(programs, batches, strict=True):
        one.seconds(batch)
    found: list[list[float]] = [[] for _ in programs]
    for _ in range(repeats):
        for one, batch, seconds in zip(programs, batches, found, strict=True):
            seconds.append(one.seconds(batch))
    for one, s in zip(programs, found, strict=True):
        rate = one.tokens / statistics.median(s) / one.num_devices
        say(
            f"{one.name}: {min(s):.4f} to {max(s):.4f} s, {rate:,.0f} tokens/s a device, "
            f"loss {one.trainee.loss:.4f}"
        )
    return [statistics.median(s) for s in found]

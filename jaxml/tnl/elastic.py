"""A run killed and gone on with on other devices, and one process per device beside one for all.

    python -m jaxml.tnl.elastic OUT.json [--preset 40m] [--devices 2]

Every run is a process of its own (`--work FOLDER`) that trains on the same batches of random tokens
by `jaxml.train.run`: one without interruption; one killed by SIGKILL, gone on with on half of the
devices, killed again, and ended on all of them; one in as many processes as devices. Their loss
curves are compared. Needs jax, numpy, optax, flax and orbax. The file is written after every run.
"""

import argparse
import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxml.core import rng
from jaxml.dist import launch, processes, rules, shard
from jaxml.dist import mesh as meshes
from jaxml.dist.mesh import MeshConfig
from jaxml.report import timing
from jaxml.report.progress import say
from jaxml.report.timing import Row
from jaxml.tnl import objective, spread
from jaxml.tnl.config import PRESETS
from jaxml.train import checkpoint, hooks, optim, run
from jaxml.train.optim import OptimConfig

ALLOWED = {"float32": 1e-5, "bfloat16": 5e-3}
"""Largest difference of two loss curves, as a share of the loss, by the dtype of the model."""

PLAN = OptimConfig(lr=1e-3, schedule="constant", warmup_steps=0, weight_decay=0.1)


@dataclasses.dataclass(frozen=True)
class Plan:
    """The run that all make.

    Attributes:
      preset: of the model.
      rows: of a batch, over all devices.
      seq_len: tokens of a row.
      steps: updates.
      save_every: updates between checkpoints.
      pause_s: after every update, so that it can be killed in between.
    """

    preset: str = "40m"
    rows: int = 16
    seq_len: int = 1024
    steps: int = 24
    save_every: int = 5
    pause_s: float = 0.05

    @property
    def first_kill(self) -> int:
        """Logged updates at which the run is killed first."""
        return self.steps // 3

    @property
    def second_kill(self) -> int:
        """And again."""
        return 2 * self.steps // 3


def batches(plan: Plan, vocab_size: int, process: int, count: int) -> Iterator[dict[str, Any]]:
    """Four batches again and again, the rows of one process."""
    shape = (4, plan.rows, plan.seq_len + 1)
    ids = np.random.default_rng(0).integers(0, vocab_size, shape, np.int32)
    mine = np.split(ids, count, axis=1)[process]
    while True:
        for rows in mine:
            yield {"inputs": rows[:, :-1], "targets": rows[:, 1:]}


def work(plan: Plan, folder: Path, num_devices: int) -> None:
    """One run, in this process, on the first devices; joined with others if there are any."""
    processes.start()
    alone = jax.process_count() == 1
    devices = jax.devices()[:num_devices] if alone else jax.devices()
    mesh = meshes.make(MeshConfig(fsdp=-1), devices)
    lm = spread.language_model(PRESETS[plan.preset], mesh)
    key, tokens = jax.random.key(0), plan.rows * plan.seq_len
    run.train(
        objective.loss_fn(lm),
        shard.init_sharded(rng.fold(key, "init"), lm.declared, mesh, rules.TENSOR),
        optim.make(PLAN, optim.matrices(lm.declared)),
        batches(plan, lm.vocab_size, jax.process_index(), jax.process_count()),
        run.RunConfig(plan.steps, log_every=1, save_every=plan.save_every, keep=2),
        key=key,
        folder=folder,
        batch_sharding=shard.batch_sharding(mesh, rules.TENSOR),
        watch=[hooks.Speed(tokens, 1), lambda event: time.sleep(plan.pause_s)],
    )


def command(plan: Plan, folder: Path, num_devices: int) -> list[str]:
    """What starts `work` in a process of its own."""
    flags = {"work": folder, "devices": num_devices, **dataclasses.asdict(plan)}
    words = [f"--{name.replace('_', '-')}={value}" for name, value in flags.items()]
    return [sys.executable, "-m", "jaxml.tnl.elastic", *words]


def environment(num_devices: int) -> dict[str, str]:
    """This process's, with the first devices only."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(num_devices))))
    seen = ",".join(visible.split(",")[:num_devices])
    return {**os.environ, "CUDA_VISIBLE_DEVICES": seen}


def losses(folder: Path) -> list[float]:
    """The loss of every update logged so far."""
    return [line["loss"] for line in _lines(folder)]


def _lines(folder: Path) -> list[dict[str, Any]]:
    path = folder / "metrics.jsonl"
    text = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in text if line.endswith("\n")]


def through(plan: Plan, folder: Path, num_devices: int, kill_at: int | None = None) -> int:
    """One process from where the folder stands, to its end or killed at so many logged updates.

    Returns:
      The update it went on from.

    Raises:
      RuntimeError: it failed, or ended before it could be killed.
    """
    found = checkpoint.steps(folder / "checkpoints")
    worker = subprocess.Popen(command(plan, folder, num_devices), env=environment(num_devices))
    begun = found[-1] if found else 0
    while worker.poll() is None:
        # Logged updates after the checkpoint, from the run before, are dropped at the start.
        saved = checkpoint.steps(folder / "checkpoints")[-1:] > [begun]
        if kill_at is not None and saved and kill_at <= len(_lines(folder)):
            worker.kill()
        time.sleep(0.005)
    wanted = 0 if kill_at is None else -signal.SIGKILL
    if worker.returncode != wanted:
        raise RuntimeError(f"a run ended with status {worker.returncode} instead of {wanted}.")
    return begun


def differs(name: str, one: Sequence[float], other: Sequence[float], allowed: float) -> Row:
    """The largest difference of two curves, as a share of the loss."""
    if len(one) != len(other):
        raise RuntimeError(f"{name}: {len(one)} updates beside {len(other)}.")
    found = max(abs(a - b) / abs(b) for a, b in zip(one, other, strict=True))
    ratio = allowed / max(found, allowed / 1000)
    return Row(name, "loss_difference", "", found, "allowed", allowed, ratio, 1.0)


def measure(plan: Plan, num_devices: int, out: Path, only: Sequence[str]) -> list[Row]:
    """All runs; the file is written after each."""
    allowed, kept = ALLOWED[PRESETS[plan.preset].dtype], []
    fewer, name = max(num_devices // 2, 1), f"{plan.preset} on {num_devices} devices"
    with tempfile.TemporaryDirectory() as scratch:
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", f"{scratch}/compiled")
        straight, killed, joined = (Path(scratch) / n for n in ("straight", "killed", "joined"))
        through(plan, straight, num_devices)
        want = losses(straight)
        say(f"{name}: losses {want[0]:.4f} to {want[-1]:.4f}")
        kept.append(Row(name, "loss_fall", "nats", want[0] - want[-1]))
        if "killed" in only:
            through(plan, killed, num_devices, plan.first_kill)
            first = through(plan, killed, fewer, plan.second_kill)
            second = through(plan, killed, num_devices)
            case = f"{name}, killed, {fewer} from {first}, killed, {num_devices} from {second}"
            kept.append(differs(case, losses(killed), want, allowed))
            timing.write(out, kept)
            say(timing.table(kept[-1:]))
        if "processes" in only:
            status = launch.run(command(plan, joined, 1), num_devices)
            if status:
                raise RuntimeError(f"one process per device ended with status {status}.")
            case = f"{plan.preset}, {num_devices} processes of one device"
            kept.append(differs(case, losses(joined), want, allowed))
            timing.write(out, kept)
            say(timing.table(kept[-1:]))
    return kept


def main() -> None:
    """Parses the flags; works, or measures and writes."""
    parser, plan = argparse.ArgumentParser(description=__doc__), Plan()
    add = parser.add_argument
    add("out", type=Path, nargs="?", help="results file")
    add("--work", type=Path, help="train in this folder, in this process")
    add("--devices", type=int, default=2)
    add("--only", nargs="+", choices=("killed", "processes"), default=["killed", "processes"])
    add("--preset", default=plan.preset, choices=sorted(PRESETS))
    for name, value in dataclasses.asdict(plan).items():
        if name != "preset":
            add(f"--{name.replace('_', '-')}", type=type(value), default=value)
    args = parser.parse_args()
    plan = Plan(**{field.name: getattr(args, field.name) for field in dataclasses.fields(Plan)})
    if args.work is not None:
        work(plan, args.work, args.devices)
    elif args.out is None:
        parser.error("name a results file")
    else:
        print(timing.table(measure(plan, args.devices, args.out, args.only)))


if __name__ == "__main__":
    main()

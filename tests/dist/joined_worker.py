"""One of two processes: a data-parallel fit over their four devices, saved and restored."""

import json
import sys
from pathlib import Path

import jax
import numpy as np
import optax

from jaxml.dist import mesh, processes, shard
from jaxml.dist.rules import DATA
from jaxml.train import checkpoint, hooks, loop, state
from jaxml.train.step import Loss, make_step

ROWS, STEPS = 8, 20


def all_batches():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(STEPS, ROWS, 3)).astype(np.float32)
    return [{"x": x_nd, "y": x_nd @ np.array([1.0, -2.0, 3.0], np.float32)} for x_nd in x]


def loss_fn(params, batch, key, extra):
    residual = batch["x"] @ params["w"] - batch["y"]
    return Loss((residual**2).mean())


def fit(params, batches, place, watch=()):
    optimizer = optax.adam(0.1)
    start = state.create(jax.random.key(0), params, optimizer)
    step = make_step(loss_fn, optimizer, shardings=state.shardings(start))
    placed = iter([place(batch) for batch in batches])
    return loop.fit(step, start, placed, watch, num_steps=STEPS)


def main(port, process, folder):
    several = processes.start(f"127.0.0.1:{port}", 2, process)
    assert several and processes.start(), "joining twice must change nothing"
    folder = Path(folder)
    all_devices = mesh.make(mesh.MeshConfig(data=-1))
    params = jax.device_put({"w": np.zeros(3, np.float32)}, shard.replicated(all_devices))
    rows = shard.batch_sharding(all_devices, DATA)
    mine = slice(process * ROWS // 2, (process + 1) * ROWS // 2)

    def place(batch):
        return processes.global_batch(jax.tree.map(lambda x: x[mine], batch), rows)

    # Only one process wants to stop, after step 11: both must leave after the same step.
    stop = hooks.Every(lambda event: process == 1 and event.step == 11, 1)
    with checkpoint.Checkpointer(folder / "checkpoints") as checkpointer:
        last = fit(params, all_batches(), place, [stop, hooks.Checkpoint(checkpointer, 5)])
        back = checkpointer.restore(state.abstract(last))
    processes.barrier("done")
    same = all(
        np.array_equal(a.addressable_data(0), b.addressable_data(0))
        for a, b in zip(
            jax.tree.leaves(last.params), jax.tree.leaves(back.state.params), strict=True
        )
    )
    record = {
        "devices": jax.device_count(),
        "step": int(last.step),
        "restored": back.step,
        "same": same,
        "main": processes.is_main(),
        "any": processes.any_true(process == 1),
        "from_main": processes.from_main(7 + process),
        "w": np.asarray(last.params["w"].addressable_data(0)).tolist(),
    }
    (folder / f"{process}.json").write_text(json.dumps(record))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])

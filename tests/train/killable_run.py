"""A training run to be killed: `killable_run.py FOLDER`; writes FOLDER/final.npz when done."""

import sys
import time
from pathlib import Path

import jax
import numpy as np
import optax
import tiny_problem

from jaxml.core import tree
from jaxml.train import run

CFG = run.RunConfig(num_steps=90, log_every=1, save_every=3, keep=2, ema_decay=0.9)


def main(folder):
    last = run.train(
        tiny_problem.noisy_loss_fn,
        tiny_problem.params(width=20_000),
        optax.adam(1e-3),
        tiny_problem.Batches(spoiled=(4, 40)),
        CFG,
        key=jax.random.key(5),
        folder=folder,
        extra=tiny_problem.extra(),
        accumulate=2,
        watch=[lambda event: time.sleep(0.01)],
    )
    final = last.replace(key=jax.random.key_data(last.key))
    with (Path(folder) / "final.part").open("wb") as out:
        np.savez(out, **tree.flatten(jax.device_get(final)))
    (Path(folder) / "final.part").rename(Path(folder) / "final.npz")


if __name__ == "__main__":
    main(sys.argv[1])

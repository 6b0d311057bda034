"""Instances per second of training by self-labelling, beside the reference's loop.

    python benchmarks/jsp-training.py OUT.json

The same random instances, weights and number of samples, alternating. The reference takes one
instance after the other and keeps the graph of every sample; here a batch is sampled at once and
the best are replayed. `JAXML_PEER_JSP` is a Python with torch and torch_geometric,
`JAXML_PEER_JSP_CODE` a checkout of the reference, `JAXML_PEER_DEVICE=cuda` puts it on the GPU.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "kernels")]

import jax  # noqa: E402
import numpy as np  # noqa: E402

from benchmarks.jsp import Peer  # noqa: E402
from jaxml.jsp import objective, policy, train  # noqa: E402
from jaxml.jsp.batches import Batches  # noqa: E402
from jaxml.jsp.config import SLIMConfig, SPNConfig  # noqa: E402
from jaxml.report import timing  # noqa: E402
from jaxml.train import state, step  # noqa: E402

SHAPES, SAMPLES, GOAL = ((15, 15), (20, 20)), 128, 50.0


def rows(smoke: bool) -> list[timing.Row]:
    """One row per shape; on a CPU, where the reference takes minutes for more, the first only."""
    on_gpu = jax.default_backend() == "gpu"
    batch, samples = (2, 4) if smoke else (32 if on_gpu else 4, SAMPLES)
    theirs = batch if smoke else 4 if on_gpu else 1
    found = []
    for shape in ((4, 3),) if smoke else SHAPES if on_gpu else SHAPES[:1]:
        cfg = SLIMConfig(
            model=SPNConfig(feature_version="reference"),
            shapes=(shape,),
            batch=batch,
            num_samples=samples,
            rollout_dtype="bfloat16" if on_gpu else "float32",
        )
        found.append(_row(cfg, theirs, 2 if smoke else 3))
        print(timing.table(found[-1:]), flush=True)
    return found


def _row(cfg: SLIMConfig, theirs: int, repeats: int) -> timing.Row:
    """Medians of both, each over its own number of instances; the first of each warms up."""
    params, batches = policy.init_params(jax.random.key(0), cfg.model), Batches(cfg)
    loss = objective.slim(cfg.model, cfg.num_samples, cfg.rollout_dtype)
    update = step.make_step(loss, train.optimizer(cfg))
    now = state.create(jax.random.key(0), params, train.optimizer(cfg))
    mine, other = [], []
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "weights.npz"
        np.savez(weights, **policy.torch_arrays_from_params(params))  # pyright: ignore
        peer = Peer(weights)
        for i in range(repeats + 1):
            shops, begun = batches.at(i), now

            def once(begun: Any = begun, shops: Any = shops) -> Any:
                nonlocal now
                now, metrics = update(begun, shops)
                return metrics["loss"]

            mine.append(cfg.batch / timing.once(once))
            machines, durations = (np.asarray(x)[:theirs].tolist() for x in shops[:2])
            asked = {"task": "train", "samples": cfg.num_samples, "seed": i}
            answer = peer.ask(**asked, machines=machines, durations=durations)
            other += [] if answer is None else [theirs / answer["seconds"]]
        peer.close()
    name = f"training {'x'.join(map(str, cfg.shapes[0]))}, {cfg.num_samples} samples"
    ours = float(np.median(mine[1:]))
    if not other:
        return timing.Row(name, "instances", "1/s", ours)
    value = float(np.median(other[1:]))
    return timing.Row(
        name, "instances", "1/s", ours, "reference (PyTorch)", value, ours / value, GOAL
    )


if __name__ == "__main__":
    made = rows("--smoke" in sys.argv)
    if sys.argv[1:] and not sys.argv[1].startswith("--"):
        timing.write(sys.argv[1], made)

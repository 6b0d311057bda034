"""Contrastive pruning: its step beside torch, its cost beside distillation, masks, compaction.

The peer runs from an environment with torch: a folder `env` in the one that `JAXML_PEERS_CAP`
names, or this environment if torch is in it. Without either its column stays empty.
`python benchmarks/cap.py OUT.json` needs jax only.
"""

import dataclasses
import importlib.util
import os
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "kernels")]

from benchmarks.peers.worker import Worker  # noqa: E402
from jaxml import cap  # noqa: E402
from jaxml.cap import data, encoder, speed  # noqa: E402
from jaxml.inputs.source import Provenance  # noqa: E402
from jaxml.models import bert  # noqa: E402
from jaxml.report import timing  # noqa: E402

SIZES = bert.BertConfig(width=384, num_layers=6, hidden=1536)


def rows(smoke: bool) -> list[timing.Row]:
    """Peers: torch in eager mode, our own step without contrast, argsort, the dense model."""
    on_gpu = jax.devices()[0].platform == "gpu"
    return [
        *(row for width in ((32,) if smoke else (384, 768)) for row in _contrast(width, smoke)),
        _training(smoke, on_gpu),
        _masks(smoke),
        *_compact(smoke),
    ]


def _worker(python: str, name: str, case: dict) -> Worker:
    path = os.pathsep.join([str(HERE.parent), str(HERE.parent / "kernels")])
    env = {**os.environ, "XLA_FLAGS": "", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    env["PYTHONPATH"] = ""
    if name != "torch":
        env["PYTHONPATH"] = os.pathsep.join([path, os.environ.get("PYTHONPATH", "")])
    made = Worker([python, str(HERE / "peers" / "cap_worker.py"), name], env)
    made.tell(case)
    return made


def _python_with_torch() -> str | None:
    folder = os.environ.get("JAXML_PEERS_CAP")
    if folder:
        return str(Path(folder) / "env" / "bin" / "python")
    return sys.executable if importlib.util.find_spec("torch") else None


def _contrast(width: int, smoke: bool) -> list[timing.Row]:
    case = {"batch": 32, "width": width, "num": 10_000, "extra": 4096, "repeats": 10}
    if smoke:
        case |= {"batch": 4, "num": 200, "extra": 64, "repeats": 2}
    name = f"B{case['batch']} D{width} R1,1,8 extra {case['extra']}"
    names = {"jaxml": "jaxml", "its products alone": "products"}
    sides = {side: _worker(sys.executable, which, case) for side, which in names.items()}
    if (python := _python_with_torch()) is not None:
        sides["torch eager"] = _worker(python, "torch", case)
    found: dict[str, list[dict]] = {side: [] for side in sides}
    for _ in range(3 if smoke else 9):
        for side, worker in sides.items():
            found[side].append(worker.run())
    for worker in sides.values():
        worker.close()
    times = {s: timing.Timing(tuple(a["seconds"] for a in got)) for s, got in found.items()}
    peer, alone = "torch eager", "its products alone"
    bound = timing.faster(name, "contrast_step_ms", times["jaxml"], alone, times[alone])
    if peer not in sides:
        return [bound]
    goal = 2.0 if jax.devices()[0].platform == "gpu" else 5.0
    losses = [found[s][-1]["loss"] for s in ("jaxml", peer)]
    return [
        bound,
        timing.faster(
            name, "contrast_step_ms", times["jaxml"], peer, times[peer], None if smoke else goal
        ),
        timing.Row(name, "loss", "nats", losses[0], peer, losses[1]),
    ]


def _training(smoke: bool, on_gpu: bool) -> timing.Row:
    """A step with all three contrasts and one with distillation alone."""
    cfg = cap.PRESETS["h100"]
    batch, length, num, sizes = (64, 64, 20_000, SIZES) if on_gpu else (16, 32, 4_200, SIZES)
    if smoke:
        batch, length, num, sizes = 4, 8, 64, bert.BertConfig(64, 16, 2, 2, 24, 16)
        cfg = dataclasses.replace(cfg, contrast=cap.ContrastConfig(extra=16))
    dtype = "bfloat16" if on_gpu else "float32"
    cfg = dataclasses.replace(
        cfg, tune=dataclasses.replace(cfg.tune, batch_size=batch, dtype=dtype)
    )
    random = np.random.default_rng(0)
    ids = random.integers(1, sizes.vocab_size, (num, length)).astype(np.uint16)
    part = data.Examples(ids, np.zeros_like(ids, np.uint8), random.integers(0, 2, num))
    about = Provenance("random tokens", "-", "-", 0, "-")
    task = data.Task("random", part, part, part, 2, about)
    made = encoder.random(jax.random.key(0), sizes)
    runs = {"cap": cfg, "kd": dataclasses.replace(cfg, contrast=None)}
    times = speed.training_steps(made, task, runs, repeats=2 if smoke else 31 if on_gpu else 5)
    goal = 1 / 1.25 if on_gpu and not smoke else None
    name = f"movement, B{batch} T{length} {dtype}, extra {cfg.contrast.extra}"
    return timing.faster(name, "cap_step_ms", times["cap"], "step without contrast",
                         times["kd"], goal)  # fmt: skip


def _masks(smoke: bool) -> timing.Row:
    """One global ranking of all scores of the encoder."""
    num = 10_000 if smoke else 10_616_832
    scores = jax.random.normal(jax.random.key(0), (num,))
    keep = 0.1
    ours = jax.jit(lambda x: cap.topk_mask(x, keep))

    @jax.jit
    def sorted_mask(x):
        order = jnp.argsort(-x)
        return jnp.zeros(x.shape, bool).at[order[: int(keep * num)]].set(True)

    assert bool((ours(scores) == sorted_mask(scores)).all())
    times = timing.alternate(
        {"ours": lambda: ours(scores), "argsort": lambda: sorted_mask(scores)}, repeats=7
    )
    return timing.faster(f"top-k mask of {num:,} scores", "mask_ms", times["ours"], "argsort",
                         times["argsort"], None if smoke else 3.0)  # fmt: skip


def _compact(smoke: bool) -> list[timing.Row]:
    """Half the heads and neurons of every layer removed; and masked single weights, for honesty."""
    sizes = bert.BertConfig(64, 16, 2, 2, 24, 16) if smoke else SIZES
    params = bert.init(jax.random.key(0), sizes)
    masks = speed.even_masks(sizes, 0.5)
    batch, length = (2, 8) if smoke else (32, 64)
    times = speed.inference(params, sizes, masks, batch=batch, length=length,
                            repeats=3 if smoke else 11)  # fmt: skip
    name = f"half of heads and neurons, {batch} x {length} tokens"
    sparse = cap.fold_masks(params, {
        n: cap.topk_mask(jnp.abs(k), 0.03) for n, k in speed.kernels(params).items()
    })  # fmt: skip
    found = speed.inference(sparse, sizes, masks, batch=batch, length=length, repeats=3)
    return [
        timing.faster(name, "forward_ms", times["compact"], "dense", times["dense"],
                      None if smoke else 1.6),
        timing.faster(name, "masked_forward_ms", times["masked"], "dense", times["dense"]),
        timing.faster("97 % of single weights zero", "forward_ms", found["dense"], "dense",
                      times["dense"]),
    ]  # fmt: skip


if __name__ == "__main__":
    measured = rows("--smoke" in sys.argv)
    print(timing.table(measured))
    if sys.argv[1:2] and not sys.argv[1].startswith("-"):
        timing.write(sys.argv[1], measured)

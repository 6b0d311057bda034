"""Decoding, alignment and MIL-NCE of UniVL beside the reference's schedules and Hugging Face's.

The reference's schedule (cross encoder and prefix anew at every step, for every beam; one cross
pass for every pair) is run in the same framework, so that only the schedule differs. Hugging Face's
cached beam search runs from an environment with torch and transformers: a folder `env` in the one
that `JAXML_PEERS_UNIVILM` names, or this environment if both are in it. Without either its column
stays empty. `python benchmarks/univilm.py OUT.json`.
"""

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "kernels")]

from jaxml import univilm  # noqa: E402
from jaxml.report import timing  # noqa: E402
from jaxml.univilm import model  # noqa: E402

BEAMS, STEPS, WORDS, FRAMES = 5, 20, 48, 48


def sizes(smoke: bool) -> univilm.UniVLConfig:
    """BERT-base widths; the text encoder plays no part in decoding and is cut short."""
    if smoke:
        return univilm.PRESETS["tiny"].model
    return univilm.UniVLConfig(text_layers=1, video_layers=1, dropout=0.0)


def rows(smoke: bool) -> list[timing.Row]:
    """Peers: the reference's schedules, Hugging Face's generation, a mark of ten milliseconds."""
    cfg = sizes(smoke)
    p = jax.tree.map(lambda x: x.astype(cfg.dtype), univilm.init(jax.random.key(0), cfg))
    return [*_decoding(cfg, p, smoke), _alignment(cfg, p, smoke), _mil(smoke)]


def _inputs(cfg, num, words, frames):
    key = jax.random.split(jax.random.key(1))
    text, video = (0.5 * jax.random.normal(k, (num, n, cfg.width), jnp.float32)
                   for k, n in zip(key, (words, frames), strict=True))  # fmt: skip
    return text, video, jnp.ones((num, words), bool), jnp.ones((num, frames), bool)


def _decoding(cfg, p, smoke):
    num, steps = (2, 4) if smoke else (8, STEPS)
    words, frames = (8, 5) if smoke else (WORDS, FRAMES)
    given = _inputs(cfg, num, words, frames)
    # An end that is never said, so that every search takes all its steps.
    cfg = dataclasses.replace(cfg, sep_id=cfg.vocab_size - 1)
    p = dict(p, decoder=dict(p["decoder"], head=dict(
        p["decoder"]["head"], bias=p["decoder"]["head"]["bias"].at[-1].set(-1e4))))  # fmt: skip

    @jax.jit
    def ours(p, text, video, tm, vm):
        memory = univilm.cross_encode(p, cfg, text, video, tm, vm).hidden
        mask = jnp.concatenate([tm, vm], 1)
        return univilm.beam_search(p, cfg, memory, mask, beams=BEAMS, max_len=steps)

    naive = _naive(cfg, num, steps)
    sides = {"jaxml": lambda: ours(p, *given), "reference schedule": lambda: naive(p, *given)}
    found = timing.alternate(sides, repeats=1 if not smoke and _on_cpu() else 5)
    name = f"beam search D{cfg.width}, {num} clips x {BEAMS} beams x {steps} steps"
    made = [timing.faster(name, "decode_ms", found["jaxml"], "reference schedule",
                          found["reference schedule"], None if smoke else 10.0)]  # fmt: skip
    if (python := _python()) is None or smoke:
        return made
    return [*made, _beside_hugging_face(python, cfg, name, lambda: ours(p, *given), num, steps)]


def _naive(cfg, num, steps):
    """Cross encoder and whole prefix, at a fixed length, anew for every beam at every step."""

    @jax.jit
    def one(p, ids, scores, place, text, video, tm, vm):
        memory = univilm.cross_encode(p, cfg, text, video, tm, vm).hidden
        logits = univilm.decode_logits(p, cfg, ids, memory, jnp.concatenate([tm, vm], 1))
        log = jax.nn.log_softmax(logits[jnp.arange(len(ids)), place]).reshape(num, BEAMS, -1)
        best, at = jax.lax.top_k((scores[..., None] + log).reshape(num, -1), BEAMS)
        origin, token = at // cfg.vocab_size, at % cfg.vocab_size
        kept = jnp.take_along_axis(ids.reshape(num, BEAMS, -1), origin[..., None], 1)
        ids = kept.reshape(len(ids), -1).at[:, place + 1].set(token.reshape(-1).astype(jnp.int32))
        return ids, best

    def run(p, *given):
        repeated = [jnp.repeat(x, BEAMS, 0) for x in given]
        ids = jnp.zeros((num * BEAMS, steps + 1), jnp.int32).at[:, 0].set(cfg.cls_id)
        scores = jnp.where(jnp.arange(BEAMS) == 0, 0.0, -1e9)[None] + jnp.zeros((num, 1))
        for place in range(steps):
            ids, scores = one(p, ids, scores, place, *repeated)
        return ids

    return run


def _on_cpu():
    return jax.default_backend() == "cpu"


def _python():
    folder = os.environ.get("JAXML_PEERS_UNIVILM")
    if folder:
        return str(Path(folder) / "env" / "bin" / "python")
    both = all(importlib.util.find_spec(n) for n in ("torch", "transformers"))
    return sys.executable if both else None


def _beside_hugging_face(python, cfg, name, ours, num, steps):
    case = {"num": num, "steps": steps, "beams": BEAMS, "memory": WORDS + FRAMES,
            "width": cfg.width, "layers": cfg.decoder_layers, "heads": cfg.num_heads,
            "hidden": cfg.hidden, "vocab": cfg.vocab_size}  # fmt: skip
    worker = subprocess.Popen(
        [python, str(HERE / "peers" / "univilm_worker.py"), json.dumps(case)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert worker.stdin is not None and worker.stdout is not None
    version = worker.stdout.readline().strip()
    mine, theirs = [], []
    for _ in range(5):
        worker.stdin.write("run\n")
        worker.stdin.flush()
        theirs.append(float(worker.stdout.readline()))
        begun = time.perf_counter()
        jax.block_until_ready(ours())
        mine.append(time.perf_counter() - begun)
    worker.communicate()
    times = [timing.Timing(tuple(x[1:])) for x in (mine, theirs)]
    return timing.faster(f"{name} (cross encoder once, ours)", "decode_ms", times[0], version,
                         times[1], 1.3)  # fmt: skip


def _alignment(cfg, p, smoke):
    num = 4 if smoke else 10 if _on_cpu() else 64
    words, frames = (8, 5) if smoke else (WORDS, FRAMES)
    given = _inputs(cfg, num, words, frames)
    step = 5 if num % 5 == 0 else 4

    def looped(p, text, video, tm, vm):
        def some(block):
            t, m = block
            pairs = (jnp.repeat(t, num, 0), jnp.tile(video, (step, 1, 1)), jnp.repeat(m, num, 0),
                     jnp.tile(vm, (step, 1)))  # fmt: skip
            pooled = univilm.cross_encode(p, cfg, *pairs).pooled
            return model.linear.apply(p["similarity"], pooled)[:, 0].reshape(step, num)

        blocks = tuple(x.reshape(-1, step, *x.shape[1:]) for x in (text, tm))
        return jax.lax.map(jax.checkpoint(some), blocks).reshape(num, num)

    def ours(p, text, video, tm, vm):
        return univilm.pair_scores(p, cfg, text, video, tm, vm, chunk=step)

    def trained(scores):
        return jax.jit(jax.grad(lambda p, *x: univilm.alignment_loss(scores(p, *x))))

    a, b = (trained(f) for f in (ours, looped))
    want, got = (f(p, *given) for f in (looped, ours))
    np.testing.assert_allclose(got, want, rtol=2e-3, atol=2e-3)
    sides = {"jaxml": lambda: a(p, *given), "reference": lambda: b(p, *given)}
    found = timing.alternate(sides, repeats=2 if not smoke and _on_cpu() else 5)
    return timing.faster(f"alignment loss and gradient D{cfg.width}, {num} x {num} pairs",
                         "align_ms", found["jaxml"], "a cross pass a pair", found["reference"],
                         None if smoke else 1.5)  # fmt: skip


def _mil(smoke):
    num, width = (64, 8) if smoke else (4096, 768)
    x = jax.random.normal(jax.random.key(2), (2, num, width))
    run = jax.jit(jax.value_and_grad(lambda x: univilm.mil_nce_pooled(x[0], x[1], 4)))
    found = timing.alternate({"jaxml": lambda: run(x)}, repeats=5)["jaxml"]
    ms = 1e3 * found.median
    goal = None if smoke or _on_cpu() else 1.0
    return timing.Row(f"mil-nce N{num} D{width} P4, value and gradient", "loss_ms", "ms", ms,
                      "a mark of 10 ms", 10.0, 10.0 / ms, goal)  # fmt: skip


if __name__ == "__main__":
    measured = rows("--smoke" in sys.argv)
    print(timing.table(measured))
    if sys.argv[1:2] and not sys.argv[1].startswith("-"):
        timing.write(sys.argv[1], measured)

"""Forecasting, control and safety beside named peers, the same inputs.

`JAXML_PEERS_DRIVING` names the Python of an environment with ad-rss and casadi,
`JAXML_PEERS_TORCH` one with torch; without them the peers' columns stay empty.
"""

import dataclasses
import json
import os
import statistics
import subprocess
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxml.driving.planning import mpc
from jaxml.driving.prediction import PRESETS, train
from jaxml.driving.safety import RSSConfig, overlap, rss
from jaxml.driving.tracks import toy
from jaxml.report import timing

HERE = Path(__file__).resolve().parent


def rows(smoke: bool) -> list[timing.Row]:
    """Training rate, control problems, distances."""
    return [*_training(smoke), *_control(smoke), *_distances(smoke)]


def _ask(variable: str, worker: str, job: dict) -> dict | None:
    """One answer of a worker, None where its environment is not there."""
    if not (python := os.environ.get(variable)):
        return None
    run = [python, str(HERE / "peers" / worker)]
    done = subprocess.run(run, input=json.dumps(job) + "\n", capture_output=True, text=True)
    return json.loads(done.stdout.strip().splitlines()[-1]) if done.returncode == 0 else None


def _training(smoke: bool) -> list[timing.Row]:
    """Agents per second of a training step, alternating."""
    cfg = PRESETS["tiny" if smoke else "laptop"]
    folds, chunk = toy.folds(), 2 if smoke else 20
    spaces = [train.fit_space(jax.random.key(0), cfg.model, f.train) for f in folds.values()]
    space = jax.tree.map(lambda *x: jnp.stack(x), *spaces)
    agents = train.pool([f.train for f in folds.values()], cfg.model.num_neighbours)
    steps, carry = train.make_steps(cfg, chunk), train.start(jax.random.key(0), cfg, 5, 8, 12)
    carry, loss = steps(carry, agents, space, jax.random.key(1))
    jax.block_until_ready(loss)
    sizes = np.random.default_rng(0).integers(2, 12, 4 if smoke else 48).tolist()
    peer = _Peer({"sizes": sizes, "samples": 2 if smoke else 20, "steps": 1 if smoke else 3})
    ours, theirs = [], []
    for _ in range(2 if smoke else 5):
        begun = time.perf_counter()
        carry, loss = steps(carry, agents, space, jax.random.key(1))
        jax.block_until_ready(loss)
        ours.append(5 * cfg.batch_size * chunk / (time.perf_counter() - begun))
        if (rate := peer.run()) is not None:
            theirs.append(rate)
    peer.close()
    rate = statistics.median(ours)
    other = statistics.median(theirs) if theirs else None
    return [timing.Row(
        "five folds, 20 modes", "agents_per_s", "agents/s", rate,
        "Social-GAN-style torch loop, k = 20" if theirs else None, other,
        rate / other if other else None, 10.0 if theirs else None,
    )]  # fmt: skip


class _Peer:
    """The torch worker, if its environment is there."""

    def __init__(self, job: dict):
        python = os.environ.get("JAXML_PEERS_TORCH")
        run = [python or "", str(HERE / "peers" / "gan_worker.py")]
        pipe = subprocess.PIPE
        self._process = (
            subprocess.Popen(run, stdin=pipe, stdout=pipe, text=True) if python else None
        )
        self._say(json.dumps(job))

    def _say(self, line: str) -> None:
        if self._process and self._process.stdin:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()

    def run(self) -> float | None:
        """Agents per second."""
        self._say("run")
        if not self._process or not self._process.stdout:
            return None
        return json.loads(self._process.stdout.readline())["agents_per_s"]

    def close(self) -> None:
        """Ends it."""
        if self._process:
            self._process.communicate()


def _control(smoke: bool) -> list[timing.Row]:
    """Milliseconds per bicycle-MPC problem, many in one program."""
    cfg = mpc.MPCConfig()
    num, few = (16, 4) if smoke else (4096, 33)
    random = np.random.default_rng(0)
    starts = np.stack(
        [np.zeros(num), random.uniform(-2, 2, num), random.uniform(-0.2, 0.2, num),
         random.uniform(6, 14, num)], 1,
    )  # fmt: skip
    way = 10.0 * cfg.step_s * jnp.arange(1, cfg.num_steps + 1, dtype=jnp.float32)
    path = jnp.stack([way, jnp.zeros_like(way), jnp.zeros_like(way)], -1)
    speed = jnp.full(cfg.num_steps, 10.0)
    run = jax.jit(jax.vmap(lambda s: mpc.solve(cfg, mpc.follow(s, path, speed)).cost))
    batch = jnp.float32(starts)
    time_ = timing.alternate({"ours": lambda: run(batch)}, repeats=3)["ours"]
    weights = {k: v for k, v in dataclasses.asdict(cfg).items() if isinstance(v, float)}
    answer = _ask("JAXML_PEERS_DRIVING", "mpc_worker.py", {
        "starts": starts[:few].tolist(), "num_steps": cfg.num_steps, "step_s": cfg.step_s,
        "weights": weights,
    })  # fmt: skip
    ours, peer = 1e3 * time_.median / num, None
    if answer is not None:
        np.testing.assert_allclose(run(batch)[:few], answer["costs"], rtol=0.02)
        peer = 1e3 * answer["seconds"] / (few - 1)
    return [timing.Row(
        f"bicycle MPC N{cfg.num_steps} x {num}", "problem_ms", "ms", ours,
        "CasADi 3.8 IPOPT, one by one" if peer else None, peer, peer / ours if peer else None,
    )]  # fmt: skip


def _distances(smoke: bool) -> list[timing.Row]:
    """Pairs per second: three RSS distances, and time to collision of boxes."""
    num, few = (1_000, 20) if smoke else (1_000_000, 2_000)
    random = np.random.default_rng(0)
    speeds = random.uniform(0, 30, (num, 2)).astype(np.float32)
    cfg = RSSConfig()

    @jax.jit
    def safe(a, b):
        side = (a - 15) / 30, (b - 15) / 30
        return (
            rss.same_direction(a, b, cfg),
            rss.opposite_direction(a, b, cfg),
            rss.lateral(*side, cfg),
        )

    a, b = jnp.asarray(speeds).T
    boxes = jnp.asarray(random.normal(0, 10, (2, num, 5)).astype(np.float32)).at[..., 3:].set(3.0)
    move = jnp.asarray(random.normal(0, 10, (2, num, 2)).astype(np.float32))
    when = jax.jit(lambda x, v: overlap.time_to_collision(x[0], v[0], x[1], v[1]))
    both = timing.alternate({"rss": lambda: safe(a, b), "ttc": lambda: when(boxes, move)})
    job = {"speeds": speeds[:few].tolist(), "repeats": 1 if smoke else 5}
    answer, ours = _ask("JAXML_PEERS_DRIVING", "rss_worker.py", job), num / both["rss"].median
    peer = None
    if answer is not None:
        for got, name in zip(safe(a, b), ("same", "opposite", "lateral"), strict=True):
            np.testing.assert_allclose(got[:few], answer[name], rtol=1e-5, atol=1e-3)
        peer = few * job["repeats"] / answer["seconds"]
    return [
        timing.Row(f"RSS, three distances x {num}", "pairs_per_s", "pairs/s", ours,
                   "ad-rss 5.0.0, call by call" if peer else None, peer,
                   ours / peer if peer else None, 50.0 if peer else None),
        timing.Row(f"time to collision of boxes x {num}", "pairs_per_s", "pairs/s",
                   num / both["ttc"].median),
    ]  # fmt: skip

"""One side of the benchmark of a contrastive step, in a process of its own.

    python cap_worker.py jaxml|products|torch

Reads a JSON line `{"batch", "width", "num", "extra", "repeats"}`, answers one per `run` line with
the seconds of a step (mean of `repeats`) and the loss (of `products`, which has none, a number).
All sides get the same numbers.
"""

import json
import sys
import time

import numpy as np

REPS = (1, 1, 8)
TAU, UNSUP, SUP = 0.1, 0.1, 10.0


def numbers(case):
    """Representations, banks, labels, ids and further ids."""
    random = np.random.default_rng(0)
    num, width = case["num"], case["width"]
    banks = [random.normal(size=(num, r, width)).astype("f4") for r in REPS]
    labels = random.integers(0, 2, num)
    ids = random.choice(num, case["batch"], replace=False)
    extra = [random.choice(num, case["extra"] // r, replace=False) for r in REPS]
    z = random.normal(size=(case["batch"], width)).astype("f4")
    return z, banks, labels, ids, extra


def jaxml(case):
    """Ours, one jitted step: three banks, both terms, value and gradient."""
    import jax
    import jax.numpy as jnp

    from jaxml.cap import Bank, ContrastConfig, contrastive_loss

    cfg = ContrastConfig(TAU, UNSUP, SUP, case["extra"], "reference")
    z, banks, labels, ids, extra = jax.tree.map(jnp.asarray, numbers(case))

    @jax.jit
    def step(z, banks, labels, ids, extra):
        def loss(z):
            total = 0.0
            for reps, more in zip(banks, extra, strict=True):
                found = contrastive_loss(z, Bank(reps, labels), ids, labels[ids], more, cfg)
                total += UNSUP * found.unsup + SUP * found.sup
            return total

        return jax.value_and_grad(loss)(z)

    def run():
        value, slope = step(z, banks, labels, ids, extra)
        slope.block_until_ready()
        return float(value)

    return run


def products(case):
    """What no such step can be without: three gathers, and two products with each of their rows."""
    import jax
    import jax.numpy as jnp

    z, banks, _, ids, extra = jax.tree.map(jnp.asarray, numbers(case))

    @jax.jit
    def step(z, banks, ids, extra):
        slope = jnp.zeros_like(z)
        for reps, more in zip(banks, extra, strict=True):
            every = jnp.concatenate([ids, more])
            rows = jnp.take(reps, every, axis=0, mode="clip").reshape(-1, z.shape[1])
            slope += (z @ rows.T) @ rows
        return slope

    def run():
        return float(step(z, banks, ids, extra)[0, 0])

    return run


def torch(case):
    """The same step written with torch in eager mode, operation by operation."""
    import torch as t
    from torch.nn import functional as f

    where = "cuda" if t.cuda.is_available() else "cpu"
    z, banks, labels, ids, extra = numbers(case)
    z, banks = t.tensor(z, device=where), [t.tensor(b, device=where) for b in banks]
    labels, ids = t.tensor(labels, device=where), t.tensor(ids, device=where)
    extra = [t.tensor(e, device=where) for e in extra]

    def one(anchor, bank, more):
        every = t.cat([ids, more])
        rows = f.normalize(bank[every], dim=-1)
        repeats = rows.shape[1]
        columns = t.cat([anchor.detach(), rows.reshape(-1, rows.shape[-1])])
        known = t.cat([ids, every.repeat_interleave(repeats)])
        classes = t.cat([labels[ids], labels[every].repeat_interleave(repeats)])
        scores = anchor @ columns.T / TAU
        own = t.zeros_like(scores, dtype=t.bool)
        own[:, : len(ids)] = t.eye(len(ids), dtype=t.bool, device=where)
        logp = f.log_softmax(scores.masked_fill(own, -1e6), dim=-1)
        total = 0.0
        for mine, theirs, weight in ((ids, known, UNSUP), (labels[ids], classes, SUP)):
            positive = (mine[:, None] == theirs[None]) & ~own
            count = positive.sum(1)
            each = (logp * positive).sum(1) / count.clamp(min=1)
            total = total - weight * each.sum() / count.sum().clamp(min=1)
        return total

    def run():
        leaf = z.clone().requires_grad_(True)
        anchor = f.normalize(leaf, dim=-1)
        loss = sum(one(anchor, bank, more) for bank, more in zip(banks, extra, strict=True))
        loss.backward()
        if where == "cuda":
            t.cuda.synchronize()
        return float(loss.detach())

    return run


def main():
    """Serves runs until the input ends."""
    case = json.loads(sys.stdin.readline())
    run = {"jaxml": jaxml, "products": products, "torch": torch}[sys.argv[1]](case)
    run()
    for _ in sys.stdin:
        begun = time.perf_counter()
        for _ in range(case["repeats"]):
            loss = run()
        seconds = (time.perf_counter() - begun) / case["repeats"]
        print(json.dumps({"seconds": seconds, "loss": loss}), flush=True)


if __name__ == "__main__":
    main()

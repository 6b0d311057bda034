"""One side of the DP benchmark: reads a case, then answers each `run` with seconds of a step.

`python dp_worker.py jaxml|torch-vmap|jax-privacy|opacus-ghost`, in an environment that has it.
"""

import functools
import json
import sys
import time

import numpy as np


def draw(case):
    """Examples, gates and labels, the same in every environment."""
    r = np.random.default_rng(0)
    x = r.normal(size=(case["b"], case["d"])).astype(np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    u = r.normal(size=(case["d"], case["p"])).astype(np.float32)
    return x, u, r.integers(0, case["k"], case["b"])


def _loop(case, step):
    """Steps of jax, one after the other in one program."""
    import jax
    import jax.numpy as jnp

    @functools.partial(jax.jit, donate_argnums=0, static_argnums=2)
    def steps(v, key, count):
        def one(v, i):
            return step(v, jax.random.fold_in(key, i)), None

        return jax.lax.scan(one, v, jnp.arange(count))[0]

    v, key = jnp.zeros((case["p"], case["d"], case["k"])), jax.random.key(0)

    def run(count):
        nonlocal v
        v = steps(v, key, count)
        jax.block_until_ready(v)

    return run


def jaxml(case):
    import jax.numpy as jnp

    from jaxml.dp import ConvexReLUConfig, descent, gating

    x, u, y = draw(case)
    model = ConvexReLUConfig(case["d"], case["k"], case["p"])
    x, u = jnp.asarray(x), jnp.asarray(u)
    batch = descent.Batches(x, gating.gates(x, u), jnp.asarray(y))
    rate = descent.Rates(3.9, 1e-5, 1.0, 0.005)
    return _loop(case, lambda v, key: descent.update(v, batch, key, rate, model, case["mode"]))


def nothing(case):
    return _loop(case, lambda v, key: 0.99 * v)


def jax_privacy(case):
    import jax
    import jax.numpy as jnp
    from jax_privacy import clipped_grad

    x, u, y = draw(case)
    x, u, y = jnp.asarray(x), jnp.asarray(u), jnp.asarray(y)
    g = (x @ u >= 0).astype(jnp.float32)
    g = g / jnp.sqrt(jnp.maximum(g.sum(1, keepdims=True), 1))

    def loss(v, x, g, y):
        z = jnp.einsum("bd,bp,pdk->bk", x, g, v)
        picked = jnp.take_along_axis(jax.nn.log_softmax(z), y[:, None], 1)
        return -jnp.mean(picked)

    grad = clipped_grad(loss, l2_clip_norm=1.0, normalize_by=case["b"], batch_argnums=(1, 2, 3))

    def step(v, key):
        noise = 0.005 * jax.random.normal(key, v.shape)
        return v - 3.9 * (grad(v, x, g, y) + 1e-5 * v + noise)

    return _loop(case, step)


def _torch(case):
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cuda.matmul.allow_tf32 = True
    x, u, y = (torch.from_numpy(a).to(device) for a in draw(case))

    def wait():
        if device == "cuda":
            torch.cuda.synchronize()

    return torch, device, x, u, y, wait


def torch_vmap(case):
    torch, device, x, u, y, wait = _torch(case)
    from torch.func import grad, vmap

    g = (x @ u >= 0).float()
    g = g / g.sum(1, keepdim=True).clamp(min=1).sqrt()
    v = torch.zeros(case["p"], case["d"], case["k"], device=device)

    def loss(v, x, g, y):
        z = torch.einsum("d,p,pdk->k", x, g, v)
        return torch.nn.functional.cross_entropy(z[None], y[None])

    each = vmap(grad(loss), (None, 0, 0, 0))

    def run(count):
        nonlocal v
        for _ in range(count):
            per = each(v, x, g, y)
            norm = per.flatten(1).norm(dim=1)
            scale = (1 / norm.clamp(min=1e-12)).clamp(max=1)
            mean = torch.einsum("b,bpdk->pdk", scale, per) / case["b"]
            v = v - 3.9 * (mean + 1e-5 * v + 0.005 * torch.randn_like(v))
        wait()

    return run


def opacus_ghost(case):
    torch, device, x, _, y, wait = _torch(case)
    from opacus.grad_sample.grad_sample_module_fast_gradient_clipping import (
        GradSampleModuleFastGradientClipping,
    )
    from opacus.optimizers.optimizer_fast_gradient_clipping import DPOptimizerFastGradientClipping
    from opacus.utils.fast_gradient_clipping_utils import DPLossFastGradientClipping

    parameters = case["p"] * case["d"] * case["k"]
    hidden = round((parameters - case["k"]) / (case["d"] + case["k"] + 1))
    net = torch.nn.Sequential(
        torch.nn.Linear(case["d"], hidden), torch.nn.ReLU(), torch.nn.Linear(hidden, case["k"])
    ).to(device)
    module = GradSampleModuleFastGradientClipping(net, max_grad_norm=1.0, use_ghost_clipping=True)
    optimizer = DPOptimizerFastGradientClipping(
        torch.optim.SGD(module.parameters(), lr=0.1),
        noise_multiplier=5.0,
        max_grad_norm=1.0,
        expected_batch_size=case["b"],
    )
    criterion = DPLossFastGradientClipping(
        module, optimizer, torch.nn.CrossEntropyLoss(reduction="mean"), "mean"
    )

    def run(count):
        for _ in range(count):
            optimizer.zero_grad()
            criterion(module(x), y).backward()
            optimizer.step()
        wait()

    return run


SIDES = {
    "jaxml": jaxml,
    "nothing": nothing,
    "torch-vmap": torch_vmap,
    "jax-privacy": jax_privacy,
    "opacus-ghost": opacus_ghost,
}


def main():
    """Answers on stdout, one JSON line a run."""
    case = json.loads(sys.stdin.readline())
    run = SIDES[sys.argv[1]](case)
    for _ in range(2):
        run(case["inner"])  # compiles, warms up
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        if line.strip() != "run":
            break
        start = time.perf_counter()
        run(case["inner"])
        seconds = (time.perf_counter() - start) / case["inner"]
        print(json.dumps({"seconds": seconds}), flush=True)


if __name__ == "__main__":
    main()

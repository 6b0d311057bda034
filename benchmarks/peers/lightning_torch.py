"""Linear attention of other projects in torch, for `benchmarks/lightning.py`, in its own process.

Arrays come through DLPack, in the layout [b, t, h, c]; a peer that wants another one gets it before
the clock starts.
"""

import importlib.util
import os
import time


def _gla(torch):
    from fla.ops.simple_gla import chunk_simple_gla

    def run(q, k, v, rate):
        return chunk_simple_gla(q, k, v, g_gamma=rate, scale=1.0)[0]

    return run


def _lightning2(torch):
    from lightning_attn.ops import lightning_attn_func

    def run(q, k, v, rate):
        return lightning_attn_func(q, k, v, -rate.reshape(-1, 1, 1))

    return run


PEERS = {
    "flash-linear-attention": ("fla", _gla, False),
    "lightning_attn 2": ("lightning_attn", _lightning2, True),
}
"""By name: the module, what makes the function, and whether heads come before time."""


def available():
    """Names of what can be imported here."""
    if importlib.util.find_spec("torch") is None:
        return []
    return [n for n, (module, *_) in PEERS.items() if importlib.util.find_spec(module)]


class Contestant:
    """One peer on one call: `run()` enqueues it, `wait()` waits."""

    def __init__(self, name, arrays, gradient):
        import torch

        if not os.environ.get("TRITON_CACHE_DIR", "unset"):
            del os.environ["TRITON_CACHE_DIR"]  # jax-triton empties it; triton wants a folder
        _, make, heads_first = PEERS[name]
        self.torch, self.heads_first = torch, heads_first
        q, k, v, rate, do = (torch.from_dlpack(x) for x in arrays)
        if heads_first:
            q, k, v, do = (x.transpose(1, 2).contiguous() for x in (q, k, v, do))
        inputs = [x.clone().requires_grad_(gradient) for x in (q, k, v)]
        call = make(torch)

        def run():
            with torch.set_grad_enabled(gradient):
                o = call(*inputs, rate)
                return (o, *torch.autograd.grad(o, inputs, do)) if gradient else (o,)

        self.run = run
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        held, start = torch.cuda.memory_allocated(), time.perf_counter()
        run()
        self.wait()
        self.first_s = time.perf_counter() - start
        self.memory_bytes = torch.cuda.max_memory_allocated() - held

    def wait(self):
        """Until the device is idle."""
        self.torch.cuda.synchronize()

    def results(self):
        """Outputs (and gradients) as NumPy in the layout of the inputs."""
        found = [x.detach().float() for x in self.run()]
        if self.heads_first:
            found = [x.transpose(1, 2) for x in found]
        return [x.cpu().numpy() for x in found]

"""Decoding steps, and the norm with its gate, beside the least traffic with memory.

    python benchmarks/lightning-decode.py OUT.json

A step reads and writes a state once; `implementation="triton"` does that by hand, `"xla"` leaves it
to the compiler. The same question for SRMSNorm and gate: a kernel would pay only where the compiler
is far from the floor.
"""

import functools
import statistics
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "kernels"), str(HERE)]

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import lightning  # noqa: E402

from jaxml.nn import norm  # noqa: E402
from jaxml.report import timing  # noqa: E402
from jaxml_kernels.lightning_attention import lightning_attention_step  # noqa: E402

BATCHES = (1, 16, 128)
HEADS, WIDTH = 16, 128
TOKENS = 65_536


def _steps(name: str, batch: int, count: int = 64) -> float:
    """Milliseconds of one step, of `count` in a row inside one program."""
    keys = jax.random.split(jax.random.key(0), 4)
    q, k, v = (jax.random.normal(x, (batch, HEADS, WIDTH), jnp.bfloat16) for x in keys[:3])
    rate = -(2.0 ** -jnp.arange(1.0, HEADS + 1))

    @functools.partial(jax.jit, donate_argnums=0)
    def run(state, q):
        def one(carry, _):
            state, q = carry
            o, state = lightning_attention_step(q, k, v, rate, state, implementation=name)
            return (state, q + 0 * o), None

        return jax.lax.scan(one, (state, q), None, length=count)[0]

    state, _ = run(jnp.zeros((batch, HEADS, WIDTH, WIDTH)), q)
    seconds = []
    for _ in range(7):
        start = time.perf_counter()
        state, _ = jax.block_until_ready(run(state, q))
        seconds.append(time.perf_counter() - start)
    return 1e3 * statistics.median(seconds) / count


def decode_rows(batches: tuple[int, ...]) -> list[timing.Row]:
    """Per batch: the compiler's step, our kernel's, the floor."""
    found = []
    for batch in batches:
        case = f"decode B{batch} H{HEADS} D{WIDTH}"
        floor = 2 * 4 * batch * HEADS * WIDTH**2 / lightning.copy_bytes_per_ms()
        times = {}
        for name in ("xla", "triton"):
            try:
                times[name] = _steps(name, batch)
            except Exception as error:  # noqa: BLE001 - without jax-triton there is one row less
                print(f"{name}: {str(error)[:150]}")
        auto = times.pop("xla")
        found.append(timing.Row(case, "step_ms", "ms", auto, "bytes floor", floor, floor / auto))
        found += [
            timing.Row(case, "step_ms", "ms", auto, f"{n} (ours)", ms, ms / auto)
            for n, ms in times.items()
        ]
    return found


def gate_rows() -> list[timing.Row]:
    """SRMSNorm times a gate over heads of 128, and its gradient, against bytes read and written."""
    shape = (TOKENS, HEADS * WIDTH)
    x, gate, d = (jax.random.normal(jax.random.key(i), shape, jnp.bfloat16) for i in range(3))

    def apply(x, gate):
        return norm.srms(x) * jax.nn.silu(gate)

    def both(x, gate, d):
        y, pull = jax.vjp(apply, x, gate)
        return y, *pull(d)

    found = []
    for name, run, given, arrays in (
        ("fwd", jax.jit(apply), (x, gate), 3),
        ("fwdbwd", jax.jit(both), (x, gate, d), 6),
    ):
        jax.block_until_ready(run(*given))
        seconds = []
        for _ in range(5):
            start = time.perf_counter()
            for _ in range(10):
                y = run(*given)
            jax.block_until_ready(y)
            seconds.append((time.perf_counter() - start) / 10)
        ms = 1e3 * statistics.median(seconds)
        floor = arrays * 2 * x.size / lightning.copy_bytes_per_ms()
        case = f"{name} SRMSNorm with gate, {TOKENS} x {HEADS * WIDTH}"
        found.append(timing.Row(case, f"{name}_ms", "ms", ms, "bytes floor", floor, floor / ms))
    return found


def rows(smoke: bool) -> list[timing.Row]:
    """The table; without a GPU there is nothing to time."""
    if jax.default_backend() != "gpu":
        print("lightning-decode: needs a GPU; nothing timed")
        return []
    return decode_rows((1,) if smoke else BATCHES) + gate_rows()


def main() -> None:
    """From the command line."""
    found = rows(False)
    print(timing.table(found))
    timing.write(sys.argv[1], found)


if __name__ == "__main__":
    main()

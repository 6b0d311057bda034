"""Lightning attention on a GPU, beside the best peers, and beside the least traffic with memory.

    python benchmarks/lightning.py OUT.json [full|quick|ours]

Needs an NVIDIA GPU. Peers are timed where they can be imported: jax-linear-attention's `simple_gla`
(the same recurrence, a decay per head), and plain jax (`implementation="xla"`). Each is checked
against float64 before it is timed; all get the same arrays, layout and dtype, and no scale.
"""

import functools
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "kernels")]

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

from jaxml.report import timing  # noqa: E402
from jaxml_kernels.lightning_attention import api, problem  # noqa: E402
from jaxml_kernels.lightning_attention.cases import Case, training  # noqa: E402
from tests.kernels.oracle import distance, quadratic  # noqa: E402

LENGTHS = (1024, 2048, 4096, 16_384, 32_768, 65_536, 131_072)
COPY_BYTES_PER_MS = 3.0e9
"""A copy on an H100, bytes read and written: a yardstick from elsewhere, not measured here."""

Attention = Callable[..., jax.Array]


def ours(name: str) -> Attention:
    """One implementation by name; inputs q, k, v, log decay."""

    def run(q, k, v, rate):
        return api.lightning_attention(q, k, v, rate, implementation=name)[0]

    return run


def peers() -> dict[str, Attention]:
    """What can be imported here, by name."""
    found = {"plain jax": ours("xla")}
    try:
        from jla.ops.mosaic_gpu.scalar_gate import simple_gla
    except ImportError:
        return found

    def gla(q, k, v, rate):
        gate = jnp.broadcast_to(rate, q.shape[:3]).astype(jnp.float32)
        return simple_gla(q, k, v, gate, scale=1.0)[0]

    return {"jax-linear-attention": gla, **found}


def with_gradient(attention: Attention) -> Callable[..., tuple[jax.Array, ...]]:
    """Outputs and the cotangents of q, k and v."""

    def run(q, k, v, rate, do):
        o, pull = jax.vjp(lambda q, k, v: attention(q, k, v, rate), q, k, v)
        return (o, *pull(do))

    return run


def errors(attention: Attention, case: Case) -> dict[str, float]:
    """Relative error against float64 of outputs and gradients."""
    q, k, v, rate = case.inputs(jax.random.key(0))
    do = jax.random.normal(jax.random.key(1), v.shape).astype(v.dtype)
    got = jax.jit(with_gradient(attention))(q, k, v, rate, do)
    zero = np.zeros((case.batch, case.num_heads, case.key_width, case.value_width))
    o, _, grads = quadratic(q, k, v, rate, wo=do, ws=zero)
    want = (o, grads["q"], grads["k"], grads["v"])
    return {n: distance(a, b) for n, a, b in zip("oqkv", got, want, strict=True)}


def milliseconds(call: Callable[[], object], repeats: int, inner: int) -> timing.Timing:
    """Per call, `inner` calls enqueued at a time so that the host is out of the measurement."""
    jax.block_until_ready(call())
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        for _ in range(inner):
            out = call()
        jax.block_until_ready(out)
        seconds.append((time.perf_counter() - start) / inner)
    return timing.Timing(tuple(seconds))


def floor_ms(case: Case, gradient: bool) -> float:
    """Bytes of q, k, v, o (and of do, dq, dk, dv, and q, k, v again) over the copy bandwidth."""
    tokens = case.batch * case.seq_len * case.num_heads * 2
    count = 2 * case.key_width + 2 * case.value_width
    if gradient:
        count += 4 * case.key_width + 3 * case.value_width
    return tokens * count / COPY_BYTES_PER_MS


def compare(
    case: Case, others: dict[str, Attention], repeats: int = 5, inner: int = 10
) -> list[timing.Row]:
    """Rows of one case: forward and forward with backward, against every peer and the floor."""
    q, k, v, rate = case.inputs(jax.random.key(2))
    do = jax.random.normal(jax.random.key(3), v.shape).astype(v.dtype)
    rows = []
    for gradient in (False, True):
        metric = "fwdbwd_ms" if gradient else "fwd_ms"
        name = f"{'fwdbwd' if gradient else 'fwd'} {case.name}"
        arrays = (q, k, v, rate, do) if gradient else (q, k, v, rate)
        times = {}
        for label, attention in {"jaxml": ours("auto"), **others}.items():
            run = jax.jit(with_gradient(attention) if gradient else attention)
            try:
                times[label] = milliseconds(functools.partial(run, *arrays), repeats, inner)
            except Exception as error:  # noqa: BLE001 - a peer that fails loses its row, not ours
                print(f"{label} failed on {name}: {str(error)[:200]}", flush=True)
        best = times.pop("jaxml")
        floor = floor_ms(case, gradient)
        rows.append(
            timing.Row(name, metric, "ms", 1e3 * best.median, "bytes floor", floor,
                       floor / (1e3 * best.median))
        )  # fmt: skip
        for label, found in times.items():
            goal = 1.5 if gradient and label == "jax-linear-attention" else None
            rows.append(timing.faster(name, metric, best, label, found, goal))
        print(timing.table(rows[-1 - len(times) :]), flush=True)
    return rows


def check(others: dict[str, Attention]) -> None:
    """Prints the error of everything that is timed; raises where ours is off."""
    for width in ((64, 64), (128, 128), (256, 128)):
        for seq_len in (129, 1023, 2048):
            case = Case(f"T{seq_len} {width}", 1, seq_len, 2, *width)
            for label, attention in {"jaxml": ours("auto"), **others}.items():
                try:
                    found = errors(attention, case)
                except Exception as error:  # noqa: BLE001
                    print(f"{case.name} {label}: {type(error).__name__} {str(error)[:150]}")
                    continue
                print(case.name, label, {n: f"{e:.1e}" for n, e in found.items()}, flush=True)
                if label == "jaxml" and max(found.values()) > 8e-3:
                    raise SystemExit(f"wrong at {case.name}: {found}")


def rows(
    smoke: bool, lengths: Sequence[int] = LENGTHS, with_peers: bool = True
) -> list[timing.Row]:
    """The table; without a GPU there is nothing to time."""
    if jax.default_backend() != "gpu":
        print("lightning: needs an NVIDIA GPU; nothing timed")
        return []
    others = peers() if with_peers else {}
    if with_peers:
        check(others)
    spec = problem.Problem(1, 2048, 16, 128, 128, "bfloat16", False, "gpu",
                           jax.devices()[0].device_kind)  # fmt: skip
    print([f"{v.name}: {v.reason or 'yes'}" for v in api.explain(spec)])
    found = []
    for width, heads in ((128, 16), (64, 32)):
        for n in lengths[:1] if smoke else lengths:
            keep = {k: f for k, f in others.items() if k != "plain jax" or n in (4096, 131_072)}
            found += compare(training(n, num_heads=heads, width=width), keep)
    return found


if __name__ == "__main__":
    words = sys.argv[1:]
    mode = words[1] if words[1:] else "full"
    chosen = {"full": LENGTHS, "quick": (1024, 32_768, 131_072), "ours": (1024, 4096, *LENGTHS[4:])}
    started = time.perf_counter()
    table = rows(False, chosen[mode], with_peers=mode != "ours")
    timing.write(words[0], table)
    gains = [r.ratio for r in table if r.peer == "jax-linear-attention" and r.ratio]
    if gains:
        print(f"geometric mean over jax-linear-attention: {statistics.geometric_mean(gains):.2f}")
    print(f"{time.perf_counter() - started:.0f} s")

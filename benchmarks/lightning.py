"""Lightning attention on a GPU, beside the best peers, and beside the least traffic with memory.

    python benchmarks/lightning.py OUT.json [full|quick|wide|ours|sweep] [NAME ...]

Needs an NVIDIA GPU. Peers are timed where they can be imported: jax-linear-attention's `simple_gla`
(the same recurrence, a decay per head), fla-core's `chunk_simple_gla`, the authors' lightning_attn,
cuDNN's softmax attention (another function, the yardstick of speed), plain jax and our Triton
kernel. What computes the same function is checked against float64 before it is timed; all get the
same arrays and dtype, and no scale. Names choose peers. The copy bandwidth is measured first.
"""

import functools
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "kernels")]

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

from benchmarks.peers import lightning_torch  # noqa: E402
from jaxml.report import timing  # noqa: E402
from jaxml_kernels.lightning_attention import api, problem  # noqa: E402
from jaxml_kernels.lightning_attention.cases import Case, training  # noqa: E402
from tests.kernels.oracle import distance, quadratic  # noqa: E402

LENGTHS = (1024, 2048, 4096, 16_384, 32_768, 65_536, 131_072)
SLOW = ("plain jax", "lightning_attn 2", "cuDNN softmax")
SLOW_LENGTHS = (1024, 4096, 16_384, 131_072)
OTHER_FUNCTION = ("cuDNN softmax",)
GOALS = {"jax-linear-attention": 1.5}
"""What forward with backward is asked to gain."""

Attention = Callable[..., jax.Array]


def ours(name: str) -> Attention:
    """One implementation by name; inputs q, k, v, log decay."""

    def run(q, k, v, rate):
        return api.lightning_attention(q, k, v, rate, implementation=name)[0]

    return run


def _simple_gla() -> Attention:
    from jla.ops.mosaic_gpu.scalar_gate import simple_gla  # pyright: ignore

    def run(q, k, v, rate):
        gate = jnp.broadcast_to(rate, q.shape[:3]).astype(jnp.float32)
        return simple_gla(q, k, v, gate, scale=1.0)[0]

    return run


def _softmax() -> Attention:
    def run(q, k, v, rate):
        del rate
        return jax.nn.dot_product_attention(q, k, v, is_causal=True, implementation="cudnn")

    return run


JAX_PEERS: dict[str, Callable[[], Attention]] = {
    "jax-linear-attention": _simple_gla,
    "Triton (ours)": lambda: ours("triton"),
    "plain jax": lambda: ours("xla"),
    "cuDNN softmax": _softmax,
}


class InJax:
    """One function of jax on one call: `run()` enqueues it, `wait()` waits.

    Args:
      attention: the function.
      shapes: of q, k, v, log decay and the cotangent; arrays serve too.
      gradient: whether its gradients are computed as well.
    """

    def __init__(self, attention: Attention, shapes: Sequence[Any], gradient: bool):
        def both(q, k, v, rate, do):
            o, pull = jax.vjp(lambda q, k, v: attention(q, k, v, rate), q, k, v)
            return (o, *pull(do))

        self.count = 5 if gradient else 4
        start = time.perf_counter()
        lowered = jax.jit(both if gradient else lambda *x: (attention(*x),)).lower(
            *shapes[: self.count]
        )
        self.compiled = lowered.compile()
        self.first_s = time.perf_counter() - start
        memory: Any = self.compiled.memory_analysis()
        self.memory_bytes = memory.temp_size_in_bytes + memory.output_size_in_bytes
        self.given: tuple[Any, ...] = ()
        self.last = None

    def on(self, arrays: Sequence[jax.Array]) -> "InJax":
        """Runs on these from now on."""
        self.given, self.last = tuple(arrays[: self.count]), None
        return self

    def run(self) -> Any:
        """Enqueues it."""
        self.last = self.compiled(*self.given)
        return self.last

    def wait(self) -> None:
        """Until the device is idle."""
        jax.block_until_ready(self.last)

    def results(self) -> list[np.ndarray]:
        """Outputs (and gradients) as NumPy."""
        return [np.asarray(x, np.float32) for x in self.run()]


def _in_jax(name: str) -> Attention:
    return ours("auto") if name == "jaxml" else JAX_PEERS[name]()


type Programs = dict[tuple[str, bool, str], Future[InJax]]


def compile_all(cases: Sequence[Case], names_of: Callable[[Case], list[str]]) -> Programs:
    """Programs of jax by case, gradient and name, compiled side by side before any is timed."""
    found: Programs = {}
    with ThreadPoolExecutor(os.cpu_count()) as many, ThreadPoolExecutor(1) as alone:
        for case in cases:
            shapes = jax.eval_shape(lambda case=case: arrays_of(case))
            for name in ("jaxml", *names_of(case)):
                if name in lightning_torch.PEERS:
                    continue
                pool = alone if "Triton" in name else many  # Triton's compiler is not for threads
                for gradient in (False, True):
                    found[case.name, gradient, name] = pool.submit(
                        InJax, _in_jax(name), shapes, gradient
                    )
    return found


def contestant(
    name: str, case: Case, arrays: tuple[jax.Array, ...], gradient: bool, programs: Programs
) -> Any:
    """The named one on these arrays; what did not compile beside others is tried alone."""
    if name in lightning_torch.PEERS:
        return lightning_torch.Contestant(name, arrays, gradient)
    ready = programs.pop((case.name, gradient, name))
    if ready.exception() is None:
        return ready.result().on(arrays)
    return InJax(_in_jax(name), arrays, gradient).on(arrays)


def arrays_of(case: Case) -> tuple[jax.Array, ...]:
    """Inputs q, k, v, log decay and the cotangent of the outputs."""
    q, k, v, rate = case.inputs(jax.random.key(2))
    return q, k, v, rate, jax.random.normal(jax.random.key(3), v.shape).astype(v.dtype)


def milliseconds(side: Any, repeats: int = 5, budget_s: float = 0.25) -> timing.Timing:
    """Per call, several enqueued at a time so that the host is out of the measurement."""
    side.run()
    side.wait()
    start = time.perf_counter()
    side.run()
    side.wait()
    inner = int(np.clip(budget_s / repeats / (time.perf_counter() - start), 2, 20))
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        for _ in range(inner):
            side.run()
        side.wait()
        seconds.append((time.perf_counter() - start) / inner)
    return timing.Timing(tuple(seconds))


@functools.cache
def copy_bytes_per_ms() -> float:
    """Bytes read and written by a copy of a gigabyte, the faster of two ways, measured here."""
    x = jnp.zeros((2**29,), jnp.bfloat16)
    return max(4 * x.size / _copy_ms(way, x) for way in (jax.jit(jnp.negative), jnp.copy))


def _copy_ms(way: Callable[[jax.Array], jax.Array], x: jax.Array) -> float:
    jax.block_until_ready(way(x))
    found = []
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(10):
            y = way(x)
        jax.block_until_ready(y)
        found.append((time.perf_counter() - start) / 10)
    return 1e3 * statistics.median(found)


def floor_ms(case: Case, gradient: bool) -> float:
    """Bytes of q, k, v, o (and of do, dq, dk, dv, and q, k, v again) over the copy bandwidth."""
    tokens = case.batch * case.seq_len * case.num_heads * 2
    count = 2 * case.key_width + 2 * case.value_width
    if gradient:
        count += 4 * case.key_width + 3 * case.value_width
    return tokens * count / copy_bytes_per_ms()


def compare(case: Case, names: list[str], programs: Programs) -> list[timing.Row]:
    """Rows of one case: time, memory and compiling, forward and forward with backward."""
    arrays, rows = arrays_of(case), []
    for gradient in (False, True):
        metric = "fwdbwd" if gradient else "fwd"
        label = f"{metric} {case.name}"
        found: dict[str, tuple[timing.Timing, float, float]] = {}
        for name in ("jaxml", *names):
            try:
                side = contestant(name, case, arrays, gradient, programs)
                found[name] = milliseconds(side), side.memory_bytes / 2**20, side.first_s
            except Exception as error:  # noqa: BLE001 - a peer that fails loses its row, not ours
                print(f"{name} failed on {label}: {str(error)[:200]}", flush=True)
            side = None
        best, memory, compiling = found.pop("jaxml")
        floor, ms = floor_ms(case, gradient), 1e3 * best.median
        more = [timing.Row(label, f"{metric}_ms", "ms", ms, "bytes floor", floor, floor / ms)]
        for name, (theirs, _, _) in found.items():
            goal = GOALS.get(name) if gradient else None
            more.append(timing.faster(label, f"{metric}_ms", best, name, theirs, goal))
        for name, (_, theirs, _) in found.items():
            more.append(
                timing.Row(label, "memory_mib", "MiB", memory, name, theirs, theirs / memory)
            )
        more.append(timing.Row(label, "compile_s", "s", compiling))
        more += [timing.Row(label, "compile_s", "s", compiling, n, f[2]) for n, f in found.items()]
        print(timing.table(more), flush=True)
        rows += more
    return rows


def check(names: list[str], widths: Iterable[tuple[int, int]]) -> None:
    """Prints the error of everything that is timed; raises where ours is off."""
    cases = [
        Case(f"T{seq_len} {width}", 1, seq_len, 2, *width)
        for width in sorted(widths)
        for seq_len in (129, 2048)
    ]
    names = [n for n in names if n not in OTHER_FUNCTION]
    programs = compile_all(cases, lambda _: names)
    for case in cases:
        q, k, v, rate, do = arrays = arrays_of(case)
        zero = np.zeros((case.batch, case.num_heads, case.key_width, case.value_width))
        o, _, grads = quadratic(q, k, v, rate, wo=do, ws=zero)
        for name in ("jaxml", *names):
            try:
                got = contestant(name, case, arrays, True, programs).results()
            except Exception as error:  # noqa: BLE001
                print(f"{case.name} {name}: {type(error).__name__} {str(error)[:150]}")
                continue
            want = (o, grads["q"], grads["k"], grads["v"])
            errors = [distance(a, b) for a, b in zip(got, want, strict=True)]
            shown = [f"{n} {e:.1e}" for n, e in zip("oqkv", errors, strict=True)]
            print(case.name, name, *shown, flush=True)
            if name == "jaxml" and max(errors) > 8e-3:
                raise SystemExit(f"wrong at {case.name}: {errors}")


def sweep_cases(limit_gib: float = 6.0) -> list[Case]:
    """Few to many heads in all, short to long, two widths; what fits."""
    found = []
    for width in (128, 64):
        for rows, heads in ((1, 8), (2, 16), (8, 16)):
            for n in (1024, 8192, 65_536, 524_288):
                case = Case(f"D{width} H{heads} N{n} B{rows}", rows, n, heads, width, width)
                if 8 * 2 * rows * n * heads * width <= limit_gib * 2**30:
                    found.append(case)
    return found


def named(chosen: list[str]) -> list[str]:
    """The peers that can be imported, or those asked for."""
    names = [*JAX_PEERS, *lightning_torch.available()]
    try:
        import jla  # noqa: F401  # pyright: ignore
    except ImportError:
        names.remove("jax-linear-attention")
    return [n for n in names if not chosen or n in chosen]


def cases_of(mode: str) -> list[Case]:
    """What a mode times."""
    if mode == "sweep":
        return sweep_cases()
    lengths = {
        "full": LENGTHS,
        "quick": (1024, 32_768, 131_072),
        "wide": SLOW_LENGTHS,
        "ours": (1024, 4096, *LENGTHS[4:]),
    }
    wide = [training(n, num_heads=16, width=128) for n in lengths[mode]]
    if mode == "wide":
        return wide
    narrow = lengths["quick" if mode == "full" else mode]
    return [*wide, *(training(n, num_heads=32, width=64) for n in narrow)]


def rows(
    smoke: bool, mode: str = "full", chosen: tuple[str, ...] = (), out: str | None = None
) -> list[timing.Row]:
    """The table, written case by case; without a GPU there is nothing to time."""
    if jax.default_backend() != "gpu":
        print("lightning: needs an NVIDIA GPU; nothing timed")
        return []
    names = [] if mode == "ours" else named(list(chosen))
    cases = cases_of(mode)[: 1 if smoke else None]
    if names and not smoke:
        check(names, {(case.key_width, case.value_width) for case in cases})
    kind = jax.devices()[0].device_kind
    spec = problem.Problem(1, 2048, 16, 128, 128, "bfloat16", False, "gpu", kind)
    print([f"{v.name}: {v.reason or 'yes'}" for v in api.explain(spec)])
    found = [timing.Row("copy of 1 GiB", "bandwidth", "TB/s", copy_bytes_per_ms() / 1e9)]

    def names_of(case: Case) -> list[str]:
        often = mode == "sweep" or case.seq_len in SLOW_LENGTHS
        here = [n for n in names if n not in SLOW or often]
        long = case.batch * case.seq_len > 131_072 or case.seq_len > 65_536
        return [n for n in here if n != "cuDNN softmax" or not long]

    programs = compile_all(cases, names_of)
    for case in cases:
        found += compare(case, names_of(case), programs)
        if out is not None:
            timing.write(out, found)
    return found


def main() -> None:
    """From the command line."""
    out, mode, *chosen = [*sys.argv[1:], *(["full"] if len(sys.argv) < 3 else [])]
    started = time.perf_counter()
    table = rows(False, mode, tuple(chosen), out)
    gains = [
        r.ratio
        for r in table
        if r.peer == "jax-linear-attention" and r.ratio and r.metric.endswith("_ms")
    ]
    if gains:
        print(f"geometric mean over jax-linear-attention: {statistics.geometric_mean(gains):.2f}")
    print(f"{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()

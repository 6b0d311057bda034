"""The engine on a corpus larger than its memory, and its time against the number of documents.

    python benchmarks/curate-scale.py limit OUT.json --gigabytes 10 --memory 2
    python benchmarks/curate-scale.py growth OUT.json --counts 10000 100000 1000000

A synthetic corpus is made from real documents: sentences of the corpus (or of Python's own texts)
drawn anew for each document; one document in ten is a near copy of an earlier one, one in twenty an
exact one. Each run is a process whose memory the kernel limits (RLIMIT_DATA: all it can write to).
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "kernels")]

from benchmarks.curate import texts  # noqa: E402
from jaxml.report import timing  # noqa: E402

PIPELINE = """
part_docs = 20000
part_bytes = 16777216
[[stage]]
kind = "empty"
[[stage]]
kind = "exact"
[[stage]]
kind = "minhash"
"""


def sentences() -> list[str]:
    """Lines of real documents, 40 to 400 characters long."""
    found = {
        line.strip() for text in texts(3000)[1] for line in text.splitlines() if len(line) >= 40
    }
    return sorted(line[:400] for line in found)


def make(folder: Path, num_docs: int, words: int = 250, seed: int = 0) -> int:
    """Writes JSON lines of about `6 words` bytes a document; returns the bytes."""
    pool, generator = sentences(), np.random.default_rng(seed)
    lengths = np.array([len(line.split()) for line in pool])
    lines, total = max(int(words / lengths.mean()), 1), 0
    folder.mkdir(parents=True, exist_ok=True)
    for begin in range(0, num_docs, 50_000):
        recent: list[str] = []
        path = folder / f"{begin // 50_000:05d}.jsonl"
        with path.open("w") as handle:
            for i in range(begin, min(begin + 50_000, num_docs)):
                kind = generator.random()
                if recent and kind < 0.05:
                    text = recent[int(generator.integers(len(recent)))]
                elif recent and kind < 0.15:
                    text = recent[int(generator.integers(len(recent)))] + " And one more."
                else:
                    text = "\n".join(pool[k] for k in generator.integers(len(pool), size=lines))
                if len(recent) < 2000:
                    recent.append(text)
                handle.write(json.dumps({"id": f"{i:09d}", "text": text}) + "\n")
        total += path.stat().st_size
    return total


def child(source: str, out: str, pipeline: str, memory: int) -> None:
    """One run under a limit of memory; prints what it did as JSON."""
    from jaxml.curate import engine
    from jaxml.curate import pipeline as pipelines

    if memory:
        resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    begun, cpu = time.monotonic(), time.process_time()
    report = engine.run(pipelines.load(pipeline), [source], out, say=lambda line: print(
        f"[{time.monotonic() - begun:7.1f} s] {line}", file=sys.stderr, flush=True))  # fmt: skip
    print(json.dumps({
        "seconds": time.monotonic() - begun, "cpu_seconds": time.process_time() - cpu,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "read": report.num_read, "written": report.num_written,
    }))  # fmt: skip


def run(source: Path, out: Path, memory: int = 0) -> dict:
    """The answer of `child` in a process of its own."""
    path = source.with_suffix(".toml")
    path.write_text(PIPELINE)
    env = {**os.environ, "XLA_FLAGS": "", "JAX_PLATFORMS": "cpu", "MALLOC_ARENA_MAX": "2"}
    words = [sys.executable, __file__, "child", str(source), str(out), str(path), str(memory)]
    done = subprocess.run(words, env=env, stdout=subprocess.PIPE, text=True, check=True)
    shutil.rmtree(out)
    return json.loads(done.stdout.splitlines()[-1])


def limit(scratch: Path, gigabytes: float, memory: float) -> list[timing.Row]:
    """A corpus of so many gigabytes under so much memory.

    A run that was stopped leaves its folder, and the same call goes on there; no time is told then.
    """
    num_docs = int(gigabytes * 1e9 / 1550)
    about, again = scratch / "corpus.json", (scratch / "out" / "_work").exists()
    if not about.exists():
        about.write_text(json.dumps(make(scratch / "corpus", num_docs)))
    size = json.loads(about.read_text())
    found = run(scratch / "corpus", scratch / "out", int(memory * (1 << 30)))
    case = f"{size / 1e9:.2f} GB, {found['read']:,} documents, {memory:g} GiB of memory"
    times = [
        timing.Row(case, "wall_s", "s", found["seconds"]),
        timing.Row(case, "mb_per_cpu_s", "MB/s", size / 1e6 / found["cpu_seconds"]),
    ]
    return [
        *([] if again else times),
        timing.Row(case, "peak_resident_mb", "MB", found["peak_mb"]),
        timing.Row(case, "written", "documents", found["written"]),
    ]


def growth(scratch: Path, counts: list[int]) -> list[timing.Row]:
    """Processor seconds per document; the ratio compares each size with the one before."""
    rows, before = [], None
    for num in counts:
        make(scratch / f"c{num}", num, words=60)
        found = run(scratch / f"c{num}", scratch / "out")
        shutil.rmtree(scratch / f"c{num}")
        each = 1e6 * found["cpu_seconds"] / num
        rows.append(timing.Row(
            f"{num:,} documents", "cpu_us_per_document", "us", each, "ten times fewer", before,
            None if before is None else before / each, None if before is None else 0.75,
        ))  # fmt: skip
        rows.append(timing.Row(f"{num:,} documents", "peak_resident_mb", "MB", found["peak_mb"]))
        before = each
    return rows


def rows(smoke: bool) -> list[timing.Row]:
    """Growth over three small sizes; the sizes of the issue take an hour, see above."""
    import tempfile

    with tempfile.TemporaryDirectory() as scratch:
        return growth(Path(scratch), [200, 400] if smoke else [1000, 10_000])


def main() -> None:
    """From the command line."""
    if sys.argv[1:2] == ["child"]:
        child(*sys.argv[2:5], int(sys.argv[5]))
        return
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("what", choices=("limit", "growth"))
    parser.add_argument("out", type=Path)
    parser.add_argument("--gigabytes", type=float, default=10.0)
    parser.add_argument("--memory", type=float, default=2.0, help="GiB")
    parser.add_argument("--counts", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--scratch", type=Path, default=Path("curate-scale.tmp"))
    args = parser.parse_args()
    free = shutil.disk_usage(args.scratch.parent).free / 1e9
    needed = 2.5 * args.gigabytes if args.what == "limit" else 3e-6 * max(args.counts)
    if free < needed:
        sys.exit(f"needs {needed:.0f} GB free beside {args.scratch}; there are {free:.0f}.")
    if args.what == "growth":
        shutil.rmtree(args.scratch, ignore_errors=True)
    args.scratch.mkdir(parents=True, exist_ok=True)
    if args.what == "limit":
        measured = limit(args.scratch, args.gigabytes, args.memory)
    else:
        measured = growth(args.scratch, args.counts)
    print(timing.table(measured))
    timing.write(args.out, measured)
    shutil.rmtree(args.scratch)


if __name__ == "__main__":
    main()

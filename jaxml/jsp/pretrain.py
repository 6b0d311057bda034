"""A long training from a bare command line: `python -m jaxml.jsp.pretrain FOLDER --minutes 8`.

Needs jax, numpy, optax and flax. Call it again with the same folder to go on.
"""

import argparse
import dataclasses
import gzip
import json
import shutil
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxml.core import files
from jaxml.jsp import evaluation, policy
from jaxml.jsp import train as training
from jaxml.jsp.benchmark import gap
from jaxml.jsp.config import PRESETS, SLIMConfig
from jaxml.jsp.instance import JSPInstance

_BEGUN = time.monotonic()
_SMALL = (30, 10)  # Lawrence's smaller shapes are padded to this one


def say(line: str) -> None:
    """Prints with the seconds since the start."""
    print(f"[{time.monotonic() - _BEGUN:6.1f} s] {line}", flush=True)


def instances_of(path: Path) -> list[JSPInstance]:
    """The Taillard, Lawrence and Demirkol instances of a benchmark file (gzipped JSON by name)."""
    table = json.loads(gzip.decompress(path.read_bytes()))
    return [
        JSPInstance(np.asarray(r["machines"]), np.asarray(r["durations"]), name, r["lb"], r["ub"])
        for name, r in table.items()
        if name.startswith(("ta", "la", "dmu"))
    ]


def _shape(instance: JSPInstance) -> tuple[int, int]:
    small = instance.num_jobs <= _SMALL[0] and instance.num_machines <= _SMALL[1]
    return _SMALL if small else instance.shape


def benchmark(
    params: Any, cfg: SLIMConfig, instances: list[JSPInstance], samples: int, until: float
) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """Rows of makespans and gaps, and the sequences that give them."""
    key = jax.random.key(12345)
    found = evaluation.evaluate(
        params, cfg.model, instances, key, samples, until=until, say=say, shape_of=_shape
    )
    shops, rows = {i.name: i for i in instances}, []
    for result in found:
        shop = shops[result.name]
        gaps = gap(result.greedy, shop), gap(result.best, shop)
        rows.append(
            {
                "name": result.name,
                "shape": list(shop.shape),
                "samples": samples,
                "ub": shop.ub,
                "greedy": result.greedy,
                "best": result.best,
                "greedy_gap": round(gaps[0], 4),
                "best_gap": round(gaps[1], 4),
                "seconds": round(result.seconds, 4),
            }
        )
    for prefix in ("ta", "la", "dmu"):
        part = [r for r in found if r.name.startswith(prefix)]
        if part:
            means = evaluation.mean_gaps(part, instances)
            say(f"{prefix}: {len(part)} instances, best of {samples}, mean gaps {means}")
    return rows, {f"{r.name}-{samples}": r.seq.astype(np.int8) for r in found}


def _write_benchmarks(args: argparse.Namespace, cfg: SLIMConfig, params: Any) -> None:
    instances, rows, sequences = instances_of(args.benchmarks), [], {}
    until = _BEGUN + 60 * args.total_minutes
    for samples in args.samples:
        more, seqs = benchmark(params, cfg, instances, samples, until)
        rows, sequences = rows + more, sequences | seqs
        files.write_text(args.folder / "benchmark.json", json.dumps(rows, indent=0) + "\n")
        with files.aside(args.folder / "sequences.npz") as part, part.open("wb") as handle:
            save: Any = np.savez_compressed  # its stub takes names for options
            save(handle, **sequences)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("folder", type=Path)
    add("--preset", default="h100", choices=sorted(PRESETS))
    add("--start", type=Path, help="a run.safetensors to go on from, with other settings maybe")
    add("--minutes", type=float, default=8.0, help="of training, compilation included")
    add("--plan-minutes", type=float, help="of all runs together, which the rate follows")
    add("--benchmarks", type=Path, help="a benchmark file to solve at the end")
    add("--samples", type=int, nargs="*", default=[128])
    add("--total-minutes", type=float, default=9.3, help="no shape is begun later than this")
    for field in ("batch", "num_samples", "num_steps", "eval_every", "eval_instances", "seed"):
        add(f"--{field.replace('_', '-')}", type=int)
    for field in ("lr", "final_lr"):
        add(f"--{field.replace('_', '-')}", type=float)
    add("--rollout-dtype", choices=("float32", "bfloat16"))
    return parser.parse_args()


def main() -> None:
    """Parses the flags, trains, evaluates."""
    args = _arguments()
    fields = [f.name for f in dataclasses.fields(SLIMConfig)]
    given = {f: getattr(args, f) for f in fields if getattr(args, f, None) is not None}
    cfg = dataclasses.replace(PRESETS[args.preset], **given)
    if args.start is not None and not (args.folder / "run.safetensors").exists():
        args.folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(args.start, args.folder / "run.safetensors")
    say(f"{jax.devices()}, jax {jax.__version__}")
    left = max(args.minutes - (time.monotonic() - _BEGUN) / 60, 0.01)
    plan = args.plan_minutes
    done = training.train(cfg, args.folder, minutes=left, plan_minutes=plan, say=say, log_every=50)
    say(f"{done.steps} updates in all, best validation gap to the lower bound {done.score:.3f} %")
    policy.save(args.folder / "best.safetensors", done.best, cfg.model)
    if args.benchmarks is not None:
        _write_benchmarks(args, cfg, done.best)
    (args.folder / ".lock").unlink(missing_ok=True)
    say("done")


if __name__ == "__main__":
    main()
